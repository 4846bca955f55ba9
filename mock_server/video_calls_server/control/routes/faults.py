"""Routes that list, add and remove the faults of a namespace."""

import msgspec
from litestar import Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.exceptions import ValidationException
from litestar.params import FromPath, JSONBody

from video_calls_server.api.errors import AnyRequest
from video_calls_server.control.faults.model import Fault, StoredFault, fault_error
from video_calls_server.control.namespaces import Namespace
from video_calls_server.control.refusals import ControlRefusal, not_found, on_refusal, on_validation


@get("/", summary="List the faults")
async def list_faults(namespace: NamedDependency[Namespace]) -> list[StoredFault]:
    """Return all faults in the order in which they act, with how often they have acted."""
    return list(namespace.faults)


@post("/", summary="Add a fault")
async def add_fault(namespace: NamedDependency[Namespace], data: JSONBody[Fault]) -> StoredFault:
    """Add a fault, which acts on matching requests after the existing faults."""
    return namespace.faults.add(data)


@delete("/{fault_id:int}", summary="Remove a fault")
async def remove_fault(namespace: NamedDependency[Namespace], fault_id: FromPath[int]) -> None:
    """Remove the fault with this id."""
    if not namespace.faults.remove(fault_id):
        raise not_found(f"fault {fault_id}")


@delete("/", summary="Remove all faults")
async def clear_faults(namespace: NamedDependency[Namespace]) -> None:
    """Remove all faults."""
    namespace.faults.replace()


def _on_validation(request: AnyRequest, error: ValidationException) -> Response[bytes]:
    """Return the response to an invalid fault, which names the field and what is allowed."""
    if not isinstance(error.__cause__, msgspec.ValidationError):
        return on_validation(request, error)
    fault = fault_error(error.__cause__)
    return on_refusal(request, ControlRefusal(str(fault), code="invalid", field=fault.field))


def faults_router() -> Router:
    """Return the operations on faults."""
    return Router(
        "/faults",
        route_handlers=[list_faults, add_fault, remove_fault, clear_faults],
        exception_handlers={ValidationException: _on_validation},
        tags=["faults"],
    )

"""The faults of a namespace, to list, add and remove."""

import msgspec
from litestar import Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.exceptions import ValidationException
from litestar.params import FromPath, JSONBody

from video_calls_server.api.errors import AnyRequest
from video_calls_server.control.faults.model import Fault, StoredFault, fault_error
from video_calls_server.control.namespaces import Namespace
from video_calls_server.control.refusals import ControlRefusal, not_found, on_control_error, on_validation


@get("/", summary="List the faults")
async def list_faults(namespace: NamedDependency[Namespace]) -> list[StoredFault]:
    """In the order in which they act, with how often they did; those that are done with too."""
    return list(namespace.faults)


@post("/", summary="Have something go wrong")
async def add_fault(namespace: NamedDependency[Namespace], data: JSONBody[Fault]) -> StoredFault:
    """On the requests that match, after the faults that are there already."""
    return namespace.faults.add(data)


@delete("/{fault_id:int}", summary="Remove a fault")
async def remove_fault(namespace: NamedDependency[Namespace], fault_id: FromPath[int]) -> None:
    """The others stay."""
    if not namespace.faults.remove(fault_id):
        raise not_found(f"fault {fault_id}")


@delete("/", summary="Remove all faults")
async def clear_faults(namespace: NamedDependency[Namespace]) -> None:
    """Nothing goes wrong any more."""
    namespace.faults.replace()


def _on_validation(request: AnyRequest, error: ValidationException) -> Response[bytes]:
    """The answer to a fault that cannot be, which names the field and what it may hold."""
    if not isinstance(error.__cause__, msgspec.ValidationError):
        return on_validation(request, error)
    wrong = fault_error(error.__cause__)
    return on_control_error(request, ControlRefusal(str(wrong), code="invalid", field=wrong.field))


def faults_router() -> Router:
    """The operations on faults."""
    return Router(
        "/faults",
        route_handlers=[list_faults, add_fault, remove_fault, clear_faults],
        exception_handlers={ValidationException: _on_validation},
        tags=["faults"],
    )

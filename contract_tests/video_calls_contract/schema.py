"""Responses held to the schemas of the contract, as strictly as the document is and no more.

A backend may describe people in more fields, and in longer texts, than the contract's own server does.
"""

import copy
from functools import cache
from typing import Any

import jsonschema_rs
import yaml
from video_calls_spec import openapi_path

from video_calls_contract.exchange import Exchange, NotJsonError

__all__ = ["complaints", "contract", "operations"]

_SUCCESS = {
    "listVideoCalls": (200, "VideoCallPage"),
    "createVideoCall": (201, "VideoCall"),
    "getVideoCall": (200, "VideoCall"),
    "joinVideoCall": (200, "JoinCredentials"),
    "endVideoCall": (200, "VideoCall"),
    "cancelVideoCall": (200, "VideoCall"),
}
_MOST = 3


@cache
def contract() -> dict[str, Any]:
    """`openapi.yaml`, read."""
    document: dict[str, Any] = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
    return document


def operations() -> tuple[str, ...]:
    """The ids of the contract's operations, in its order."""
    return tuple(_SUCCESS)


@cache
def _validator(name: str) -> Any:  # noqa: ANN401 (jsonschema_rs has a class for each draft)
    schemas: dict[str, Any] = copy.deepcopy(contract()["components"]["schemas"])
    # Our own server's extra field, which another backend may spell otherwise.
    del schemas["DoctorDetails"]["properties"]["specialization"]
    # Bounds of ours that the document does not know; Agora's own, on channel and token, stay.
    for schema, field in (("User", "email"), ("User", "full_name"), ("VideoCallPage", "next")):
        schemas[schema]["properties"][field].pop("maxLength", None)
    schemas["VideoCallPage"]["properties"]["previous"].pop("maxLength", None)
    schemas["VideoCallPage"]["properties"]["results"].pop("maxItems", None)
    # Whether a link is absolute is a rule of its own.
    for link in ("next", "previous"):
        schemas["VideoCallPage"]["properties"][link].pop("format", None)
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}, validate_formats=True
    )


def complaints(exchange: Exchange) -> list[str]:
    """What is wrong with the form of a successful answer."""
    status, name = _SUCCESS[exchange.operation or ""]
    if exchange.status != status:
        return [f"{status} on success; got {exchange.status}"]
    try:
        body = exchange.json
    except NotJsonError:
        return ["a JSON body"]
    media_type = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    found = [] if media_type == "application/json" else [f"Content-Type application/json; got {media_type!r}"]
    for error in _validator(name).iter_errors(body):
        where = ".".join(str(step) for step in error.instance_path)
        found.append(f"the body to have its documented form: {where or 'body'}: {error.message}")
        if len(found) >= _MOST:
            break
    return found

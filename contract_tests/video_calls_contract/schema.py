"""Responses held to the schemas of the contract, as strictly as the document is and no more.

A backend may describe people in more fields, and in longer texts, than the contract's own server does.
"""

import copy
from functools import cache
from typing import Any

import jsonschema_rs
import yaml
from video_calls_spec import RULES, openapi_path, resolved

from video_calls_contract.exchange import Exchange, NotJsonError

__all__ = ["contract", "operations", "problems"]

_MOST = 3


@cache
def contract() -> dict[str, Any]:
    """`openapi.yaml`, read."""
    document: dict[str, Any] = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
    return document


@cache
def _successes() -> dict[str, tuple[int, dict[str, Any]]]:
    """Status and schema of each operation's successful answer, by the operation's id."""
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for path in contract()["paths"].values():
        for method, operation in path.items():
            if method != "parameters":
                answers = operation["responses"]
                [status] = [status for status in answers if status.startswith("2")]
                content = resolved(contract(), answers[status])["content"]
                found[operation["operationId"]] = int(status), content["application/json"]["schema"]
    return found


def operations() -> tuple[str, ...]:
    """Return the ids of the contract's operations, in its order. Each has rules, which need no YAML."""
    return tuple(dict.fromkeys(rule.operation for rule in RULES.values() if rule.operation != "*"))


@cache
def _validator(operation: str) -> Any:  # noqa: ANN401 (jsonschema_rs has a class for each draft)
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
        _successes()[operation][1] | {"components": {"schemas": schemas}}, validate_formats=True
    )


def problems(exchange: Exchange) -> list[str]:
    """What is wrong with the form of a successful answer."""
    operation = exchange.operation or ""
    status, _ = _successes()[operation]
    if exchange.status != status:
        return [f"{status} on success; got {exchange.answer}"]
    try:
        body = exchange.json
    except NotJsonError:
        return [f"a JSON body; {exchange.unread}" if exchange.unread else "a JSON body"]
    media_type = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    found = [] if media_type == "application/json" else [f"Content-Type application/json; got {media_type!r}"]
    for error in _validator(operation).iter_errors(body):
        where = ".".join(str(step) for step in error.instance_path)
        found.append(f"the body to have its documented form: {where or 'body'}: {error.message}")
        if len(found) >= _MOST:
            break
    return found

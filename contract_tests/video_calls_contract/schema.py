"""Checks responses against the schemas of the contract, which it relaxes to what the document requires.

For example, a backend may describe users with more fields and longer texts than the reference server.
"""

import copy
from functools import cache
from typing import Any

import jsonschema_rs
import yaml
from video_calls_spec import RULES, openapi_path, resolved

from video_calls_contract.exchange import Exchange, NotJsonError

_MOST_ERRORS = 3


@cache
def contract() -> dict[str, Any]:
    """Return the content of `openapi.yaml`."""
    document: dict[str, Any] = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
    return document


@cache
def _successes() -> dict[str, tuple[int, dict[str, Any]]]:
    """Return the status and the schema of the successful response, by operation id."""
    successes: dict[str, tuple[int, dict[str, Any]]] = {}
    for path in contract()["paths"].values():
        for method, operation in path.items():
            if method != "parameters":
                responses = operation["responses"]
                [status] = [status for status in responses if status.startswith("2")]
                content = resolved(contract(), responses[status])["content"]
                successes[operation["operationId"]] = int(status), content["application/json"]["schema"]
    return successes


def operations() -> tuple[str, ...]:
    """Return the operation ids in the order of the contract; from `RULES`, because YAML is slow."""
    return tuple(dict.fromkeys(rule.operation for rule in RULES.values() if rule.operation != "*"))


@cache
def _validator(operation: str) -> Any:  # noqa: ANN401 (jsonschema_rs has a class for each draft)
    schemas: dict[str, Any] = copy.deepcopy(contract()["components"]["schemas"])
    # This field is an extra of the reference server; another backend may define it differently.
    del schemas["DoctorDetails"]["properties"]["specialization"]
    # The document has no such limits. Agora's limits on channel and token stay.
    for schema, field in (("User", "email"), ("User", "full_name"), ("VideoCallPage", "next")):
        schemas[schema]["properties"][field].pop("maxLength", None)
    schemas["VideoCallPage"]["properties"]["previous"].pop("maxLength", None)
    schemas["VideoCallPage"]["properties"]["results"].pop("maxItems", None)
    # `list.pages` checks whether links are absolute.
    for link in ("next", "previous"):
        schemas["VideoCallPage"]["properties"][link].pop("format", None)
    return jsonschema_rs.Draft202012Validator(
        _successes()[operation][1] | {"components": {"schemas": schemas}}, validate_formats=True
    )


def problems(exchange: Exchange) -> list[str]:
    """Return the violations of the schema in a successful response, as texts."""
    operation = exchange.operation or ""
    status, _ = _successes()[operation]
    if exchange.status != status:
        return [f"{status} on success; got {exchange.status_text}"]
    try:
        body = exchange.json
    except NotJsonError:
        return [f"a JSON body; {exchange.unread}" if exchange.unread else "a JSON body"]
    media_type = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    texts = [] if media_type == "application/json" else [f"Content-Type application/json; got {media_type!r}"]
    for error in _validator(operation).iter_errors(body):
        where = ".".join(str(step) for step in error.instance_path)
        texts.append(f"the body to have its documented form: {where or 'body'}: {error.message}")
        if len(texts) >= _MOST_ERRORS:
            break
    return texts

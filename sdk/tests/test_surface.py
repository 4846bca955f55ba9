"""The SDK's public surface matches the contract's operations and the documentation."""

import inspect
import re
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import video_calls_sdk
import yaml
from video_calls_sdk import _errors
from video_calls_spec import RULES, openapi_path, resolved

CONTRACT: dict[str, Any] = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
TYPES = {"integer": int, "string": str, "date-time": datetime}
ID = {"$ref": "#/components/schemas/Id"}
ROOT = Path(__file__).resolve().parents[2]


def kind_of(schema: dict[str, Any]) -> Any:
    """Return the Python type of a parameter or a field."""
    if ID.items() <= schema.items():
        return video_calls_sdk.Id
    return TYPES[schema["format"] if schema.get("format") in TYPES else schema["type"]]


def operations() -> dict[str, tuple[dict[str, tuple[Any, bool]], str]]:
    """Return for each method its parameters (type, and whether required) and the schema of its success."""
    methods = {}
    for item in CONTRACT["paths"].values():
        for method, operation in item.items():
            if method == "parameters":
                continue
            parameters = {}
            for reference in [*item.get("parameters", []), *operation.get("parameters", [])]:
                parameter = resolved(CONTRACT, reference)
                name = parameter["name"].lower().replace("-", "_")
                kind = kind_of(parameter["schema"])
                parameters[name] = (kind, parameter.get("required", False))
            if "requestBody" in operation:
                schema = resolved(CONTRACT, operation["requestBody"]["content"]["application/json"]["schema"])
                for name, field in schema["properties"].items():
                    parameters[name] = (kind_of(field), name in schema["required"])
            success = operation["responses"].get("200") or operation["responses"]["201"]
            schema_name = success["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            methods[re.sub("VideoCalls?$", "", operation["operationId"])] = (parameters, schema_name)
    return methods


PLAIN = {
    video_calls_sdk.Calls: {"VideoCallPage": video_calls_sdk.CallPage},
    video_calls_sdk.AsyncCalls: {"VideoCallPage": video_calls_sdk.AsyncCallList},
}
WITH_RESPONSE = [video_calls_sdk.CallsWithResponse, video_calls_sdk.AsyncCallsWithResponse]


def methods(resource: type) -> dict[str, Any]:
    return {
        name: method
        for name, method in inspect.getmembers(resource, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("resource", [*PLAIN, *WITH_RESPONSE], ids=lambda resource: resource.__name__)
def test_client_methods_match_contract_operations(resource: type) -> None:
    assert set(methods(resource)) == set(operations())


@pytest.mark.parametrize("resource", [*PLAIN, *WITH_RESPONSE], ids=lambda resource: resource.__name__)
@pytest.mark.parametrize("name", operations())
def test_method_signature_matches_its_operation(resource: type, name: str) -> None:
    method = methods(resource)[name]
    parameters, schema = operations()[name]
    hints = get_type_hints(method)
    answer = getattr(video_calls_sdk, schema)
    expected = (
        PLAIN[resource].get(schema, answer) if resource in PLAIN else video_calls_sdk.APIResponse[answer]
    )
    assert hints.pop("return") == expected
    assert hints == {key: kind if required else kind | None for key, (kind, required) in parameters.items()}
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(method).parameters.items()
        if key != "self"
    }
    assert defaults == {
        key: inspect.Parameter.empty if required else None for key, (_, required) in parameters.items()
    }


def test_exports_are_the_public_names() -> None:
    public = {
        name
        for name, value in vars(video_calls_sdk).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("video_calls_sdk")
    }
    assert public <= set(video_calls_sdk.__all__)
    assert all(hasattr(video_calls_sdk, name) for name in video_calls_sdk.__all__)
    assert video_calls_sdk.__all__ == sorted(video_calls_sdk.__all__)


ERRORS = {
    name: value
    for name, value in vars(_errors).items()
    if inspect.isclass(value) and issubclass(value, _errors.VideoCallsError)
}
TREE = re.findall(r"^([ │├└─]*)(\w+Error|VideoCallsError)\b(.*)", inspect.getdoc(_errors) or "", re.MULTILINE)


def test_error_tree_in_docstring_matches_classes() -> None:
    parents: list[str] = []
    tree = {}
    for indent, name, _ in TREE:
        depth = len(indent) // 4 - 1
        parents[depth:] = [name]
        tree[name] = parents[depth - 1] if depth else "Exception"
    assert tree == {name: error.__bases__[0].__name__ for name, error in ERRORS.items()}
    assert set(tree) <= set(video_calls_sdk.__all__)


def test_error_tree_has_the_rules_of_each_class() -> None:
    tree = {slug: name for _, name, meaning in TREE for slug in re.findall(r"[a-z*]+\.[a-z-]+", meaning)}
    assert tree == {slug: error.__name__ for slug, error in _errors._BY_RULE.items()}


@pytest.mark.parametrize("pattern", _errors._BY_RULE)
def test_rules_of_error_class_have_its_status(pattern: str) -> None:
    rules = [rule for rule in RULES.values() if fnmatchcase(rule.id, pattern)]
    assert rules
    for rule in rules:
        error = _errors.class_for(rule.status, rule.id)
        assert error is _errors._BY_RULE[pattern]
        assert issubclass(error, _errors.class_for(rule.status, None))

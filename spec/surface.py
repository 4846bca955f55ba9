"""What others build upon, as a record: contract, Python names, commands, settings, what pytest is given.

`spec/released.json` holds the record of the last release; `nox -s release_record` writes it. A test compares
it with the tree and asks the changelog for every difference, so that nothing changes for others without their
being told. Each thing has an identifier, under which the changelog names it, and a line that says what it is.
A line that begins with "to be given" is of an input that nobody can leave out.
"""

import ast
import enum
import inspect
import json
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import pytest
import video_calls.testing
import yaml
from video_calls_contract import plugin
from video_calls_server import Settings
from video_calls_server.settings import environment_variable, setting_fields
from video_calls_spec import RuleId, resolved

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "spec/released.json"
CHANGELOG = ROOT / "CHANGELOG.md"
MODULES = (
    "video_calls",
    "video_calls.agora",
    "video_calls.testing",
    "video_calls_server",
    "video_calls_server.testing",
    "video_calls_spec",
)
OWN = {"video_calls", "video_calls_server", "video_calls_contract", "video_calls_spec"}
COMMANDS = ("video_calls_server", "video_calls_contract")
REQUIRED = "to be given"
OPTIONAL = "may be given"
OF_PYDANTIC = {"model_computed_fields", "model_config", "model_fields"}
PLAIN: dict[Any, str] = {NoneType: "None", None: "None", ...: "...", inspect.Parameter.empty: "anything"}
pytest_fixture = type(video_calls.testing.video_calls_server)

ADVICE = (
    "See CONTRIBUTING.md, Releases. A release that nobody has yet is recorded anew: `nox -s release_record`."
)

Record = dict[str, dict[str, str]]
"""Identifiers with their lines, by what kind of thing they are."""


def surface() -> Record:
    """The record of the tree as it is."""
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    parts = {
        "contract": of_contract(contract),
        "rules": of_rules(contract["x-rules"]),
        "python": (line for module in MODULES for line in of_module(module)),
        "commands": (line for package in COMMANDS for line in of_command(package)),
        "settings": of_settings(),
        "pytest": of_pytest(),
    }
    return {name: dict(sorted(lines)) for name, lines in parts.items()}


# -- The contract -------------------------------------------------------------------------------------


def of_contract(contract: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Operations with what they take and answer; events; schemas with their fields."""
    for path, item in contract["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield operation["operationId"], f"{method.upper()} {path}"
                shared = item.get("parameters", [])
                yield from of_inputs(contract, operation, [*shared, *operation.get("parameters", [])])
                yield from of_answers(contract, operation)
    for name, item in contract["webhooks"].items():
        yield name, described(json_in(item["post"]["requestBody"]))
    for name, schema in contract["components"]["schemas"].items():
        yield name, schema["type"]
        yield from ((f"{name}.{value}", "a value") for value in schema.get("enum", ()))
        there = (REQUIRED, OPTIONAL) if name in bodies(contract) else ("always there", "not always there")
        for field, value in schema.get("properties", {}).items():
            needed = field in schema.get("required", ())
            yield f"{name}.{field}", f"{there[0] if needed else there[1]}, {described(value)}"


def of_inputs(
    contract: dict[str, Any], operation: dict[str, Any], parameters: list[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """The parameters and the body of an operation."""
    name = operation["operationId"]
    for parameter in (resolved(contract, each) for each in parameters):
        given = REQUIRED if parameter.get("required") else OPTIONAL
        line = f"{given}, in {parameter['in']}, {described(parameter['schema'])}"
        yield f"{name}({parameter['name']})", line
    if "requestBody" in operation:
        yield f"{name}(body)", f"{REQUIRED}, {described(json_in(operation['requestBody']))}"


def of_answers(contract: dict[str, Any], operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The statuses of an operation, with what comes in body and headers."""
    for status, reference in operation["responses"].items():
        answer = resolved(contract, reference)
        identifier = f"{operation['operationId']} {status}"
        yield identifier, described(json_in(answer))
        for header, value in answer.get("headers", {}).items():
            yield f"{identifier} {header}", described(resolved(contract, value)["schema"])


def bodies(contract: dict[str, Any]) -> set[str]:
    """The schemas that clients send."""
    operations = [
        each for item in contract["paths"].values() for each in item.values() if "requestBody" in each
    ]
    return {described(json_in(operation["requestBody"])) for operation in operations}


def json_in(node: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body."""
    schema: dict[str, Any] = node["content"]["application/json"]["schema"]
    return schema


def described(schema: dict[str, Any]) -> str:
    """What a schema asks of a value, without words for people."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    for_people = {"description", "example", "examples"}
    return ", ".join(
        f"{name} {json.dumps(asked(name, value))}"
        for name, value in sorted(schema.items())
        if name not in for_people
    )


def asked(keyword: str, value: Any) -> Any:  # noqa: ANN401 (what JSON can hold)
    """What a keyword of a schema asks, with each schema in it described."""
    if keyword == "properties":
        return {name: described(schema) for name, schema in value.items()}
    if keyword in {"allOf", "anyOf", "oneOf", "prefixItems"}:
        return [described(schema) for schema in value]
    return described(value) if isinstance(value, dict) else value


def of_rules(rules: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The catalogue: how strong a rule is, what it is about, and how a violation is answered."""
    for rule in rules:
        error = f", {rule['error']}" if rule.get("error") else ""
        yield rule["id"], f"{rule['level']}, {rule['operation']}, {rule['status']}{error}"


# -- Python -------------------------------------------------------------------------------------------


def of_module(module: str) -> Iterator[tuple[str, str]]:
    """The names that a module exports, with what belongs to them."""
    exporting = import_module(module)
    for name in exporting.__all__:
        value = getattr(exporting, name)
        identifier = f"{module}.{name}"
        if value is Settings or isinstance(value, pytest_fixture):
            continue  # their own parts of the record tell of them
        if inspect.isclass(value):
            bases = ", ".join(base.__name__ for base in value.__bases__ if base in public())
            yield identifier, f"class({bases})" if bases else "class"
            yield from of_class(identifier, value)
        elif inspect.isfunction(value):
            yield from of_function(identifier, value)
        else:
            yield identifier, kind(value if get_origin(value) else type(value))


def of_class(identifier: str, value: type) -> Iterator[tuple[str, str]]:
    """Attributes, methods and, where their arguments are documented, those of the constructor."""
    if issubclass(value, enum.Enum):
        yield from ((f"{identifier}.{member.name}", repr(member.value)) for member in value)
        return
    if "Args:" in (value.__doc__ or ""):
        yield from of_parameters(identifier, value.__init__)
    members: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for each in value.__mro__:
        if each is value or (each.__module__.partition(".")[0] in OWN and each not in public()):
            attributes = assigned(each) | inspect.get_annotations(each) | attributes
            members = dict(vars(each)) | members
    defaults = {each.name: default(each.default) for each in fields(value)} if is_dataclass(value) else {}
    for name, annotation in attributes.items():
        if not name.startswith("_") and name not in OF_PYDANTIC:
            yield f"{identifier}.{name}", kind(annotation) + defaults.get(name, "")
    for name, member in members.items():
        if not name.startswith("_") and name not in attributes and name not in OF_PYDANTIC:
            yield from of_member(f"{identifier}.{name}", member)


def of_member(identifier: str, member: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 (of a class)
    """A method, a property or a value."""
    function = getattr(member, "__func__", member)  # of a class method or a static one
    if inspect.isfunction(function):
        yield from of_function(identifier, function)
        return
    read = getattr(member, "fget", None) or getattr(member, "func", None)  # of a property, cached or not
    yield identifier, kind(inspect.signature(read).return_annotation) if read else "a value"


@cache
def public() -> set[type]:
    """The exported classes, each of which tells of its own members; those that inherit from it need not."""
    exported = (getattr(module, name) for module in map(import_module, MODULES) for name in module.__all__)
    return {value for value in exported if inspect.isclass(value)}


def assigned(value: type) -> dict[str, Any]:
    """The attributes that a class's own constructor sets, by name."""
    own = vars(value).get("__init__")
    if not inspect.isfunction(own) or own.__code__.co_filename == "<string>":  # a dataclass's has no source
        return {}
    return {
        node.attr: "an attribute"
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(own))))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


def of_function(identifier: str, value: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """What it returns and what it takes."""
    awaited = "async " if inspect.iscoroutinefunction(value) else ""
    yield identifier, f"{awaited}-> {kind(inspect.signature(value).return_annotation)}"
    yield from of_parameters(identifier, value)


def of_parameters(identifier: str, value: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Its parameters; the place of one counts where it may be given by place."""
    for place, parameter in enumerate(inspect.signature(value).parameters.values()):
        if parameter.name == "self" or parameter.name.startswith("_"):
            continue
        value_of_default = default(parameter.default)
        several = parameter.kind in {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        given = OPTIONAL if value_of_default or several else REQUIRED
        where = "by name" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else f"at {place}"
        line = f"{given}, {where}, {kind(parameter.annotation)}{value_of_default}"
        yield f"{identifier}({parameter.name})", line


def default(value: object) -> str:
    """How a default is told, where there is one."""
    return "" if value is inspect.Parameter.empty or value is MISSING else f" = {value!r}"


def kind(annotation: Any) -> str:  # noqa: ANN401 (annotations have no common type)
    """An annotation in words that do not depend on the version of Python."""
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{', '.join(map(kind, annotation))}]"
    if annotation == RuleId:  # each of which is told as a rule
        return "RuleId"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        return PLAIN.get(annotation) or str(getattr(annotation, "__name__", annotation))
    if origin is Annotated:
        return kind(arguments[0])
    within = list(map(repr if origin is Literal else kind, arguments))
    return " | ".join(within) if origin in {Union, UnionType} else f"{kind(origin)}[{', '.join(within)}]"


# -- Commands, settings, pytest's options --------------------------------------------------------------


def of_command(package: str) -> Iterator[tuple[str, str]]:
    """Subcommands with what they take. Settings are the same for all, and told once."""
    name = package.replace("_", "-")
    main: click.Group = import_module(f"{package}.__main__").main
    settings = {option for option, _ in of_settings()}
    for subcommand, command in main.commands.items():
        yield f"{name} {subcommand}", "a command"
        for parameter in command.params:
            option = max(parameter.opts, key=len) if isinstance(parameter, click.Option) else ""
            if option in settings:
                continue
            what = option or (parameter.name or "").upper()
            given = REQUIRED if parameter.required else OPTIONAL
            yield f"{name} {subcommand} {what}", f"{given}, {taken(parameter)}"


def taken(parameter: click.Parameter) -> str:
    """What an option or argument takes."""
    choices = getattr(parameter.type, "choices", None)
    words = [" or ".join(choices) if choices else parameter.type.name]
    words += ["repeatable"] if parameter.multiple else []
    words += [f"also {parameter.envvar}"] if parameter.envvar else []
    if isinstance(parameter.default, str | int | float | Path) and not isinstance(parameter.default, bool):
        words.append(f"by default {parameter.default}")
    return ", ".join(words)


def of_settings() -> Iterator[tuple[str, str]]:
    """The server's settings, with option, variable, field, type and default; and the SDK's variables."""
    for path in (ROOT / "sdk/video_calls").glob("*.py"):
        for variable in re.findall(r'environ.get\("(\w+)"\)', path.read_text(encoding="utf-8")):
            yield variable, "a variable of the SDK"
    for field in setting_fields():
        yield (
            f"--{field.name.replace('_', '-')}",
            f"{environment_variable(field)}, Settings.{field.name}: {kind(field.type)} = {field.default!r}",
        )


def of_pytest() -> Iterator[tuple[str, str]]:
    """The options that the suite's plugin adds, and the fixtures of `video_calls.testing`."""
    parser = pytest.Parser(_ispytest=True)
    plugin.pytest_addoption(parser)
    for group in parser._groups:  # noqa: SLF001 (pytest tells it in no other way)
        for option in group.options:
            given = option.attrs()
            choices = " or ".join(given.get("choices") or ()) or "a value"
            yield option.names()[0], f"{choices}, by default {given.get('default')}"
    for name in video_calls.testing.__all__:
        fixture = getattr(video_calls.testing, name)
        if isinstance(fixture, pytest_fixture):
            made = inspect.signature(fixture._get_wrapped_function()).return_annotation  # noqa: SLF001 (as above)
            yield name, f"a fixture, {kind(made)}"


# -- What is different --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Something that was added, removed or changed since the last release."""

    identifier: str
    happened: Literal["added", "removed", "changed"]
    before: str = ""
    now: str = ""

    @property
    def breaks(self) -> bool:
        """Whether what was built upon the last release may stop to work."""
        return self.happened != "added" or self.now.startswith(REQUIRED)

    def covers(self, other: "Difference") -> bool:
        """Whether who is told of this is told of the other: a class's member, an operation's parameter."""
        belongs = other.identifier.startswith(tuple(self.identifier + sign for sign in ".( "))
        return belongs and self.happened == other.happened != "changed"


def differences(before: Record, now: Record) -> list[Difference]:
    """All between two records, but for those that another covers."""
    found = [
        difference
        for part in sorted({*before, *now})
        for difference in compared(before.get(part, {}), now.get(part, {}))
    ]
    return [each for each in found if not any(other.covers(each) for other in found)]


def compared(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Difference]:
    """The differences within one part."""
    for name in sorted({*before, *now}):
        if name not in before:
            yield Difference(name, "added", now=now[name])
        elif name not in now:
            yield Difference(name, "removed", before=before[name])
        elif before[name] != now[name]:
            yield Difference(name, "changed", before[name], now[name])


def untold(found: Iterable[Difference], changelog: str) -> list[str]:
    """What the changelog has to say yet: a message for each difference that "Unreleased" does not name."""
    unreleased = section(changelog, "## ", "Unreleased")
    breaking = section(unreleased, "### ", "Breaking")
    return [
        message(each)
        for each in found
        if f"`{each.identifier}`" not in (breaking if each.breaks else unreleased)
    ]


def section(text: str, rank: str, heading: str) -> str:
    """What stands under a heading of this rank."""
    found = re.search(rf"^{rank}{heading}\n(.*?)(?=^{rank}|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def message(difference: Difference) -> str:
    """What happened, and what to write where."""
    happened = {
        "added": f"is new: {difference.now}",
        "removed": f"is gone; it was: {difference.before}",
        "changed": f"was: {difference.before}; is: {difference.now}",
    }[difference.happened]
    place = "Unreleased, Breaking" if difference.breaks else "Unreleased"
    return f"`{difference.identifier}` {happened}. Name it in CHANGELOG.md under {place}, in backticks."


def released() -> tuple[str, Record]:
    """The version of the last release, and its record."""
    kept = json.loads(RECORD.read_text(encoding="utf-8"))
    return kept["version"], kept["surface"]


def main() -> int:
    """Write the record of the tree as that of the version which pyproject.toml names."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    record = {"version": version, "surface": surface()}
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {RECORD.relative_to(ROOT)}: version {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

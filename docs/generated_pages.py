"""What pages show of the contract, the settings and the commands, made from themselves at every build.

A line `{{ name }}` of a page becomes what the function `name` of `GENERATED` returns, as Markdown.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from enum import Enum
from typing import Any

import click
import video_calls_sdk
import yaml
from pydantic import BaseModel
from sphinx.application import Sphinx
from video_calls_contract import __main__ as contract_command
from video_calls_contract.catalogue import AREAS
from video_calls_contract.config import TEMPLATE
from video_calls_sdk import Retries, VideoCallsClient, VideoCallsError, _errors
from video_calls_server import __main__ as server_command
from video_calls_server.settings import environment_variable, setting_fields
from video_calls_spec import RULES, Rule, openapi_path, resolved

CONTRACT: dict[str, Any] = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
WIDTH = 100  # characters of a command's help
MARKER = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)
ELSEWHERE = "The tables of this page are on the built site (`nox -s docs`).\n\n"
"""What a page says to those who read it where it is not built."""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def block(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


# -- The contract -------------------------------------------------------------------------------------


def slug_target(slug: str) -> str:
    """The name of a rule's place on its page."""
    return f"rule-{slug.replace('.', '-')}"


def linked_rule(slug: str) -> str:
    """A rule's slug as a link to it."""
    return f"[`{slug}`](#{slug_target(slug)})"


def linked_error(error: type[Exception]) -> str:
    """An exception of the SDK as a link to it."""
    return f"{{py:exc}}`~video_calls_sdk.{error.__name__}`"


def rule_catalogue() -> str:
    """Every rule, under the part of the API that it is about."""
    areas = {area: [rule for rule in RULES.values() if rule.id.startswith(f"{area}.")] for area in AREAS}
    text = [f"{len(RULES)} rules: {' · '.join(f'[{area}](#rules-{area})' for area in areas if areas[area])}."]
    for area, rules in areas.items():
        if rules:
            text += [f"(rules-{area})=\n## {area}", *map(_rule, rules)]
    return "\n\n".join(text)


def _rule(rule: Rule) -> str:
    operation = (
        "every operation" if rule.operation == "*" else f"[`{rule.operation}`](#operation-{rule.operation})"
    )
    facts = [f"**{rule.level}**", operation, f"{rule.status}"]
    if rule.error:
        facts.append(f"“{rule.error}”")
    if rule.section == "Extensions":
        source = f"> {rule.statement}\n>\n> — beyond the document"
    else:
        place = f"video-calls-api.md#{_anchor(rule.section)}"
        source = f"> {_quoted(rule.statement)}\n>\n> — [{rule.section}]({place})"
    return f"({slug_target(rule.id)})=\n### {rule.id}\n\n{' · '.join(facts)}\n\n{rule.summary}\n\n{source}"


def _quoted(statement: str) -> str:
    """A line of the document as a quotation: of its code and its headings, as code."""
    if statement.startswith(("#", '"', "AGORA_", "GET ", "Content-Type")):
        return f"`{statement}`"
    return statement


def _anchor(heading: str) -> str:
    """Where GitHub, and MyST after it, puts a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def error_statuses() -> str:
    """The refusals by status: kinds and rules, their texts, and what the SDK raises."""
    kinds: dict[int, dict[str, str]] = {}
    for path in CONTRACT["paths"].values():
        for method, operation in path.items():
            if method != "parameters":
                for status, answer in operation["responses"].items():
                    for example in _examples(answer):
                        if "error" in example:
                            kinds.setdefault(int(status), {})[example["code"]] = example["error"]
    for rule in RULES.values():
        if rule.error:
            kinds.setdefault(rule.status, {})[rule.id] = rule.error
    text: list[str] = []
    for status in sorted(kinds):
        rows = [
            (
                f"{linked_rule(code) if code in RULES else f'`{code}`'}<br>{error}",
                linked_error(_errors.class_for(status, code if code in RULES else None)),  # type: ignore[arg-type]
            )
            for code, error in sorted(kinds[status].items(), key=lambda kind: _position(kind[0]))
        ]
        text += [f"## {status}", table(("`code` and `error`", "the SDK raises"), rows)]
    return "\n\n".join(text)


def _position(code: str) -> int:
    return list(RULES).index(code) if code in RULES else len(RULES)  # type: ignore[arg-type]


def _examples(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for content in resolved(CONTRACT, answer).get("content", {}).values():
        for example in content["examples"].values():
            yield resolved(CONTRACT, example)["value"]


def operations() -> str:
    """The operations: what they take and what they answer."""
    text: list[str] = []
    for path, item in CONTRACT["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                text += _operation(method.upper(), path, operation, item.get("parameters", []))
    return "\n\n".join(text)


def _operation(method: str, path: str, operation: dict[str, Any], shared: list[Any]) -> list[str]:
    name = operation["operationId"]
    text = [
        f"(operation-{name})=\n## {operation['summary']}",
        f"`{method} {path}` · `{name}`",
        operation["description"],
    ]
    taken = [resolved(CONTRACT, each) for each in [*shared, *operation.get("parameters", [])]]
    if taken:
        rows = [(f"`{each['name']}`", each["in"], each["description"].replace("\n", " ")) for each in taken]
        text.append(table(("parameter", "in", "meaning"), rows))
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        text.append(f"The body is {_linked_schema(content['schema'])}:")
        text.append(block("json", json.dumps(next(iter(content["examples"].values()))["value"], indent=2)))
    rows = []
    for status, named in operation["responses"].items():
        answer = resolved(CONTRACT, named)
        schema = answer["content"]["application/json"]["schema"]
        rows.append((status, answer["description"], _linked_schema(schema)))
    text.append(table(("status", "when", "body"), rows))
    rules = [rule.id for rule in RULES.values() if rule.operation == name]
    text.append(f"Rules: {', '.join(map(linked_rule, rules))}.")
    return text


def schemas() -> str:
    """What bodies are made of."""
    text: list[str] = []
    for name, schema in CONTRACT["components"]["schemas"].items():
        text += [f"(schema-{name.lower()})=\n### {name}", schema["description"]]
        if fields := schema.get("properties"):
            required = schema.get("required", [])
            rows = [
                (f"`{field}`", _type(each), "" if field in required else "optional", _description(each))
                for field, each in fields.items()
            ]
            text.append(table(("field", "type", "", "meaning"), rows))
        elif "enum" in schema:
            text.append(f"One of {', '.join(f'`{value}`' for value in schema['enum'])}.")
    return "\n\n".join(text)


def _linked_schema(schema: dict[str, Any]) -> str:
    name = schema["$ref"].rpartition("/")[2]
    return f"[`{name}`](#schema-{name.lower()})"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _linked_schema(schema)
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    given = schema.get("type", "any")
    names = given if isinstance(given, list) else [given]
    return " or ".join(names) + (f" ({schema['format']})" if "format" in schema else "")


def _description(schema: dict[str, Any]) -> str:
    return str(resolved(CONTRACT, schema).get("description", "")).strip().replace("\n", " ")


def event_protocol() -> str:
    """How events are told, as the contract says it."""
    return str(next(tag["description"] for tag in CONTRACT["tags"] if tag["name"] == "Events"))


def event_types() -> str:
    """The events, with an example of each."""
    text: list[str] = []
    for name, item in CONTRACT["webhooks"].items():
        operation = item["post"]
        [content] = operation["requestBody"]["content"].values()
        [example] = content["examples"].values()
        text += [
            f"### {name}",
            operation["description"],
            block("json", json.dumps(example["value"], indent=2)),
        ]
    return "\n\n".join(text)


# -- Configuration ------------------------------------------------------------------------------------


def server_settings() -> str:
    """Every setting of the server."""
    rows = [
        (
            f"`--{field.name.replace('_', '-')}`<br>`{environment_variable(field)}`",
            f"{field.metadata['help']}{_default(field.default)}",
        )
        for field in setting_fields()
    ]
    return table(("option and environment variable", "meaning"), rows)


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"<br>Default: {'on' if value else 'off'}"
    return "" if value in (None, (), "") else f"<br>Default: `{value}`"


def sdk_settings() -> str:
    """Every argument of the SDK's client."""
    return table(("argument", "default", "meaning"), _arguments(VideoCallsClient, "Args"))


def sdk_retries() -> str:
    """Every part of the SDK's policy for retries."""
    return table(("`Retries`", "default", "meaning"), _arguments(Retries, "Attributes"))


def _arguments(documented: type, section: str) -> Iterator[tuple[str, str, str]]:
    text = inspect.getdoc(documented) or ""
    part = re.search(rf"^{section}:\n((?:(?: .*)?\n?)+)", text, re.MULTILINE)
    if part is None:
        raise LookupError(f"{documented} documents no {section}")
    meanings = dict(re.findall(r"^    (\w+): ((?:.+\n?)(?:     .*\n?)*)", part[1], re.MULTILINE))
    for name, parameter in inspect.signature(documented).parameters.items():
        shown = "" if parameter.default is None else f"`{parameter.default!r}`"
        yield f"`{name}`", shown, " ".join(meanings[name].split())


def contract_configuration() -> str:
    """The file that `video-calls-contract init` writes."""
    return block("toml", TEMPLATE)


# -- Commands -----------------------------------------------------------------------------------------


def server_commands() -> str:
    """The help of `video-calls-server`; the settings, which all of its commands take, once."""
    settings = {field.name for field in setting_fields()}
    return _commands("video-calls-server", server_command.main, settings)


def contract_commands() -> str:
    """The help of `video-calls-contract`."""
    return _commands("video-calls-contract", contract_command.main, set())


def _commands(program: str, group: click.Group, left_out: set[str]) -> str:
    text: list[str] = []
    whole = click.Context(group, info_name=program, **group.context_settings | {"terminal_width": WIDTH})
    for name, command in group.commands.items():
        shown = copy(command)
        shown.params = [each for each in command.params if each.name not in left_out]
        help_text = shown.get_help(click.Context(shown, info_name=name, parent=whole))
        text += [f"### {program} {name}", block("text", help_text)]
    return "\n\n".join(text)


# -- The SDK ------------------------------------------------------------------------------------------


def sdk_clients() -> str:
    """What is public and neither a model nor an error."""
    rest = [each for each in _public() if not issubclass(each, (BaseModel, Enum, VideoCallsError))]
    return _classes(sorted(rest, key=_clients_first))


def _clients_first(client: type) -> tuple[bool, str, bool]:
    """The two clients, then the rest, each beside its twin."""
    name = client.__name__
    return not name.endswith("Client"), name.removeprefix("Async"), name.startswith("Async")


def sdk_models() -> str:
    """The models, with the enumerations that they hold."""
    models = [each for each in _public() if issubclass(each, (BaseModel, Enum))]
    return _classes(models, ":undoc-members:", ":exclude-members: model_config")


def sdk_errors() -> str:
    """The errors, parents first."""

    def descend(error: type[Exception]) -> Iterator[type[Exception]]:
        yield error
        for child in error.__subclasses__():
            yield from descend(child)

    public = set(_public())
    return _classes(
        (each for each in dict.fromkeys(descend(VideoCallsError)) if each in public),
        ":show-inheritance:",
        directive="autoexception",
    )


def error_tree() -> str:
    """The tree of errors, as it is drawn above them."""
    drawn = re.search(r"^    VideoCallsError\n(?:    .*\n)+", _errors.__doc__ or "", re.MULTILINE)
    if drawn is None:
        raise LookupError("the docstring of video_calls_sdk._errors draws no tree")
    return block("text", inspect.cleandoc(drawn[0]))


def _public() -> list[Any]:
    """Return the public classes."""
    public = (getattr(video_calls_sdk, name) for name in video_calls_sdk.__all__)
    return [each for each in public if isinstance(each, type)]


def _classes(classes: Iterable[type], *options: str, directive: str = "autoclass") -> str:
    directives = "\n\n".join(
        "\n".join(
            [f".. {directive}:: video_calls_sdk.{each.__name__}", *(f"   {option}" for option in options)]
        )
        for each in classes
    )
    return f"```{{eval-rst}}\n{directives}\n```"


GENERATED: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        rule_catalogue,
        error_statuses,
        error_tree,
        operations,
        schemas,
        event_protocol,
        event_types,
        server_settings,
        sdk_settings,
        sdk_retries,
        contract_configuration,
        server_commands,
        contract_commands,
        sdk_clients,
        sdk_models,
        sdk_errors,
    )
}


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put into a page what its lines ask for."""
    source[0] = MARKER.sub(lambda marker: GENERATED[marker[1]](), source[0].replace(ELSEWHERE, ""))
    if docname == "video-calls-api":  # its JSON leaves parts out, as `{ ... }`, which JavaScript can be
        source[0] = source[0].replace("```json", "```javascript").replace("```http", "```text")


def setup(app: Sphinx) -> dict[str, bool]:
    """Take part in a build."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Generate the parts of pages about the contract, the settings and the commands, at every build of the site.

A line `{{ name }}` of a page becomes what the function `name` of `GENERATED` returns, as Markdown.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any

import click
import yaml
from sphinx.application import Sphinx
from video_calls_contract import command as contract_command
from video_calls_contract.catalogue import AREAS
from video_calls_contract.config import TEMPLATE
from video_calls_sdk import _errors
from video_calls_server import __main__ as server_command
from video_calls_server.settings import environment_variable, setting_fields
from video_calls_spec import RULES, Rule, openapi_path, resolved

CONTRACT: dict[str, Any] = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
WIDTH = 100  # characters in a line of a command's help
MARKER = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)
ELSEWHERE = "The tables of this page are on the built site (`nox -s docs`).\n\n"
"""A note for readers of the Markdown file, which has no tables."""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def block(language: str, text: str) -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


# -- The contract -------------------------------------------------------------------------------------


def slug_target(slug: str) -> str:
    """Return the anchor of a rule."""
    return f"rule-{slug.replace('.', '-')}"


def linked_rule(slug: str) -> str:
    """Return a link to a rule."""
    return f"[`{slug}`](#{slug_target(slug)})"


def linked_error(error: type[Exception]) -> str:
    """Return a link to an exception of the SDK."""
    return f"{{py:exc}}`~video_calls_sdk.{error.__name__}`"


def rule_catalogue() -> str:
    """Return every rule, by area of the API."""
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
    """Return a line of the document for a quotation; its code and its headings become code."""
    if statement.startswith(("#", '"', "AGORA_", "GET ", "Content-Type")):
        return f"`{statement}`"
    return statement


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub and MyST give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def error_statuses() -> str:
    """Return the refusals by status: kinds and rules, their texts, and what the SDK raises."""
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
    """Return the operations, with their parameters and answers."""
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
    parameters = [resolved(CONTRACT, each) for each in [*shared, *operation.get("parameters", [])]]
    if parameters:
        rows = [
            (f"`{each['name']}`", each["in"], each["description"].replace("\n", " ")) for each in parameters
        ]
        text.append(table(("parameter", "in", "meaning"), rows))
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        text.append(f"The body is {_linked_schema(content['schema'])}:")
        text.append(block("json", json.dumps(next(iter(content["examples"].values()))["value"], indent=2)))
    rows = []
    for status, reference in operation["responses"].items():
        answer = resolved(CONTRACT, reference)
        schema = answer["content"]["application/json"]["schema"]
        rows.append((status, answer["description"], _linked_schema(schema)))
    text.append(table(("status", "when", "body"), rows))
    rules = [rule.id for rule in RULES.values() if rule.operation == name]
    text.append(f"Rules: {', '.join(map(linked_rule, rules))}.")
    return text


def schemas() -> str:
    """Return the schemas of the bodies, as the contract has them."""
    text: list[str] = []
    for name, schema in CONTRACT["components"]["schemas"].items():
        schema_text = yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=WIDTH)
        text += [f"(schema-{name.lower()})=\n### {name}", block("yaml", schema_text)]
    return "\n\n".join(text)


def _linked_schema(schema: dict[str, Any]) -> str:
    name = schema["$ref"].rpartition("/")[2]
    return f"[`{name}`](#schema-{name.lower()})"


def event_protocol() -> str:
    """Return the contract's description of the protocol of events."""
    return str(next(tag["description"] for tag in CONTRACT["tags"] if tag["name"] == "Events"))


def event_types() -> str:
    """Return the events, with an example of each."""
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
    """Return every setting of the server."""
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


def contract_configuration() -> str:
    """Return the file that `video-calls-contract init` writes."""
    return block("toml", TEMPLATE)


# -- Commands -----------------------------------------------------------------------------------------


def server_commands() -> str:
    """Return the help of `video-calls-server`, without the settings that all of its commands accept."""
    settings = {field.name for field in setting_fields()}
    return _commands("video-calls-server", server_command.main, settings)


def contract_commands() -> str:
    """Return the help of `video-calls-contract`."""
    return _commands("video-calls-contract", contract_command.main, set())


def _commands(program: str, group: click.Group, left_out: set[str]) -> str:
    text: list[str] = []
    whole = click.Context(group, info_name=program, **group.context_settings | {"terminal_width": WIDTH})
    for name, original in group.commands.items():
        command = copy(original)
        command.params = [each for each in original.params if each.name not in left_out]
        help_text = command.get_help(click.Context(command, info_name=name, parent=whole))
        text += [f"### {program} {name}", block("text", help_text)]
    return "\n\n".join(text)


GENERATED: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        rule_catalogue,
        error_statuses,
        operations,
        schemas,
        event_protocol,
        event_types,
        server_settings,
        contract_configuration,
        server_commands,
        contract_commands,
    )
}


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the markers of a page."""
    source[0] = MARKER.sub(lambda marker: GENERATED[marker[1]](), source[0].replace(ELSEWHERE, ""))
    if docname == "video-calls-api":  # its JSON has `{ ... }`, which is valid only as JavaScript
        source[0] = source[0].replace("```json", "```javascript").replace("```http", "```text")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

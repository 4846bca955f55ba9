"""Check the contract, and that the generated files, the server and the suite agree with it."""

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from openapi_spec_validator import validate
from video_calls_contract.fuzzing.knowledge import ACTIONS as FUZZED
from video_calls_server import Settings, create_app
from video_calls_server.api.routes import API_ROOT
from video_calls_server.domain.calls import CHANGES, NEXT, NOT_FOUND, PARTICIPANTS_ONLY
from video_calls_spec import RULES, openapi_path, resolved

ROOT = Path(__file__).resolve().parents[2]
CONTRACT: dict[str, Any] = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
DOCUMENT = (ROOT / "docs" / "video-calls-api.md").read_text(encoding="utf-8")

OPERATIONS = {
    operation["operationId"]: (method.upper(), path)
    for path, item in CONTRACT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}


def test_it_is_valid_openapi() -> None:
    validate(CONTRACT)


def test_generated_files_match_it() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "spec" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_server_answers_its_operations_and_no_others() -> None:
    routes = {
        handler.operation_id: (method, path.removeprefix(API_ROOT).rstrip("/").replace(":str", "") + "/")
        for route in create_app(Settings(database=":memory:")).routes
        if (path := route.path).startswith(API_ROOT)
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items()
        if method != "OPTIONS"
    }
    assert routes == OPERATIONS


ACTIONS = {"get"} | {path.split("/")[3] for _, path in OPERATIONS.values() if path.count("/") > 3}


@pytest.mark.parametrize(
    ("table", "actions"),
    [
        ("domain.calls.NOT_FOUND", NOT_FOUND),
        ("domain.calls.PARTICIPANTS_ONLY", PARTICIPANTS_ONLY),
        ("domain.calls.NEXT", {"get", *NEXT}),
        ("domain.calls.CHANGES", {"get", *CHANGES}),
        ("fuzzing.knowledge.ACTIONS", {"get", *(action.name for action in FUZZED.values())}),
    ],
)
def test_table_has_each_action(table: str, actions: Collection[str]) -> None:
    assert set(actions) == ACTIONS, table


# -- Examples ---------------------------------------------------------------------------------------


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in CONTRACT["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            if "requestBody" in operation:
                yield f"{method} {path}", operation["requestBody"]["content"]["application/json"]
            for status, response in operation["responses"].items():
                yield f"{method} {path} {status}", resolved(CONTRACT, response)["content"]["application/json"]


@pytest.mark.parametrize(
    ("where", "body"), list(bodies()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_body_has_examples_and_they_are_valid(where: str, body: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator({**body["schema"], "components": CONTRACT["components"]})
    assert body["examples"], where
    for example in body["examples"].values():
        validator.validate(resolved(CONTRACT, example)["value"])


@pytest.mark.parametrize("name", CONTRACT["components"]["schemas"])
def test_schema_has_description_and_valid_example(name: str) -> None:
    schema = CONTRACT["components"]["schemas"][name]
    assert schema["description"]
    jsonschema.Draft202012Validator({**schema, "components": CONTRACT["components"]}).validate(
        schema["example"]
    )
    for field, described in schema.get("properties", {}).items():
        assert resolved(CONTRACT, described).get("description"), f"{name}.{field}"


def refusals() -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the operation, the status and the body of every example of an error."""
    for name, (method, path) in OPERATIONS.items():
        for status, response in CONTRACT["paths"][path][method.lower()]["responses"].items():
            if status >= "400":
                content = resolved(CONTRACT, response)["content"]["application/json"]
                for example in content["examples"].values():
                    yield name, int(status), resolved(CONTRACT, example)["value"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_error_examples_name_rules_of_their_operation(operation: str) -> None:
    rules = [
        (RULES[body["code"]], status)
        for name, status, body in refusals()
        if name == operation and body["code"] in RULES
    ]
    assert rules
    for rule, status in rules:
        assert rule.operation in {operation, "*"}, rule.id
        assert rule.status == status, rule.id


@pytest.mark.parametrize(("operation", "path"), [(name, path) for name, (_, path) in OPERATIONS.items()])
def test_method_not_allowed_example_lists_allowed_methods(operation: str, path: str) -> None:
    methods = ", ".join(sorted(method for method, of in OPERATIONS.values() if of == path))
    (text,) = [body["error"] for name, status, body in refusals() if (name, status) == (operation, 405)]
    assert text == f"Method not allowed; this path takes {methods}"
    method, _ = OPERATIONS[operation]
    answer = resolved(CONTRACT, CONTRACT["paths"][path][method.lower()]["responses"]["405"])
    assert answer["headers"]["Allow"]["example"] == methods


# -- Rules ------------------------------------------------------------------------------------------


def section(heading: str) -> str:
    """Return the document's text under a heading, up to the next heading of the same or a higher level."""
    lines = DOCUMENT.splitlines()
    start = next(i for i, line in enumerate(lines) if re.fullmatch(rf"#+ {re.escape(heading)}", line))
    rank = lines[start].count("#", 0, lines[start].index(" "))
    end = next(
        (i for i in range(start + 1, len(lines)) if re.match(rf"#{{1,{rank}}} ", lines[i])), len(lines)
    )
    return "\n".join(lines[start:end])


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_quotes_the_document_word_for_word(rule: Any) -> None:
    if rule.section == "Extensions":
        assert rule.level in {"may", "should"}
    else:
        assert rule.statement in section(rule.section)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_operation_of_rule_has_its_status(rule: Any) -> None:
    assert rule.operation == "*" or rule.operation in OPERATIONS
    if rule.operation != "*":
        method, path = OPERATIONS[rule.operation]
        assert str(rule.status) in CONTRACT["paths"][path][method.lower()]["responses"]


def test_catalogue_has_all_texts_of_the_document() -> None:
    statements = {rule.statement for rule in RULES.values()}
    rules_of_document = [
        line.removeprefix("- ")
        for block in re.findall(r"\*\*Validation Rules\*\*\n((?:- .*\n)+)", DOCUMENT)
        for line in block.splitlines()
    ]
    assert len(rules_of_document) == 12
    assert set(rules_of_document) <= statements
    errors = re.findall(r'"error": "(.*)"', section("Error Responses"))
    assert len(errors) == 3
    assert set(errors) <= {rule.error for rule in RULES.values()}


def slugs_given_to(name: str, paths: Iterable[Path]) -> set[str]:
    """Return the texts that these files pass to the mark or decorator `name`."""
    return {
        argument.value
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and name == getattr(node.func, "attr", getattr(node.func, "id", None))
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def slugs_marked_in(module: str) -> Iterator[str]:
    """Yield the rules that a module of the suite names in the marks of its tests and of their parameters."""
    for function in vars(import_module(f"video_calls_contract.rules.{module}")).values():
        marks = list(getattr(function, "pytestmark", ()))
        for mark in getattr(function, "pytestmark", ()):
            if mark.name == "parametrize":
                marks += [inner for value in mark.args[1] for inner in getattr(value, "marks", ())]
        yield from (slug for mark in marks if mark.name == "rule" for slug in mark.args)


def test_every_rule_has_a_server_test() -> None:
    tested = slugs_given_to("rule", (ROOT / "mock_server" / "tests").glob("test_*.py"))
    assert tested - set(RULES) == set(), "marks of mock_server/tests that name no rule"
    assert set(RULES) - tested == set(), "rules without a test in mock_server/tests: @pytest.mark.rule"


def test_every_rule_has_a_contract_test(pytestconfig: pytest.Config) -> None:
    for mark in ("alone", "lists", "late", "observed"):
        pytestconfig.addinivalue_line("markers", f"{mark}: of the suite, whose plugin is not loaded here")
    suite = ROOT / "contract_tests" / "video_calls_contract"
    tested = {slug for path in (suite / "rules").glob("test_*.py") for slug in slugs_marked_in(path.stem)}
    tested |= slugs_given_to("observes", (suite / "observers").glob("*.py"))
    tested = {slug for slug in tested if not slug.startswith("fuzz.")}
    assert tested - set(RULES) == set(), "marks of the suite that name no rule"
    assert set(RULES) - tested == set(), "rules without a test in video_calls_contract/rules or observers"


def test_server_raises_exactly_the_refusing_rules() -> None:
    areas = {rule.id.partition(".")[0] for rule in RULES.values() if rule.error}
    slug = re.compile(rf"({'|'.join(areas)})\.[a-z-]+")
    package = ROOT / "mock_server" / "video_calls_server"
    raised_rules = {
        node.value
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and slug.fullmatch(node.value)
    }
    # If two requests race, the server refuses the second with `create.no-overlap`.
    refusing = {rule.id for rule in RULES.values() if rule.error} - {"create.no-race"}
    assert refusing - raised_rules == set(), "rules that the server never raises"
    assert raised_rules - set(RULES) == set(), "slugs in the server that are no rules"


def _raised_in(paths: Iterable[Path]) -> set[str]:
    paths = list(paths)
    texts = slugs_given_to("RuleViolation", paths) | slugs_given_to("field_violation", paths)
    return texts & set(RULES)


def test_domain_raises_business_rules_api_http_rules() -> None:
    package = ROOT / "mock_server" / "video_calls_server"
    outside = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] != "domain"]
    slugs = _raised_in(outside)
    of_http = {"create.valid-body", "create.aware-time", "list.page-size", "list.page-out-of-range"}
    assert {slug for slug in slugs - of_http if not slug.startswith(("errors.", "auth."))} == set()
    not_api = [path for path in outside if path.relative_to(package).parts[0] != "api"]
    assert _raised_in(not_api) == set()

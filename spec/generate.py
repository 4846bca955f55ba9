"""Write the generated files; with `--check`, name those that are out of date.

datamodel-code-generator writes the SDK's pydantic models and the server's msgspec structs from
`openapi.yaml`. The rules become a Python literal, so that a program reads them without parsing YAML. The
SDK's synchronous modules are derived from the asynchronous ones by replacing identifiers. An asynchronous
module begins with a note about this; the synchronous module begins with another note.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = ROOT / "openapi.yaml"
SDK = ROOT / "sdk/video_calls_sdk"
HEADER = "# Generated from openapi.yaml by `nox -s generate`. Edit the contract, not this file."

COMMON = [
    "--input-file-type=openapi",
    "--target-python-version=3.11",
    f"--custom-file-header={HEADER}",
    "--use-annotated",
    "--field-constraints",
    "--use-standard-collections",
    "--use-union-operator",
    "--use-schema-description",
    "--type-mappings=uri=string",
    "--formatters=builtin",
    "--disable-warnings",
]
STRUCTS = [
    "--enum-field-as-literal=all",
    "--output-model-type=msgspec.Struct",
    "--output-datetime-class=datetime",
    "--keyword-only",
    # Otherwise msgspec might evaluate the annotations late, when freezegun has replaced `datetime`.
    "--disable-future-imports",
]
MODELS = [
    "--output-model-type=pydantic_v2.BaseModel",
    "--output-datetime-class=AwareDatetime",
    "--use-field-description",
    "--base-class=video_calls_sdk._base_model.Model",
    '--type-overrides={"Id": "video_calls_sdk._ids.StrictId"}',
    "--use-specialized-enum",
    "--capitalise-enum-members",
    "--union-mode=left_to_right",
]


def operation_ids(contract: dict[str, Any]) -> list[str]:
    """Return the operation ids in the order of the contract."""
    return [
        operation["operationId"]
        for path in contract["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    ]


def rule_table(contract: dict[str, Any]) -> str:
    """Return a module with the operation ids, the slugs of the rules, and the rules by slug."""
    rules = contract["x-rules"]
    slugs = [rule["id"] for rule in rules]
    if repeated := {slug for slug in slugs if slugs.count(slug) > 1}:
        raise SystemExit(f"openapi.yaml: x-rules has more than one {', '.join(sorted(repeated))}")
    lines = [
        HEADER,
        "",
        "from typing import Literal",
        "",
        "from video_calls_spec._types import Rule",
        "",
        "OperationId = Literal[",
        *(f"    {name!r}," for name in operation_ids(contract)),
        "]",
        "",
        "RuleId = Literal[",
        *(f"    {slug!r}," for slug in slugs),
        "]",
        "",
        "RULES: dict[RuleId, Rule] = {",
    ]
    for rule in rules:
        lines.append(f"    {rule['id']!r}: Rule(")
        lines += [
            f"        {name}={rule.get(name)!r},"
            for name in ("id", "level", "section", "statement", "operation", "status", "error", "summary")
        ]
        lines.append("    ),")
    return "\n".join([*lines, "}", ""])


BOUNDS = {
    "example",
    "maxLength",
    "maxProperties",
    "maximum",
    "minLength",
    "minimum",
    "pattern",
}

OPEN = [{"$ref": f"#/components/schemas/{name}"} for name in ("CallStatus", "EventType", "Role")]
"""Enumerations that a backend may extend."""


def client_view(node: Any) -> Any:  # noqa: ANN401 (any part of the contract)
    """Return the contract without bounds and closed enumerations, because backends may go beyond them."""
    if isinstance(node, list):
        return [client_view(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node in OPEN:
        return {"anyOf": [node, {"type": "string"}]}
    return {name: client_view(value) for name, value in node.items() if name not in BOUNDS}


def generated_models(contract: dict[str, Any], options: list[str]) -> str:
    """Return the output of datamodel-code-generator for the contract's schemas."""
    with tempfile.TemporaryDirectory() as directory:
        source, output = Path(directory) / "openapi.yaml", Path(directory) / "models.py"
        source.write_text(yaml.safe_dump(contract, sort_keys=False), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "datamodel_code_generator",
            f"--input={source}",
            f"--output={output}",
        ]
        subprocess.run([*command, *COMMON, *options], check=True)  # noqa: S603 (our own arguments)
        return output.read_text(encoding="utf-8")


SYNC_NAMES = {
    "AsyncCallList": "CallPage",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "anyio": "time",
    "_async_events": "_sync_events",
    "_async_socket": "_sync_socket",
}
"""Identifiers with another synchronous name than the one without the prefix `Async`."""


def sync_module(path: Path) -> str:
    """Return the synchronous form of an asynchronous module."""
    _, _, text = path.read_text(encoding="utf-8").partition("\n\n")  # without the first note
    text = re.sub(r"\b(async|await) ", "", text)
    text = re.sub(r"\w+", lambda word: SYNC_NAMES.get(word[0], word[0]), text)
    text = re.sub(r"\bAsync(?=[A-Z])", "", text)
    text = f"# Derived from {path.name} by `nox -s generate`. Edit that file, not this one.\n\n{text}"
    for command in (["check", "--select=I", "--fix-only"], ["format"]):
        arguments = [sys.executable, "-m", "ruff", *command, "--quiet", f"--stdin-filename={path}", "-"]
        text = subprocess.run(arguments, input=text, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return text


def generated_files() -> dict[Path, str]:
    """Return each generated file with its text."""
    contract = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
    return {
        ROOT / "spec/video_calls_spec/_rules.py": rule_table(contract),
        ROOT / "mock_server/video_calls_server/_structs.py": generated_models(contract, STRUCTS),
        SDK / "_sync_client.py": sync_module(SDK / "_async_client.py"),
        SDK / "_sync_events.py": sync_module(SDK / "_async_events.py"),
        SDK / "_models.py": generated_models(client_view(contract), MODELS),
    }


def main() -> int:
    """Write the files; with `--check`, name those that are out of date and return 1."""
    stale = [
        (path, text)
        for path, text in generated_files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path, _ in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run `nox -s generate`")
        return 1 if stale else 0
    for path, text in stale:
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

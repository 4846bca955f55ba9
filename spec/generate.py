"""Writes from `openapi.yaml` what the code needs of it; `--check` says what is out of date instead.

The SDK's pydantic models and the server's msgspec structs come from datamodel-code-generator, the
field's standard for it; the rule table is a plain Python literal, so that nobody parses YAML to read it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = ROOT / "openapi.yaml"
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
    "--enum-field-as-literal=all",
    "--type-mappings=uri=string",
    "--formatters=builtin",
    "--disable-warnings",
]
STRUCTS = ["--output-model-type=msgspec.Struct", "--output-datetime-class=datetime", "--keyword-only"]
MODELS = [
    "--output-model-type=pydantic_v2.BaseModel",
    "--output-datetime-class=AwareDatetime",
    "--use-field-description",
    "--collapse-root-models",
    "--enable-faux-immutability",
    "--extra-fields=allow",
]


def rule_table(contract: dict[str, Any]) -> str:
    """The catalogue as a module: the type of its slugs, and the rules by slug."""
    rules = contract["x-rules"]
    slugs = [rule["id"] for rule in rules]
    if repeated := {slug for slug in slugs if slugs.count(slug) > 1}:
        raise SystemExit(f"openapi.yaml: x-rules holds more than one {', '.join(sorted(repeated))}")
    lines = [
        HEADER,
        "",
        "from typing import Literal",
        "",
        "from video_calls_spec._types import Rule",
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


def generated_models(options: list[str]) -> str:
    """What datamodel-code-generator makes of the contract's schemas."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "models.py"
        command = [
            sys.executable,
            "-m",
            "datamodel_code_generator",
            f"--input={CONTRACT}",
            f"--output={output}",
        ]
        subprocess.run([*command, *COMMON, *options], check=True)  # noqa: S603 (our own arguments)
        return output.read_text(encoding="utf-8")


def generated() -> dict[Path, str]:
    """Every generated file with the text it should hold."""
    contract = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
    return {
        ROOT / "spec/video_calls_spec/_rules.py": rule_table(contract),
        ROOT / "mock_server/video_calls_server/_structs.py": generated_models(STRUCTS),
        ROOT / "sdk/video_calls/_models.py": generated_models(MODELS),
    }


def main() -> int:
    """Write the files, or with `--check` name those that are stale and return 1."""
    stale = [
        (path, text)
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path, _ in stale:
            print(f"{path.relative_to(ROOT)} does not match openapi.yaml; run `nox -s generate`")
        return 1 if stale else 0
    for path, text in stale:
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

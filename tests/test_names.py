"""No name is a bare participle, and the name of a test has at most eight words."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_WORDS = 8
PARTICIPLE = re.compile(
    "_*(answered|asked|blamed|brought|chosen|counted|done|forgotten|found|given|gone|got|heard|held|judged|kept|"
    "known|looked|made|meant|named|noticed|observed|offered|promised|refused|remembered|said|seen|shown|spoken|"
    "taken|told|tried|wanted|watched|wished|written)_*"
)
FILES = [
    ROOT / name
    for name in subprocess.check_output(["git", "ls-files", "*.py"], cwd=ROOT, text=True).splitlines()
]


def definitions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each name that a file defines, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in FILES])
def test_names_are_nouns_and_tests_are_short(path: Path) -> None:
    violations = [
        f"{name}, line {line}"
        for name, line in definitions(path)
        if PARTICIPLE.fullmatch(name) or (name.startswith("test_") and len(name.split("_")) > MOST_WORDS + 1)
    ]
    assert violations == []

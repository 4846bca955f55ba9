"""CONTRIBUTING.md and SECURITY.md name nothing that is not there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = {
    node.name
    for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef)
    and any(ast.unparse(mark).startswith("nox.session") for mark in node.decorator_list)
}
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_session_that_it_names_exists() -> None:
    named = set(re.findall(r"nox -s (\w+)", PAGE))
    assert len(named) > 10
    assert named <= SESSIONS


def test_every_session_has_a_description_of_one_line() -> None:
    described = {
        node.name: ast.get_docstring(node) or ""
        for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name in SESSIONS
    }
    assert {name for name, text in described.items() if text.count("\n") or not text} == set()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_every_path_that_it_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    quoted = re.findall(r"`([\w./-]+/[\w./-]+|\w+\.(?:md|yaml|toml))`", text)
    assert [name for name in linked + quoted if not (ROOT / name).exists()] == []

"""Convert docstrings from Markdown with Google's sections to the reStructuredText that Sphinx reads.

References to private modules become references to their public names.
"""

import importlib
import re
from dataclasses import is_dataclass
from typing import Any, get_type_hints

import video_calls_sdk
from _pytest.fixtures import FixtureFunctionDefinition
from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PUBLIC = (
    "video_calls_sdk",
    "video_calls_sdk.agora",
    "video_calls_sdk.testing",
    "video_calls_server.control.client",
)

_FENCE = re.compile(r"(\s*)```(\w*)")
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_TWO_NAMES = re.compile(r"( +)(\w+), (\w+): (.*)")
_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")


def as_restructured_text(lines: list[str]) -> list[str]:
    """Convert the code and the links of a docstring from Markdown to reStructuredText."""
    converted: list[str] = []
    indent: str | None = None
    for line in lines:
        fence = _FENCE.match(line)
        if fence and indent is None:
            indent = fence[1]
            converted += ["", f"{indent}.. code-block:: {fence[2] or 'text'}", ""]
        elif fence:
            indent = None
            converted.append("")
        elif indent is not None:
            converted.append(f"   {line}" if line.strip() else "")
        elif line.lstrip().startswith((">>> ", "... ")):
            converted.append(line)
        elif two := _TWO_NAMES.fullmatch(line):
            converted += [f"{two[1]}{two[2]}: {two[4]}", f"{two[1]}{two[3]}: {two[4]}"]
        else:
            converted.append(_LINK.sub(r"`\1 <\2>`__", _CODE.sub(r"``\1``", line)))
    return converted


def _docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = as_restructured_text(lines)


def _signature(  # Sphinx passes all of these arguments
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str, str] | None:
    """Hide the constructor arguments of classes that only the package creates."""
    made_here = isinstance(obj, type) and "Args:" not in (obj.__doc__ or "") and not is_dataclass(obj)
    return ("", "") if signature and (made_here or isinstance(obj, FixtureFunctionDefinition)) else None


def _public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve a name of a private module, or a name without a module."""
    name = str(node.get("reftarget", "")).rpartition(".")[2]
    if node.get("refdomain") != "py":
        return None
    for module in PUBLIC:
        if hasattr(importlib.import_module(module), name):
            converted: Any = env.domains.python_domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", f"{module}.{name}", node, content
            )
            if converted is not None:
                return converted
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    for model in vars(video_calls_sdk).values():
        if isinstance(model, type) and issubclass(model, BaseModel):
            model.__annotations__ = get_type_hints(model)  # show the types without pydantic's annotations
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # before Google's sections are read
    app.connect("autodoc-process-signature", _signature)
    app.connect("missing-reference", _public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

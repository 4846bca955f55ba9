"""The layers of the server, checked by its imports: the API does not import the control API.

The linter refuses relative imports (TID252), so that each name is absolute.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import video_calls_server

PACKAGE = Path(video_calls_server.__file__).parent


def imports(layer: str) -> Iterator[tuple[str, str]]:
    """Yield each file of a layer with each name that it imports."""
    for path in (*PACKAGE.glob(f"{layer}.py"), *PACKAGE.glob(f"{layer}/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path.name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((path.name, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize(
    "layer", ["agora", "api", "domain", "events", "observability", "store", "operations", "world"]
)
def test_api_layers_do_not_import_control_api(layer: str) -> None:
    layer_imports = list(imports(layer))
    assert layer_imports
    assert [each for each in layer_imports if each[1].startswith("video_calls_server.control")] == []


def test_domain_imports_no_framework() -> None:
    allowed = {*sys.stdlib_module_names, "video_calls_spec", "video_calls_server"}
    assert [each for each in imports("domain") if each[1].partition(".")[0] not in allowed] == []

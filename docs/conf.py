"""The site of `docs/`: `nox -s docs` builds it, without a network and with every warning an error."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

project = "video-calls"
author = "The video-calls maintainers"
version = release = version_of("video-calls")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated_pages",
    "docstrings",
]
exclude_patterns = ["_build"]

myst_heading_anchors = 4

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

nitpicky = True
nitpick_ignore_regex = [
    # Names documented on other sites. They stay unlinked, because a build fetches nothing from the network.
    (r"py:.*", r"(bool|dict|float|frozenset|int|list|object|str|tuple|type|None|True|False|Any)"),
    (r"py:.*", r"(BaseException|Exception|RuntimeError|ValueError|TracebackType)"),
    (r"py:.*", r"(AwareDatetime|video_calls_server\.control\..*|video_calls_sdk\._\w+\.(NotGiven|Model))"),
    (r"py:.*", r"(collections|datetime|enum|typing|types|httpx|pydantic|pytest|respx|anyio|litestar)\..*"),
]

html_theme = "furo"
html_title = "video-calls"
html_show_copyright = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
html_extra_path = ["../openapi.yaml"]

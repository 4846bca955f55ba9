"""The HTML report: one file that loads nothing else, and escapes all text of a backend."""

import base64
import hashlib
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

import video_calls_contract.reports
from video_calls_contract.reports import (
    OUTCOME_WORDS,
    count,
    evidence,
    how_to_curl,
    kind,
    short,
    visible,
)
from video_calls_contract.results import CONFORMS, VIOLATIONS, Results


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("video_calls_contract", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_make_visible,
    )


def _make_visible(value: Any) -> Any:  # noqa: ANN401 (Jinja's)
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _with_code(text: str) -> Markup:
    """Return a text of the contract as markup, with code in place of backticks."""
    parts = enumerate(escape(text).split("`"))
    return Markup().join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in parts)


def as_html(results: Results) -> str:
    """Return the HTML report."""
    script = files(video_calls_contract.reports).joinpath("report.js").read_text(encoding="utf-8")
    kinds = {result.rule.id: kind(result, results) for result in results.rules}
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            results=results,
            state={CONFORMS: "passed", VIOLATIONS: "violation"}.get(results.exit_status, "stopped"),
            kinds=kinds,
            counts={one: list(kinds.values()).count(one) for one in OUTCOME_WORDS},
            words=OUTCOME_WORDS,
            how_to_curl=how_to_curl(
                exchange
                for result in results.rules
                for test in result.failures
                for exchange in evidence(test)
            ),
            code=_with_code,
            count=count,
            evidence=evidence,
            short=short,
            version=version("video-calls"),
            script=Markup(script),  # noqa: S704 (the script of this package)
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )

"""One HTML file, to be read by a person: no other file, no address, no text of a backend as markup."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from video_calls_contract.reports import (
    OUTCOME_WORDS,
    Kind,
    count,
    evidence,
    how_to_curl,
    kind,
    short,
    visible,
)
from video_calls_contract.results import CONFORMS, VIOLATIONS, Results, RuleResult

__all__ = ["as_html"]


@dataclass(frozen=True, slots=True)
class _Entry:
    result: RuleResult
    kind: Kind


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("video_calls_contract", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever is shown went through `visible`; what is None is a mistake of the template.
        finalize=_shown,
    )


def _shown(value: Any) -> Any:  # noqa: ANN401 (Jinja's)
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _with_code(text: str) -> Markup:
    """A text of the contract, in which backticks are code."""
    parts = enumerate(escape(text).split("`"))
    return Markup().join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in parts)


def _script() -> str:
    source, _, _ = PackageLoader("video_calls_contract", "reports").get_source(_environment(), "report.js")
    return source


def as_html(results: Results) -> str:
    """The report."""
    script = _script()
    everything = [_Entry(result, kind(result, results)) for result in results.rules]
    entries: dict[str, list[_Entry]] = {}
    for entry in everything:
        entries.setdefault(entry.result.rule.section, []).append(entry)
    counted = {one: sum(entry.kind == one for entry in everything) for one in OUTCOME_WORDS}
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            results=results,
            state={CONFORMS: "passed", VIOLATIONS: "violation"}.get(results.exit_status, "stopped"),
            sections=entries,
            violations=[entry for entry in everything if entry.kind == "violation"],
            warnings=[entry for entry in everything if entry.kind == "warning"],
            counted=counted,
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
            script=Markup(script),  # noqa: S704 (our own)
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )

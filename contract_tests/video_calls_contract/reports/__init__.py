"""The reports. Each is made from the tree of results.

Text of a backend never becomes markup, a control sequence or a link in a report.
"""

import re
from collections.abc import Callable, Iterable
from typing import Literal

from video_calls_contract.exchange import Exchange
from video_calls_contract.results import Results, RuleResult, TestResult

Writer = Callable[[Results], str]
Kind = Literal["violation", "warning", "noted", "known", "not_checked", "passed"]

NOTES_HEADING = "Notes: recommendations that the backend does not follow; the document leaves them open"

OUTCOME_WORDS: dict[Kind, str] = {
    "violation": "violation",
    "warning": "warning",
    "noted": "note",
    "known": "known",
    "not_checked": "not checked",
    "passed": "passed",
}

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc\ufffe\uffff\ud800-\udfff]"
)
_MAX_EVIDENCE = 8  # exchanges of a test


def visible(text: str) -> str:
    """Return the text with escapes in place of invisible and control characters."""

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 (two digits)

    return _INVISIBLE.sub(escape, text.replace("\r\n", "\n"))


def shorten(text: str) -> str:
    """Return the beginning of a request or a response, and how many characters are left out."""
    beginning = "\n".join(text[:1500].splitlines()[:40])
    missing = len(text.rstrip("\n")) - len(beginning)
    return f"{beginning}\n… {count(missing, 'more character')}" if missing > 0 else beginning


def kind(result: RuleResult, results: Results) -> Kind:
    """Return the outcome of a rule; a failed rule is a violation if it fails the run, else a warning."""
    match result.outcome:
        case "failed":
            return "violation" if result.fails(results.level) else "warning"
        case outcome:
            return outcome


def count(number: int, thing: str) -> str:
    """Return a number with a noun, such as "2 rules"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def headline(results: Results) -> str:
    """Return the verdict as a sentence."""
    return f"{visible(results.base_url)} {visible(results.verdict)}"


def counts(results: Results) -> str:
    """Return a line with the number of rules of each outcome, the number of requests and the duration."""
    kinds = [kind(result, results) for result in results.rules]
    parts = [f"{kinds.count('passed')} passed"]
    parts += [
        count(kinds.count(one), word)
        if one in ("violation", "warning", "noted")
        else f"{kinds.count(one)} {word}"
        for one, word in OUTCOME_WORDS.items()
        if one != "passed" and one in kinds
    ]
    return f"{', '.join(parts)} · {count(results.requests, 'request')} · {results.seconds:.1f} s"


def evidence(test: TestResult) -> tuple[Exchange, ...]:
    """Return the exchanges that show a violation; the last one decides."""
    return test.exchanges[-_MAX_EVIDENCE:]


def short(exchange: Exchange) -> str:
    """Return an exchange on one line."""
    return visible(
        exchange.redactor.redact(
            f"{exchange.method} {exchange.url} as {exchange.user}: {exchange.status_text}"
        )
    )


def step(exchange: Exchange) -> str:
    """Return an exchange before the last on one line, with the beginning of both bodies."""
    return visible(f"{exchange.request_line}: {exchange.response_line}".replace("\n", " "))


def how_to_curl(exchanges: Iterable[Exchange]) -> str:
    """Return how to set the variables in the curl lines of these exchanges; empty if there are none."""
    lines = "\n".join(exchange.curl for exchange in exchanges)
    variables = sorted(set(re.findall(r"\$([A-Z][A-Z_]*_TOKEN)\b", lines)))
    settable = [name for name in variables if name != "FORGED_TOKEN"]
    sentences: list[str] = []
    if settable:
        name = settable[0]
        sentences.append(
            f"The curl lines contain no tokens: ${name} stands for the token of "
            f"[identities.{name.removesuffix('_TOKEN').lower()}] in the configuration, and so on. "
            f"Set the tokens first: export {' '.join(f'{name}=…' for name in settable)}"
        )
    if len(settable) < len(variables):
        sentences.append("$FORGED_TOKEN is a token that the suite made; no report contains it.")
    return " ".join(sentences)

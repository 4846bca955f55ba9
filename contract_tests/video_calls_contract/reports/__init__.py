"""The reports: each makes a text of the one tree of results.

What a backend sent is shown as it is, and never becomes markup, a control sequence or a link.
"""

import re
from collections.abc import Callable, Iterable
from typing import Literal

from video_calls_contract.exchange import Exchange
from video_calls_contract.results import Results, RuleResult, TestResult

__all__ = [
    "LEFT_OPEN",
    "OUTCOME_WORDS",
    "Kind",
    "Writer",
    "count",
    "evidence",
    "headline",
    "kind",
    "visible",
]

Writer = Callable[[Results], str]
Kind = Literal["violation", "warning", "noted", "known", "not_checked", "passed"]

LEFT_OPEN = "Notes: what the document leaves open, and the backend does otherwise than recommended"
"""The heading of deviations that are only noted."""

OUTCOME_WORDS: dict[Kind, str] = {
    "violation": "violation",
    "warning": "warning",
    "noted": "note",
    "known": "known",
    "not_checked": "not checked",
    "passed": "passed",
}

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc\ufffe\uffff\ud800-\udfff]"
)
_MOST_EVIDENCE = 8  # exchanges of a test


def visible(text: str) -> str:
    """The text with what would not be seen, or would do something, written as an escape."""

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 (two digits)

    return _UNSEEN.sub(escape, text.replace("\r\n", "\n"))


def bounded(text: str, *, lines: int, characters: int) -> str:
    """The text as far as it is worth showing, and how much more there is."""
    shown = text[:characters].splitlines()[:lines]
    short = "\n".join(shown)
    missing = len(text.rstrip("\n")) - len(short)
    return f"{short}\n… {count(missing, 'more character')}" if missing > 0 else short


def kind(result: RuleResult, results: Results) -> Kind:
    """What became of a rule, as a reader cares for it."""
    match result.outcome:
        case "failed":
            return "violation" if result.fails(results.level) else "warning"
        case outcome:
            return outcome


def count(number: int, thing: str) -> str:
    """A number of things."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def headline(results: Results) -> str:
    """The verdict as a sentence."""
    return f"{visible(results.base_url)} {visible(results.verdict)}"


def counts(results: Results) -> str:
    """How many rules became what, as a line."""
    kinds = [kind(result, results) for result in results.rules]
    told = [f"{kinds.count('passed')} passed"]
    told += [
        count(kinds.count(one), word)
        if one in ("violation", "warning", "noted")
        else f"{kinds.count(one)} {word}"
        for one, word in OUTCOME_WORDS.items()
        if one != "passed" and one in kinds
    ]
    return f"{', '.join(told)} · {count(results.requests, 'request')} · {results.seconds:.1f} s"


def evidence(test: TestResult) -> tuple[Exchange, ...]:
    """What shows a violation: the last exchange is the telling one."""
    return test.exchanges[-_MOST_EVIDENCE:]


def short(exchange: Exchange) -> str:
    """An exchange in a line."""
    return visible(
        exchange.redactor.redact(f"{exchange.method} {exchange.url} as {exchange.person}: {exchange.answer}")
    )


def step(exchange: Exchange) -> str:
    """An exchange before the telling one, with the beginnings of its bodies, in a line."""
    return visible(f"{exchange.request_line}: {exchange.answer_line}".replace("\n", " "))


def how_to_curl(shown: Iterable[Exchange]) -> str:
    """How the curl lines of these exchanges get their tokens; empty where none needs one."""
    lines = "\n".join(exchange.curl for exchange in shown)
    found = sorted(set(re.findall(r"\$([A-Z][A-Z_]*_TOKEN)\b", lines)))
    ours = [name for name in found if name != "FORGED_TOKEN"]
    said: list[str] = []
    if ours:
        name = ours[0]
        said.append(
            f"Tokens are left out of the curl lines: ${name} stands for that of "
            f"[identities.{name.removesuffix('_TOKEN').lower()}] in the configuration, and so on. "
            f"Set them first: export {' '.join(f'{name}=…' for name in ours)}"
        )
    if len(ours) < len(found):
        said.append("$FORGED_TOKEN is one that the suite made, which is not kept.")
    return " ".join(said)

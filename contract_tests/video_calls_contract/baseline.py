"""Deviations that a team knows of: they do not fail a run, and one that is gone does.

A baseline is TOML: for each rule a reason, and, if wanted, the last day on which it may deviate.
"""

import json
import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

from video_calls_spec.encoding import EncodingError, decoded

from video_calls_contract.catalogue import catalogue
from video_calls_contract.config import ConfigError
from video_calls_contract.destination import DestinationError, write
from video_calls_contract.results import RuleResult

__all__ = ["Known", "apply", "read_baseline", "write_baseline"]


@dataclass(frozen=True, slots=True)
class Known:
    """A deviation that may be."""

    rule: str
    reason: str
    until: date | None = None

    def allows(self, rule: str, today: date) -> bool:
        """Whether this rule may deviate today."""
        return rule == self.rule and (self.until is None or today <= self.until)


def read_baseline(path: Path) -> list[Known]:
    """The deviations that a file lists.

    Raises:
        ConfigError: it cannot be read or used.
    """
    try:
        data = tomllib.loads(decoded(path.read_bytes()))
    except EncodingError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    entries = data.pop("known", [])
    if data or not isinstance(entries, list):
        raise ConfigError(f"{path}: a baseline is a list of [[known]] tables, and nothing else")
    found = [_known(path, entry) for entry in cast("list[object]", entries)]
    seen: set[str] = set()
    for known in found:
        if known.rule in seen:
            raise ConfigError(f"{path}: {known.rule} is listed twice")
        seen.add(known.rule)
    return found


def _known(path: Path, entry: object) -> Known:
    table = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    rule, reason, until = (table.get(name) for name in ("rule", "reason", "until"))
    if not isinstance(rule, str) or rule not in catalogue():
        raise ConfigError(f"{path}: {rule!r} is no rule; `video-calls-contract rules` lists them")
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigError(f'{path}: {rule}: say why it deviates: reason = "…"')
    if unknown := set(table) - {"rule", "reason", "until"}:
        raise ConfigError(
            f"{path}: {rule}: {', '.join(sorted(unknown))}: unknown; known are rule, reason, until"
        )
    if until is not None and (not isinstance(until, date) or isinstance(until, datetime)):
        raise ConfigError(f"{path}: {rule}: until is a day, as in until = 2030-12-31")
    return Known(rule, reason.strip(), until)


def apply(baseline: list[Known], results: list[RuleResult], today: date) -> None:
    """Mark what is known, and fail what is no longer so.

    Where a test of a rule could not be run, the rule is not said to hold: that test may be what deviates.
    """
    by_rule = {known.rule: known for known in baseline}
    for result in results:
        known = by_rule.get(result.rule.id)
        if known is None:
            continue
        if result.outcome == "passed" and not _holds_in_part(result):
            result.outcome, result.listed = "failed", "holds"
            result.reason = "it holds now, and the baseline lists it as deviating: take it from the list"
        elif result.outcome == "failed" and not known.allows(result.rule.id, today):
            result.listed = "expired"
            result.reason += f" (the baseline allowed for this until {known.until})"
        elif result.outcome == "failed":
            result.outcome = result.listed = "known"
            result.reason = f"{known.reason} (known; {result.reason})"


def _holds_in_part(result: RuleResult) -> bool:
    return result.outcome == "passed" and any(test.outcome != "passed" for test in result.tests)


def write_baseline(path: Path, results: list[RuleResult], previous: list[Known]) -> int:
    """List what deviates now, keeping the reasons that were given before; tells how many.

    What this run did not look at stays listed as it was.

    Raises:
        ConfigError: the file cannot be written.
    """
    before = {known.rule: known for known in previous}
    now = {result.rule.id: result for result in results}
    listed: list[Known] = []
    for slug in catalogue():
        result = now.get(slug)
        if result is None or result.outcome == "not_checked" or _holds_in_part(result):
            if slug in before:
                listed.append(before[slug])
        elif result.outcome in ("failed", "known") and result.listed != "holds":
            listed.append(before.get(slug, Known(slug, "not mended yet")))
    lines = ["# Deviations that are known. One that is gone fails the run, so that this list stays true."]
    for known in listed:
        lines += ["", "[[known]]", f"rule = {json.dumps(known.rule)}  # {catalogue()[known.rule].level}"]
        lines.append(f"reason = {_toml(known.reason)}")
        lines.append(f"until = {known.until}" if known.until else "# until = 2030-12-31")
    try:
        write(path, "\n".join([*lines, ""]))
    except DestinationError as error:
        raise ConfigError(str(error)) from None
    return len(listed)


def _toml(text: str) -> str:
    """A JSON string is a TOML one, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

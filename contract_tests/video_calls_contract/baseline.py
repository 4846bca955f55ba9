"""The baseline: a TOML file of known violations, which do not fail a run.

Each entry has a rule, a reason and, optionally, the last day on which the violation is allowed. An entry for
a rule that the backend keeps fails the run, so that the list stays true.
"""

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

from video_calls_spec.encoding import EncodingError, decoded

from video_calls_contract.catalogue import catalogue
from video_calls_contract.config import ConfigError
from video_calls_contract.output_files import DestinationError, write
from video_calls_contract.results import RuleResult


@dataclass(frozen=True, slots=True)
class Entry:
    """A known violation."""

    rule: str
    reason: str
    until: date | None = None


def read_baseline(path: Path) -> list[Entry]:
    """Return the entries of a baseline file.

    Raises:
        ConfigError: if the file cannot be read or is invalid.
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
    baseline = [_parse_entry(path, entry) for entry in cast("list[object]", entries)]
    rules = [entry.rule for entry in baseline]
    if twice := next((rule for rule in rules if rules.count(rule) > 1), None):
        raise ConfigError(f"{path}: {twice} is listed twice")
    return baseline


def _parse_entry(path: Path, entry: object) -> Entry:
    table = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    rule, reason, until = (table.get(name) for name in ("rule", "reason", "until"))
    if not isinstance(rule, str) or rule not in catalogue():
        raise ConfigError(f"{path}: unknown rule {rule!r}; `video-calls-contract rules` lists all rules")
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigError(f'{path}: {rule}: a reason is missing; add reason = "…"')
    if unknown := set(table) - {"rule", "reason", "until"}:
        raise ConfigError(
            f"{path}: {rule}: unknown key {', '.join(sorted(unknown))}; known are rule, reason, until"
        )
    if until is not None and (not isinstance(until, date) or isinstance(until, datetime)):
        raise ConfigError(f"{path}: {rule}: until must be a date, as in until = 2030-12-31")
    return Entry(rule, reason.strip(), until)


def apply(baseline: Iterable[Entry], results: list[RuleResult], today: date) -> None:
    """Allow the violations that a baseline lists, and fail each entry whose rule the backend keeps.

    An entry stays if some tests of its rule did not check it, because those may show the violation.
    """
    by_rule = {entry.rule: entry for entry in baseline}
    for result in results:
        entry = by_rule.get(result.rule.id)
        if entry is None:
            continue
        if result.outcome == "passed" and not _passed_in_part(result):
            result.outcome, result.listed = "failed", "holds"
            result.reason = "the backend keeps this rule, but the baseline lists it: remove the entry"
        elif result.outcome == "failed" and entry.until is not None and entry.until < today:
            result.listed = "expired"
            result.reason += f" (the baseline allowed this until {entry.until})"
        elif result.outcome == "failed":
            result.outcome = result.listed = "known"
            result.reason = f"{entry.reason} (known; {result.reason})"


def _passed_in_part(result: RuleResult) -> bool:
    return result.outcome == "passed" and any(test.outcome != "passed" for test in result.tests)


def write_baseline(path: Path, results: list[RuleResult], previous: list[Entry]) -> int:
    """Write the violations of a run as a baseline and return their number.

    Rules in `previous` keep their reasons and days. Entries for rules that the run did not check stay
    unchanged.

    Raises:
        ConfigError: if the file cannot be written.
    """
    previous_by_rule = {entry.rule: entry for entry in previous}
    results_by_rule = {result.rule.id: result for result in results}
    baseline: list[Entry] = []
    for slug in catalogue():
        result = results_by_rule.get(slug)
        if result is None or result.outcome == "not_checked" or _passed_in_part(result):
            if slug in previous_by_rule:
                baseline.append(previous_by_rule[slug])
        elif result.outcome in ("failed", "known") and result.listed != "holds":
            baseline.append(previous_by_rule.get(slug, Entry(slug, "not fixed yet")))
    lines = ["# Known violations. An entry for a rule that the backend keeps fails the run."]
    for entry in baseline:
        lines += ["", "[[known]]", f"rule = {json.dumps(entry.rule)}  # {catalogue()[entry.rule].level}"]
        lines.append(f"reason = {_toml(entry.reason)}")
        lines.append(f"until = {entry.until}" if entry.until else "# until = 2030-12-31")
    try:
        write(path, "\n".join([*lines, ""]))
    except DestinationError as error:
        raise ConfigError(str(error)) from None
    return len(baseline)


def _toml(text: str) -> str:
    # JSON strings are TOML strings, except that TOML does not allow the delete character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

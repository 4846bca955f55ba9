"""Tests that the suite accepts the freedoms: all the behaviour that the document leaves open.

The default run tests one altered server; `nox -s freedoms` tests all.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from video_calls_contract.catalogue import NOTED
from video_calls_spec import RULES

from support.alterations import Alteration
from support.freedoms import NOTES, SERVERS, UNCHECKED
from support.suite_runs import SUITE_TIMEOUT, run_on_small_backend, run_suite


def rules_of(table: dict[str, str], names: Iterable[str]) -> set[str]:
    return {rule for name in names for rule in table.get(name, "").split()}


@pytest.mark.timeout(SUITE_TIMEOUT)
@pytest.mark.parametrize(
    "freedoms",
    [pytest.param(one, marks=pytest.mark.long if number else ()) for number, one in enumerate(SERVERS)],
    ids=range(len(SERVERS)),
)
def test_freedom_of_altered_server_is_no_violation(
    freedoms: dict[str, Alteration], altered: Callable[..., str], tmp_path: Path
) -> None:
    config = tmp_path / "contract.toml"
    config.write_text(altered(*freedoms))
    verdict = run_suite(config)
    assert verdict.failed == set(), verdict.output
    assert verdict.noted == rules_of(NOTES, freedoms), verdict.output
    assert verdict.unchecked == rules_of(UNCHECKED, freedoms), verdict.reasons
    assert (verdict.status, verdict.left) == (0, ()), verdict.output


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("switch", "rules"),
    [
        ("public-host", ["list.pages", "list.own-calls"]),
        ("digit-ids", ["list.pages", "join.again"]),
        ('--policy={"minutes": {"before": 31, "after": 31}}', ["create.no-overlap", "create.adjacent"]),
        ('--policy={"channel": "four digits"}', ["create.random-channel", "create.unique-channel"]),
    ],
)
def test_freedom_of_small_backend_is_no_violation(switch: str, rules: list[str], tmp_path: Path) -> None:
    verdict = run_on_small_backend(tmp_path, [switch], *(f"--rule={rule}" for rule in rules))
    assert (verdict.status, verdict.failed, verdict.left) == (0, set(), ()), verdict.output


def test_freedoms_leave_only_optional_rules_unchecked() -> None:
    assert rules_of(NOTES, NOTES) <= NOTED
    assert {RULES[rule].level for rule in rules_of(UNCHECKED, UNCHECKED)} <= {"should", "may"}

"""That the suite catches violations: every mutant of the reference server fails, by the right rule.

Each runs as a process of its own, and so does the suite against it, as a team's CI would run it. All of them
take forty minutes and are `nox -s mutants`; the default run has a few, judged by the rules that they break.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant, drifted
from runs import LONGEST, Verdict, judged
from test_switches import BREAKS
from video_calls_contract.catalogue import NOTED
from video_calls_spec import RULES

_VIOLATIONS, _CONFORMS = 1, 0

_QUICK = (
    "auth: reading a call needs no token",
    "create: overlap with later calls alone",
    "join: the token is signed with another certificate",
)
"""What the default run takes: one of each kind of thing that the suite stands on."""


def assert_caught(mutant: Mutant, verdict: Verdict) -> None:
    """The suite names a rule that the mutant breaks, and fails the run for what must not be broken."""
    assert mutant.rules & (verdict.failed | verdict.noted), verdict.output
    must = any(RULES[rule].level != "should" and rule not in NOTED for rule in mutant.rules)
    assert verdict.status == (_VIOLATIONS if must else _CONFORMS), verdict.output


@pytest.mark.parametrize("name", _QUICK)
def test_a_mutant_is_caught_by_its_rule(name: str, tmp_path: Path) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    selection = [word for rule in sorted(mutant.rules) for word in ("--rule", rule)]
    assert_caught(mutant, judged(mutant, tmp_path, *selection))


@pytest.mark.long
@pytest.mark.timeout(LONGEST + 40)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name[:60])
def test_every_mutant_is_caught(
    mutant: Mutant, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("mutant", mutant.name)
    verdict = judged(mutant, tmp_path)
    record_property("caught by", ", ".join(sorted((verdict.failed | verdict.noted) & mutant.rules)))
    record_property("also blamed", ", ".join(sorted(verdict.failed - mutant.rules)))
    record_property("seconds", f"{verdict.seconds:.1f}")
    assert_caught(mutant, verdict)


def test_every_mutant_fits_the_server() -> None:
    found = {mutant.name: drifted(mutant.changes) for mutant in MUTANTS}
    assert {name: changes for name, changes in found.items() if changes} == {}


def test_mutants_have_names_of_their_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)


def test_every_rule_has_a_mutant() -> None:
    broken = {rule for mutant in MUTANTS for rule in mutant.rules}
    broken |= {rule for switch in BREAKS for rule in switch.rules.split()}
    assert set(RULES) - broken == set(), "rules that no mutant and no switch breaks"
    assert broken - set(RULES) == set(), "rules of mutants that are not in the contract"

"""That the suite catches what the small backend breaks, by a rule that names the cause, and no freedom of it.

Each run looks only at the rules that concern its switch. The default run has a few; `nox -s mutants` has all.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
from runs import run_suite, serving

SMALL = Path(__file__).parent / "independent" / "small_backend.py"


@dataclass(frozen=True)
class Break:
    """A switch of the small backend that breaks the document.

    Attributes:
        rules: those that the suite must name.
        also: others that it looks at and must not name.
    """

    switch: str
    rules: str
    also: str = ""


BREAKS = (
    Break("list-from-cache", "list.own-calls", "join.starts-call end.completes get.returns-call"),
    Break("join-keeps-updated-at", "model.updated-at", "join.starts-call"),
    Break("end-keeps-updated-at", "model.updated-at", "end.completes"),
    Break("cancel-keeps-updated-at", "model.updated-at", "cancel.cancels"),
    Break("overlap-latest", "create.no-overlap", "create.no-race"),
    Break("overlap-window", "create.no-overlap", "create.no-race"),
    Break("overlap-one-day", "create.no-overlap", "create.no-race"),
    Break("loose-path-id", "get.not-found join.not-found end.not-found cancel.not-found"),
    Break("loose-body-id", "create.valid-body"),
    Break("list-as-id", "create.valid-body"),
    Break("object-as-id", "create.valid-body"),
    Break("number-as-time", "create.valid-body"),
    Break("rolling-days", "create.valid-body"),
    Break("profile-uid", "join.uid-differs"),
    Break("body-before-token", "errors.order", "auth.required"),
    Break("any-scheme", "auth.scheme", "auth.required auth.valid-token"),
    Break("two-ends", "end.ongoing-only", "end.completes"),
    Break("two-first-joins", "join.started-once", "join.starts-call"),
    Break("one-error-text", "errors.detailed", "errors.body"),
    Break("empty-list-404", "list.own-calls"),
    Break("foreign-page-2", "list.own-calls", "list.envelope list.pages"),
    Break("cancel-refused", "cancel.cancels", "create.schedules"),
    Break("touched-by-get", "model.updated-at", "auth.required get.returns-call join.window list.own-calls"),
    Break("body-sets-created-at", "create.read-only-fields"),
    Break("traceback", "privacy.errors", "errors.body"),
)


QUICK = ("list-from-cache", "rolling-days")
"""What the default run takes."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(one, id=one.switch, marks=() if one.switch in QUICK else pytest.mark.long)
        for one in BREAKS
    ],
)
def test_a_switch_is_caught_by_its_rule(broken: Break, tmp_path: Path) -> None:
    selection = [word for rule in f"{broken.rules} {broken.also}".split() for word in ("--rule", rule)]
    config = tmp_path / "contract.toml"
    with serving([str(SMALL), broken.switch], tmp_path, "# ready") as said:
        config.write_text(said)
        verdict = run_suite(config, *selection)
    assert verdict.failed == set(broken.rules.split()), verdict.output


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("freedom", ["public-host", "digit-ids"])
def test_a_freedom_is_not_blamed(freedom: str, tmp_path: Path) -> None:
    config = tmp_path / "contract.toml"
    with serving([str(SMALL), freedom], tmp_path, "# ready") as said:
        config.write_text(said)
        verdict = run_suite(config, "--rule=list.pages", "--rule=list.own-calls", "--rule=join.again")
    assert (verdict.status, verdict.failed, verdict.left) == (0, set(), ()), verdict.output


@pytest.mark.long
@pytest.mark.timeout(120)
def test_one_uid_for_equal_profile_numbers_is_caught_in_any_pair(tmp_path: Path) -> None:
    config = tmp_path / "contract.toml"
    with serving([str(SMALL), "profile-uid"], tmp_path, "# ready") as said:
        # The doctor has the number of the second patient.
        swapped = said.replace("[identities.patient]", "[identities.third]")
        swapped = swapped.replace("[identities.other_patient]", "[identities.patient]")
        config.write_text(swapped.replace("[identities.third]", "[identities.other_patient]"))
        verdict = run_suite(config, "--rule=join.uid-differs")
    assert verdict.failed == {"join.uid-differs"}, verdict.output


@pytest.mark.long
@pytest.mark.timeout(120)
def test_request_that_ends_the_backend_is_named(tmp_path: Path) -> None:
    config = tmp_path / "contract.toml"
    with serving([str(SMALL), "body-kills"], tmp_path, "# ready") as said:
        config.write_text(said)
        verdict = run_suite(config, "--rule=create.valid-body")
    assert verdict.status == 2, verdict.output
    named = [line for line in verdict.output.splitlines() if "the connection ended during POST" in line]
    assert any('with {"doctor": [' in line for line in named), verdict.output


@pytest.mark.long
@pytest.mark.timeout(120)
def test_requests_that_hang_share_their_waits(tmp_path: Path) -> None:
    config = tmp_path / "contract.toml"
    with serving([str(SMALL), "hanging-join"], tmp_path, "# ready") as said:
        config.write_text(said)
        verdict = run_suite(config, "--section=join", "--section=end", "--section=cancel")
    assert verdict.failed >= {"join.credentials", "join.window"}, verdict.output
    assert "got 0" not in verdict.output
    assert verdict.seconds < 100  # thirty waits of ten seconds otherwise

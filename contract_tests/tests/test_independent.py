"""That the suite leans on nothing of the reference server: backends that share no line with it conform.

The default run has the small one; the other is in `nox -s variants`.
"""

from pathlib import Path

import pytest
from runs import run_suite, serving
from video_calls_spec import RULES

HERE = Path(__file__).parent / "independent"

EVENTS = {slug for slug in RULES if slug.startswith("events.")}

BACKENDS = {
    "clinic": (
        ["-m", "clinic", "."],
        {"create.aware-time", "errors.body-everywhere", "join.token-timestamp"},
        {
            "create.idempotency-key",
            "errors.body-size",
            "join.app-id",
            "list.page-size",
            "tracing.request-id",
        },
    ),
    "small": (
        [str(HERE / "small_backend.py")],
        {"errors.allow-header"},
        {
            "create.idempotency-key",
            "errors.body-size",
            "list.page-out-of-range",
            "list.page-size",
            "tracing.request-id",
        },
    ),
}
"""How each is started, which recommendations it leaves, and what cannot be looked at there."""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", [pytest.param("clinic", marks=pytest.mark.long), "small"])
def test_an_independent_backend_conforms(name: str, tmp_path: Path) -> None:
    command, notes, unchecked = BACKENDS[name]
    config = tmp_path / "contract.toml"
    with serving(command, tmp_path, "# ready", PYTHONPATH=str(HERE)) as said:
        config.write_text(said)
        verdict = run_suite(config)
    assert verdict.failed == set(), verdict.output
    assert verdict.noted == notes, verdict.output
    assert verdict.unchecked == unchecked | EVENTS, verdict.reasons
    assert all("not offered" in verdict.reasons[slug] for slug in EVENTS)
    assert verdict.status == 0, verdict.output
    assert verdict.left == ()

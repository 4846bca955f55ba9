"""The VideoCall model: when the times of a call change. Observers check its other rules in every exchange."""

from datetime import timedelta

import pytest

from video_calls_contract.checks import require, require_success
from video_calls_contract.exceptions import Blocked
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.scenarios import Lifecycle

pytestmark = pytest.mark.late

SECOND = timedelta(seconds=1)


# "When the record was last updated"


@pytest.mark.rule("model.updated-at")
@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ("created_again", "first_join", "after_first_join"),
        ("after_second_join", "ended", "after_end"),
        ("other_after_refusal", "other_cancelled", "other_after_cancel"),
    ],
    ids=["start", "end", "cancellation"],
)
def test_change_moves_updated_at(lifecycle: Lifecycle, before: str, change: str, after: str) -> None:
    exchanges: list[Exchange] = [getattr(lifecycle, name) for name in (before, change, after)]
    step = exchanges[1]
    if not step.succeeded:
        raise Blocked(f"{step.operation} was answered {step.status_text}", step)
    earlier, later = (instant(require_success(read).get("updated_at")) for read in exchanges[::2])
    require(
        earlier is not None and later is not None and later - earlier >= SECOND,
        f"`updated_at` to move a second or more with {step.operation}, from {earlier}; got {later}",
        *exchanges,
    )


@pytest.mark.rule("model.updated-at")
def test_refused_request_keeps_updated_at(lifecycle: Lifecycle) -> None:
    reads = lifecycle.other_created_again, lifecycle.other_after_refusal
    before, after = (require_success(read).get("updated_at") for read in reads)
    require(before == after, f"`updated_at` to stay {before!r}; got {after!r}", *reads)


# "When the call actually started"


@pytest.mark.rule("model.started-at")
def test_started_at_is_time_of_first_join(lifecycle: Lifecycle) -> None:
    created = instant(require_success(lifecycle.created_again).get("created_at"))
    started = instant(require_success(lifecycle.after_first_join).get("started_at"))
    require(
        created is not None and started is not None and started - created >= SECOND,
        f"`started_at` to be the time of the first join, a second or more after {created}; got {started}",
        lifecycle.created_again,
        lifecycle.after_first_join,
    )


# "When the call ended"


@pytest.mark.rule("model.ended-at")
def test_ended_at_is_time_of_end(lifecycle: Lifecycle) -> None:
    body = require_success(lifecycle.after_end)
    started, ended = instant(body.get("started_at")), instant(body.get("ended_at"))
    require(
        started is not None and ended is not None and ended - started >= SECOND,
        f"`ended_at` to be the time of the end, seconds after {body.get('started_at')!r}; "
        f"got {body.get('ended_at')!r}",
        lifecycle.after_first_join,
        lifecycle.ended,
        lifecycle.after_end,
    )

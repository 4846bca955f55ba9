"""The VideoCall model: how times change. The observers check the rest in every exchange."""

from datetime import timedelta

import pytest

from video_calls_contract.checks import require, require_success
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.outcomes import Blocked
from video_calls_contract.scenarios import Lifecycle

SECOND = timedelta(seconds=1)


def require_move(name: str, before: Exchange, change: Exchange, after: Exchange, *, why: str) -> None:
    if not change.succeeded:
        raise Blocked(f"{why} was answered {change.answer}", change)
    earlier, later = (instant(require_success(read).get(name)) for read in (before, after))
    require(
        earlier is not None and later is not None and later - earlier >= SECOND,
        f"{why} to move `{name}` a second or more after {earlier}; got {later}",
        before,
        change,
        after,
    )


# "When the record was last updated"


@pytest.mark.rule("model.updated-at")
def test_updated_at_moves_when_call_starts(lifecycle: Lifecycle) -> None:
    before, change, after = lifecycle.created_again, lifecycle.first_join, lifecycle.after_first_join
    require_move("updated_at", before, change, after, why="the start of the call")


@pytest.mark.rule("model.updated-at")
def test_updated_at_moves_when_call_ends(lifecycle: Lifecycle) -> None:
    before, change, after = lifecycle.after_second_join, lifecycle.ended, lifecycle.after_end
    require_move("updated_at", before, change, after, why="the end of the call")


@pytest.mark.rule("model.updated-at")
def test_updated_at_moves_when_call_is_cancelled(lifecycle: Lifecycle) -> None:
    before, change = lifecycle.other_after_refusal, lifecycle.other_cancelled
    require_move("updated_at", before, change, lifecycle.other_after_cancel, why="the cancellation")


@pytest.mark.rule("model.updated-at")
def test_updated_at_stays_without_change(lifecycle: Lifecycle) -> None:
    reads = lifecycle.other_created_again, lifecycle.other_after_refusal
    before, after = (require_success(read).get("updated_at") for read in reads)
    require(before == after, f"`updated_at` to stay {before!r}; got {after!r}", *reads)


# "When the call actually started"


@pytest.mark.rule("model.started-at")
def test_started_at_is_time_of_first_join(lifecycle: Lifecycle) -> None:
    created = instant(require_success(lifecycle.created, 201).get("created_at"))
    started = instant(require_success(lifecycle.after_first_join).get("started_at"))
    require(
        created is not None and started is not None and started - created >= 3 * SECOND,
        f"`started_at` to be the time of the first join, seconds after {created}; got {started}",
        lifecycle.created,
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

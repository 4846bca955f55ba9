"""The VideoCall model: what only time shows. The rest is watched over in every exchange; see `observers`."""

from datetime import timedelta

import pytest

from video_calls_contract.checks import require, require_success
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.outcomes import Blocked
from video_calls_contract.scenarios import LongLife

SECOND = timedelta(seconds=1)


def moves(name: str, before: Exchange, change: Exchange, after: Exchange, *, why: str) -> None:
    if not change.succeeded:
        raise Blocked(f"{why} was answered {change.answer}", change)
    earlier, later = (instant(require_success(read).get(name)) for read in (before, after))
    require(
        earlier is not None and later is not None and later - earlier >= SECOND,
        f"`{name}` to move with {why}, a second or more after {earlier}; got {later}",
        before,
        change,
        after,
    )


# "When the record was last updated"


@pytest.mark.rule("model.updated-at")
def test_updated_at_moves_when_a_call_starts(long_life: LongLife) -> None:
    before, change, after = long_life.created_again, long_life.first_join, long_life.after_first_join
    moves("updated_at", before, change, after, why="the start of the call")


@pytest.mark.rule("model.updated-at")
def test_updated_at_moves_when_a_call_ends(long_life: LongLife) -> None:
    before, change, after = long_life.after_second_join, long_life.ended, long_life.after_end
    moves("updated_at", before, change, after, why="the end of the call")


@pytest.mark.rule("model.updated-at")
def test_updated_at_moves_when_a_call_is_cancelled(long_life: LongLife) -> None:
    before, change = long_life.other_after_refusal, long_life.other_cancelled
    moves("updated_at", before, change, long_life.other_after_cancel, why="the cancellation")


@pytest.mark.rule("model.updated-at")
def test_updated_at_stays_when_a_request_is_refused_or_only_reads(long_life: LongLife) -> None:
    reads = long_life.other_created_again, long_life.other_after_refusal
    before, after = (require_success(read).get("updated_at") for read in reads)
    require(before == after, f"`updated_at` to stay {before!r}; got {after!r}", *reads)


# "When the call actually started"


@pytest.mark.rule("model.started-at")
def test_a_call_starts_when_it_is_joined_and_not_when_it_is_made(long_life: LongLife) -> None:
    created = instant(require_success(long_life.created, 201).get("created_at"))
    started = instant(require_success(long_life.after_first_join).get("started_at"))
    require(
        created is not None and started is not None and started - created >= 3 * SECOND,
        f"`started_at` to be when the call was joined, seconds after {created}; got {started}",
        long_life.created,
        long_life.after_first_join,
    )


# "When the call ended"


@pytest.mark.rule("model.ended-at")
def test_the_call_ends_later_than_it_started(long_life: LongLife) -> None:
    body = require_success(long_life.after_end)
    started, ended = instant(body.get("started_at")), instant(body.get("ended_at"))
    require(
        started is not None and ended is not None and ended - started >= SECOND,
        f"`ended_at` to be when the call ended, seconds after {body.get('started_at')!r}; "
        f"got {body.get('ended_at')!r}",
        long_life.after_first_join,
        long_life.ended,
        long_life.after_end,
    )

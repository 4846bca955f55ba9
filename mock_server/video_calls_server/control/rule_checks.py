"""What the rules would decide about a call now. Pure: the domain decides, and nothing changes."""

from datetime import datetime
from typing import NamedTuple

from video_calls_spec import RuleId

from video_calls_server.domain import calls
from video_calls_server.domain.calls import (
    CHANGES,
    NEXT,
    PARTICIPANTS_ONLY,
    Action,
    Call,
    Status,
    StatusRule,
)
from video_calls_server.domain.people import Actor
from video_calls_server.domain.violation import RuleViolation, error_text

_ACTIVE: RuleId = "auth.active-user"
_WINDOW: dict[Action, tuple[RuleId, ...]] = {"join": ("join.window",)}


class Verdict(NamedTuple):
    """The outcome of an action: allowed, or refused by a rule with its error text."""

    action: Action
    refused_by: str | None
    error: str | None
    rules: dict[RuleId, bool]
    """For each rule of the action, whether it refuses when the other rules do not."""


def allowed_changes(call: Call, now: datetime) -> list[Action]:
    """Return which of join, end and cancel the rules allow to an active participant of the call now."""
    doctor = _doctor(call)
    return [action for action in CHANGES if _violation(action, call, doctor, now) is None]


def join_opening(call: Call) -> datetime | None:
    """Return when the call's join window opens, or None if the call's status forbids to join at any time."""
    opens = calls.join_opens_at(call)
    return opens if _violation("join", call, _doctor(call), opens) is None else None


def verdicts(call: Call, actor: Actor, now: datetime, *, is_active: bool) -> list[Verdict]:
    """Return the outcome of each action of this actor on this call now."""
    results = [_verdict(action, call, actor, now) for action in PARTICIPANTS_ONLY]
    return results if is_active else [_for_inactive_user(verdict) for verdict in results]


def _for_inactive_user(verdict: Verdict) -> Verdict:
    """Return the outcome for an inactive user, whom the API refuses before it checks the call."""
    rules: dict[RuleId, bool] = {_ACTIVE: True, **verdict.rules}
    return verdict._replace(refused_by=_ACTIVE, error=error_text(_ACTIVE), rules=rules)


def _verdict(action: Action, call: Call, actor: Actor, now: datetime) -> Verdict:
    participant = _doctor(call)
    allowing = _allowing_status(action)
    # Each attempt can break one rule only: that of the user, of the status, or of the time.
    attempts = (
        (call._replace(status=allowing, scheduled_time=now), actor),
        (call._replace(scheduled_time=now), participant),
        (call._replace(status=allowing), participant),
    )
    refusing = {broken.rule.id for each in attempts if (broken := _violation(action, *each, now)) is not None}
    violation = _violation(action, call, actor, now)
    rules: list[RuleId] = [PARTICIPANTS_ONLY[action], *_status_rules(action), *_WINDOW.get(action, ())]
    return Verdict(
        action,
        None if violation is None else violation.rule.id,
        None if violation is None else violation.error,
        {rule: rule in refusing for rule in rules},
    )


def _doctor(call: Call) -> Actor:
    return Actor(call.doctor.user.id, call.doctor.id, None)


def _violation(action: Action, call: Call, actor: Actor, now: datetime) -> RuleViolation | None:
    try:
        calls.role_of(actor, call, action)
        if action in CHANGES:
            CHANGES[action](call, actor, now)
    except RuleViolation as violation:
        return violation
    return None


def _allowing_status(action: Action) -> Status:
    for status, following in NEXT.get(action, {}).items():
        if not isinstance(following, StatusRule):
            return status
    return "scheduled"


def _status_rules(action: Action) -> list[RuleId]:
    following = NEXT.get(action, {}).values()
    return list(dict.fromkeys(each.rule for each in following if isinstance(each, StatusRule)))

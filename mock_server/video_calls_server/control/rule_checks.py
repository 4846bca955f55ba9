"""What the rules would decide about a call now. Pure: the domain decides, and nothing changes."""

from datetime import datetime

from msgspec import Struct
from video_calls_spec import RULES, RuleId

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
from video_calls_server.domain.violation import RuleViolation

_WINDOW: dict[Action, tuple[RuleId, ...]] = {"join": ("join.window",)}


class RuleVerdict(Struct):
    """Whether a rule would refuse the action if no other rule did; and its sentence in the API document."""

    id: RuleId
    refuses: bool
    statement: str


class ActionVerdict(Struct):
    """The outcome of an action now: allowed, or refused by a rule with its error text."""

    action: Action
    operation: str
    allowed: bool
    refused_by: str | None
    error: str | None
    rules: list[RuleVerdict]


def allowed_changes(call: Call, now: datetime) -> list[Action]:
    """Return which of join, end and cancel the rules allow to an active participant of the call now."""
    doctor = _doctor(call)
    return [action for action in CHANGES if _violation(action, call, doctor, now) is None]


def join_opening(call: Call) -> datetime | None:
    """Return when the call's join window opens, or None if the call's status never allows a join."""
    opens = calls.join_opens_at(call)
    return opens if _violation("join", call, _doctor(call), opens) is None else None


def verdicts(call: Call, actor: Actor, now: datetime, *, is_active: bool) -> list[ActionVerdict]:
    """Return the outcome of each action of this actor on this call now."""
    return [_verdict(action, call, actor, now, is_active=is_active) for action in PARTICIPANTS_ONLY]


def _verdict(action: Action, call: Call, actor: Actor, now: datetime, *, is_active: bool) -> ActionVerdict:
    participant = _doctor(call)
    allowing = _allowing_status(action)
    # Each attempt changes the call or the actor so that it can break one rule only: the rule about the user,
    # about the status, or about the time.
    attempts = (
        (call._replace(status=allowing, scheduled_time=now), actor),
        (call._replace(scheduled_time=now), participant),
        (call._replace(status=allowing), participant),
    )
    refusing = {broken.rule.id for each in attempts if (broken := _violation(action, *each, now)) is not None}
    rules: list[RuleId] = [PARTICIPANTS_ONLY[action], *_status_rules(action), *_WINDOW.get(action, ())]
    violation = _violation(action, call, actor, now)
    refusal = None if violation is None else violation.rule
    if not is_active:  # the API refuses an inactive user before it checks the call
        refusal = RULES["auth.active-user"]
        refusing.add("auth.active-user")
        rules.insert(0, "auth.active-user")
    return ActionVerdict(
        action,
        RULES[PARTICIPANTS_ONLY[action]].operation,
        refusal is None,
        None if refusal is None else refusal.id,
        None if refusal is None else refusal.error,
        [RuleVerdict(rule, rule in refusing, RULES[rule].statement) for rule in rules],
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

"""Authentication, on every operation."""

from collections.abc import Callable
from functools import partial

import pytest

from video_calls_contract.checks import require, require_refusal, require_unchanged
from video_calls_contract.created_calls import Call
from video_calls_contract.exceptions import Blocked
from video_calls_contract.exchange import Exchange, Together
from video_calls_contract.free_times import FreeTimes
from video_calls_contract.jwt import FORGERIES, forged
from video_calls_contract.pairs import Pair
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import User, Users

RequireUnauthorized = Callable[[User, str], None]


@pytest.fixture(scope="module")
def call(calls: Calls) -> Call | None:
    """Return a scheduled call that unauthorized requests must not change; None if none can be scheduled."""
    try:
        return calls.scheduled()
    except Blocked:
        return None


def every_operation(
    user: User, pair: Pair, call_id: object, free_times: FreeTimes
) -> list[Callable[[], Exchange]]:
    """Return a request of each operation as this user."""
    at = free_times.take()
    return [
        user.list,
        partial(user.get, call_id),
        partial(pair.create, user, at),
        partial(user.join, call_id),
        partial(user.end, call_id),
        partial(user.cancel, call_id),
    ]


@pytest.fixture
def require_unauthorized(calls: Calls, call: Call | None, together: Together) -> RequireUnauthorized:
    """Return a check that every operation refuses a user with 401 and changes nothing."""

    def check(user: User, because: str) -> None:
        before = call.read() if call else {}
        call_id = call.id if call else calls.backend.no_call
        exchanges = together(every_operation(user, calls.pair, call_id, calls.free_times))
        for exchange in exchanges:
            require_refusal(exchange, 401, because=because)
        if call:
            require_unchanged(before, call.doctor, *exchanges)

    return check


# "All endpoints require JWT authentication."


@pytest.mark.rule("auth.required")
def test_request_without_token_is_refused(users: Users, require_unauthorized: RequireUnauthorized) -> None:
    require_unauthorized(users.nobody, "a request without a token")


@pytest.mark.rule("auth.required")
@pytest.mark.parametrize("header", ["Bearer", "Basic ZG9jdG9yOnNlY3JldA=="])
def test_header_without_bearer_token_is_refused(
    users: Users, require_unauthorized: RequireUnauthorized, header: str
) -> None:
    user = User(f"nobody ({header.split(' ', maxsplit=1)[0]})", header, users.doctor.backend)
    require_unauthorized(user, "a request without a bearer token")


# "Include the JWT token in the Authorization header:"


@pytest.mark.rule("auth.bearer")
def test_bearer_token_is_accepted_by_every_operation(calls: Calls) -> None:
    for user in calls.pair.participants:
        call = calls.scheduled()
        for request in every_operation(user, call.pair, call.id, calls.free_times):
            exchange = request()
            require(exchange.status != 401, "every operation to accept a valid token; got 401", exchange)


@pytest.mark.rule("auth.scheme")
@pytest.mark.parametrize("scheme", ["Basic", "Anything"])
def test_token_with_other_scheme_is_refused(
    users: Users, require_unauthorized: RequireUnauthorized, scheme: str
) -> None:
    token = users.doctor.token
    user = User(f"doctor ({scheme})", f"{scheme} {token}", users.doctor.backend)
    require_unauthorized(user, f"a valid token after {scheme} instead of Bearer")


# "401: Unauthorized (no authentication)"


@pytest.mark.rule("auth.valid-token")
@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_token_is_refused(
    users: Users, require_unauthorized: RequireUnauthorized, forgery: str
) -> None:
    user = users.with_header(f"Bearer {forged(users.doctor.token, forgery)}", "forged")
    require_unauthorized(user, f"a token that is {FORGERIES[forgery]}")


@pytest.mark.rule("auth.expired-token")
def test_expired_token_is_refused(users: Users, require_unauthorized: RequireUnauthorized) -> None:
    require_unauthorized(users["expired"], "an expired token")


# Security Considerations: "All endpoints require authentication"


@pytest.mark.rule("auth.active-user")
@pytest.mark.parametrize("name", ["inactive_doctor", "inactive_patient"])
def test_deactivated_user_is_refused(users: Users, name: str) -> None:
    require_refusal(users[name].list(), 401, 403, because="the token of a deactivated user")

"""The errors of the clients.

    VideoCallsError
    ├── ConfigurationError                    an argument or the environment cannot be used
    │   └── NaiveDatetimeError                a time without an offset; also a ValueError
    ├── ConnectionFailedError                 no response: refused, reset, cut off, unreadable
    │   └── TimedOutError                     no response within the timeout
    ├── DeadlineExceededError                 no response within the deadline, all attempts together
    ├── EventsClosedError                     the server ended the events; a reconnect would not help
    │   ├── EventsExpiredError                4410
    │   └── InvalidEventIdError               4400
    ├── UnreadableFieldError                  a field that a lenient client could not read
    └── AnsweredError                         a response that is an error
        ├── InvalidResponseError              a success that departs from the contract
        └── StatusError                       a response that is not a success
            ├── RedirectError                 3xx: never followed
            ├── BadRequestError               400
            │   ├── InvalidFieldsError        create.valid-body, create.aware-time, list.page-size
            │   ├── ScheduledInPastError      create.future
            │   ├── SameUserError             create.different-users
            │   ├── SchedulingConflictError   create.no-overlap, create.no-race
            │   ├── UnknownParticipantError   create.doctor-valid, create.patient-valid
            │   ├── InactiveParticipantError  create.doctor-active, create.patient-active
            │   ├── JoinWindowError           join.window
            │   ├── CallCancelledError        join.not-cancelled
            │   ├── CallCompletedError        join.not-completed
            │   ├── CallNotOngoingError       *.ongoing-only
            │   └── CallNotScheduledError     *.scheduled-only
            ├── AuthenticationError           401
            │   └── TokenExpiredError         auth.expired-token
            ├── PermissionDeniedError         403
            │   └── NotParticipantError       *.participants-only
            ├── NotFoundError                 404
            │   ├── CallNotFoundError         *.not-found
            │   └── PageNotFoundError         list.page-out-of-range
            ├── ConflictError                 409
            ├── UnprocessableError            422
            │   └── IdempotencyKeyReusedError create.idempotency-key
            ├── RateLimitedError              429
            ├── EventsNotOfferedError         403, 404, 405, 426, 501 or 2xx in place of a WebSocket
            └── ServerError                   5xx
                └── UnavailableError          502, 503, 504

`UnreadableFieldError` is also an AttributeError. `video_calls_sdk.agora` adds `InvalidTokenError`, which is
also a ValueError.

The client raises the error of a rule if the response names the rule in `code`, or has the rule's text in
`error`. All errors can be pickled and copied. None shows a token.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from video_calls_spec import RuleId


class VideoCallsError(Exception):
    """The base class of all errors of this package.

    ```python
    try:
        client.calls.join(1)
    except JoinWindowError as error:
        print("come back later:", error.error)
    except VideoCallsError as error:
        print("something else:", error)
    ```
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[VideoCallsError], args: tuple[Any, ...], state: dict[str, Any]) -> VideoCallsError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(VideoCallsError):
    """An argument, the environment or the client itself cannot be used.

    A client cannot be used after it is closed, or in another event loop than its own.
    """


class NaiveDatetimeError(ConfigurationError, ValueError):
    """A time has no offset. The client sent nothing, because the time is ambiguous."""


class ConnectionFailedError(VideoCallsError):
    """No response: the connection was refused, reset or cut off, or the response could not be read.

    Attributes:
        method, url: of the request; the URL is without credentials and query.
        request_sent: whether the server may have received the request and carried it out.
    """

    def __init__(self, message: str, *, method: str, url: str, request_sent: bool) -> None:
        super().__init__(message)
        self.method = method
        self.url = url
        self.request_sent = request_sent


class TimedOutError(ConnectionFailedError):
    """No response came within the timeout of an attempt."""


class DeadlineExceededError(VideoCallsError):
    """No response came within the deadline, which limits all attempts and waits together.

    `__cause__` is the error of the last attempt, if the time left after it was too short to retry, or to
    check what an earlier attempt did. It is None if the deadline passed during an attempt.

    Attributes:
        method, url: of the request; the URL is without credentials and query.
        deadline: in seconds.
        request_sent: whether the server may have received the request and carried it out.
    """

    def __init__(self, *, method: str, url: str, deadline: float, request_sent: bool) -> None:
        super().__init__(f"{method} {url}: no response within the deadline of {deadline:g} seconds")
        self.method = method
        self.url = url
        self.deadline = deadline
        self.request_sent = request_sent


class AnsweredError(VideoCallsError):
    """A response that is an error.

    Values from the response have their secrets redacted and their control characters escaped.

    Attributes:
        status: the HTTP status.
        method, url: of the request; the URL is without credentials and query.
        request_id: the server's `X-Request-ID`; None if there is none.
        headers: of the response, names in lower case.
        body: the parsed JSON, else the text; None if it is empty.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        method: str,
        url: str,
        request_id: str | None,
        headers: Mapping[str, str],
        body: Any,  # noqa: ANN401 (JSON of any shape)
    ) -> None:
        super().__init__(message)
        self.status = status
        self.method = method
        self.url = url
        self.request_id = request_id
        self.headers = dict(headers)
        self.body = body

    def __str__(self) -> str:
        trace = f" (request id {self.request_id})" if self.request_id else ""
        return f"{self.method} {self.url}: {self.status}: {self.args[0]}{trace}"


class InvalidResponseError(AnsweredError):
    """A success whose body departs from the contract.

    Attributes:
        problems: where it departs from the contract and how, such as `results.0.id: field required`.
    """

    def __init__(self, message: str, *, problems: list[str], **response: Any) -> None:  # noqa: ANN401
        super().__init__(message, **response)
        self.problems = problems


class UnreadableFieldError(VideoCallsError, AttributeError):
    """The program used a field that a client with `answers="lenient"` could not read."""


class EventsClosedError(VideoCallsError):
    """The server closed the connection for events, and a reconnect would not help.

    Attributes:
        code: the close code of the WebSocket.
        reason: the server's text; may be empty.
        url: of the connection, without its query.
        last_event_id: the id of the last event that was delivered; None if there was none.
    """

    meaning: ClassVar[str] = "the server ended the events"

    def __init__(self, reason: str, *, code: int, url: str, last_event_id: str | None) -> None:
        super().__init__(f"{url}: {self.meaning} (code {code}{reason and f': {reason}'})")
        self.reason = reason
        self.code = code
        self.url = url
        self.last_event_id = last_event_id


class EventsExpiredError(EventsClosedError):
    """The server no longer keeps the events after `after`. Fetch the calls, then follow without `after`."""

    meaning = "the server no longer keeps the events after the last one; fetch the calls, and omit `after`"


class InvalidEventIdError(EventsClosedError):
    """The value of `after` is not the id of an event."""

    meaning = "`after` is not the id of an event of this backend"


class StatusError(AnsweredError):
    """A response that is not a success.

    ```python
    except StatusError as error:
        log.warning("%s, rule %s, request id %s", error.error, error.rule, error.request_id)
    ```

    Attributes:
        error: the server's text, from `{"error"}`, `{"detail"}`, `{"field": ["…"]}` or plain text, else the
            phrase of the status.
        code: the `code` of the response: the slug of a rule, or a kind of error; None if there is none.
        rule: the rule of the contract that refused the request; None if it is unknown.
        fields: messages by field of the request.
        retry_after: the seconds that the server asks to wait; None if it does not.
        doubtful: whether the server may have carried out an earlier attempt, which got no response or a 5xx.
    """

    def __init__(
        self,
        error: str,
        *,
        code: str | None = None,
        rule: RuleId | None = None,
        fields: Mapping[str, list[str]] | None = None,
        retry_after: float | None = None,
        **response: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(error, **response)
        self.error = error
        self.code = code
        self.rule = rule
        self.fields = dict(fields or {})
        self.retry_after = retry_after
        self.doubtful = False


class RedirectError(StatusError):
    """3xx. The client does not follow redirects, because a token must not reach another origin."""


class BadRequestError(StatusError):
    """400: the server refuses the request, or the current status of the call does not allow it."""


class InvalidFieldsError(BadRequestError):
    """A field of the request is missing, malformed or out of its bounds; `fields` says which."""


class ScheduledInPastError(BadRequestError):
    """The document says "Scheduled time must be in the future" (2. Create Video Call)."""


class SameUserError(BadRequestError):
    """The document says "Doctor and patient cannot be the same user" (2. Create Video Call)."""


class SchedulingConflictError(BadRequestError):
    """The document says "No overlapping calls within 30 minutes […]" (2. Create Video Call)."""


class UnknownParticipantError(BadRequestError):
    """The document says "Both doctor and patient must be valid […] users" (2. Create Video Call)."""


class InactiveParticipantError(BadRequestError):
    """The document says "Both doctor and patient must be […] active users" (2. Create Video Call)."""


class JoinWindowError(BadRequestError):
    """The document says "Call must be scheduled within the next 15 minutes" (4. Join Video Call)."""


class CallCancelledError(BadRequestError):
    """The call is cancelled: "Call must not be cancelled or completed" (4. Join Video Call)."""


class CallCompletedError(BadRequestError):
    """The call is completed: "Call must not be cancelled or completed" (4. Join Video Call)."""


class CallNotOngoingError(BadRequestError):
    """The document says "Call status must be 'ongoing'" (5. End Video Call)."""


class CallNotScheduledError(BadRequestError):
    """The document says "Call status must be 'scheduled'" (6. Cancel Video Call)."""


class AuthenticationError(StatusError):
    """401: the token is missing or invalid. If `token` is a function, the client has called it again."""


class TokenExpiredError(AuthenticationError):
    """The token has expired."""


class PermissionDeniedError(StatusError):
    """403: this user may not do this."""


class NotParticipantError(PermissionDeniedError):
    """The document says "User must be either the doctor or patient of the call"."""


class NotFoundError(StatusError):
    """404: not found."""


class CallNotFoundError(NotFoundError):
    """There is no such call."""


class PageNotFoundError(NotFoundError):
    """There is no such page."""


class ConflictError(StatusError):
    """409. The contract has no such response, but some backends do."""


class UnprocessableError(StatusError):
    """422: the server refuses the content of the request."""


class IdempotencyKeyReusedError(UnprocessableError):
    """The `idempotency_key` was used before, for another call."""


class RateLimitedError(StatusError):
    """429: too many requests, after all retries that the deadline allows. Wait `retry_after` seconds."""


class EventsNotOfferedError(StatusError):
    """The backend has no events, or none for this user. Events are optional."""


class ServerError(StatusError):
    """5xx: the server failed."""


class UnavailableError(ServerError):
    """502, 503 or 504: the server or its proxy cannot respond at present."""


_BY_RULE: dict[str, type[StatusError]] = {
    "create.valid-body": InvalidFieldsError,
    "create.aware-time": InvalidFieldsError,
    "list.page-size": InvalidFieldsError,
    "create.future": ScheduledInPastError,
    "create.different-users": SameUserError,
    "create.no-overlap": SchedulingConflictError,
    "create.no-race": SchedulingConflictError,
    "create.doctor-valid": UnknownParticipantError,
    "create.patient-valid": UnknownParticipantError,
    "create.doctor-active": InactiveParticipantError,
    "create.patient-active": InactiveParticipantError,
    "join.window": JoinWindowError,
    "join.not-cancelled": CallCancelledError,
    "join.not-completed": CallCompletedError,
    "*.ongoing-only": CallNotOngoingError,
    "*.scheduled-only": CallNotScheduledError,
    "auth.expired-token": TokenExpiredError,
    "*.participants-only": NotParticipantError,
    "*.not-found": CallNotFoundError,
    "list.page-out-of-range": PageNotFoundError,
    "create.idempotency-key": IdempotencyKeyReusedError,
}
"""The rules that have an error class of their own; `*` stands for any operation."""

_BY_STATUS: dict[int, type[StatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


def class_for(status: int, rule: RuleId | None) -> type[StatusError]:
    """Return the most specific error class for a response."""
    if rule is not None:
        for_any_operation = f"*.{rule.partition('.')[2]}"
        cls = _BY_RULE.get(rule) or _BY_RULE.get(for_any_operation)
        if cls is not None:
            return cls
    if (cls := _BY_STATUS.get(status)) is not None:
        return cls
    if 300 <= status < 400:  # noqa: PLR2004 (the redirections)
        return RedirectError
    return ServerError if status >= 500 else StatusError  # noqa: PLR2004 (the server's errors)

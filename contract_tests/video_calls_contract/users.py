"""Sends requests as the users of the configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from video_calls_contract.backend import UNSET, Backend
from video_calls_contract.config import Config, ConfigError, Identity
from video_calls_contract.exceptions import Missing, Unreachable
from video_calls_contract.exchange import Exchange
from video_calls_contract.identity_tokens import Token
from video_calls_contract.ids import Id

_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class User:
    """A user of the API, who sends requests.

    Attributes:
        name: the name of the identity in the configuration, for reports.
        credential: a token, or the value of the `Authorization` header; None to send no header.
        doctor: the id of the user's doctor profile, if there is one.
        patient: the id of the user's patient profile, if there is one.
    """

    name: str
    credential: Token | str | None = field(repr=False)
    backend: Backend = field(repr=False)
    doctor: Id | None = None
    patient: Id | None = None

    @property
    def authorization(self) -> str | None:
        """The `Authorization` header; None if the user sends none.

        Raises:
            Unreachable: if the command that prints the token fails.
        """
        if not isinstance(self.credential, Token):
            return self.credential
        try:
            return f"Bearer {self.credential.value()}"
        except ConfigError as error:
            raise Unreachable(str(error)) from None

    @property
    def token(self) -> str:
        """The token of the header; empty if there is none."""
        return (self.authorization or "").removeprefix("Bearer ")

    def check_expiry(self, token: str) -> None:
        """Raise an exception if a refused token has expired, because then the backend was right to refuse it.

        Raises:
            Missing: if the token has expired, and a command prints new ones.
            Unreachable: if the token has expired, and there is no other.
        """
        own = self.credential
        if not isinstance(own, Token) or not own.has_expired(token):
            return
        if own.has_command:
            raise Missing(f"the token of [identities.{self.name}] expired before the test ended")
        raise Unreachable(own.refusal_reason)

    def send(
        self,
        method: str,
        path: str,
        *,
        operation: str | None = None,
        headers: Mapping[str, str] | None = None,
        json_body: Any = UNSET,  # noqa: ANN401 (any JSON, the wrong kinds too)
        content: bytes | None = None,
    ) -> Exchange:
        """Send any request as this user."""

        def attempt(authorization: str | None) -> Exchange:
            header = {} if authorization is None else {"Authorization": authorization}
            return self.backend.send(
                method,
                path,
                operation=operation,
                user=self.name,
                headers={**header, **(headers or {})},
                json_body=json_body,
                content=content,
            )

        sent = self.authorization
        exchange = attempt(sent)
        if isinstance(self.credential, Token) and "Authorization" not in (headers or {}):
            if exchange.status == _UNAUTHORIZED and self.credential.was_accepted:
                return self._retry_with_new_token(self.credential, sent, exchange, attempt)
            self.credential.was_accepted |= exchange.succeeded
        return exchange

    def _retry_with_new_token(
        self, token: Token, sent: str | None, refusal: Exchange, attempt: Callable[[str | None], Exchange]
    ) -> Exchange:
        """Repeat a request that got 401, if there is a new token.

        Raises:
            Unreachable: if other operations refuse the user's tokens with 401, too.
        """
        try:
            is_replaced = token.replace((sent or "").removeprefix("Bearer "))
        except ConfigError as error:
            raise Unreachable(str(error)) from None
        if is_replaced:
            refusal = attempt(self.authorization)
            if refusal.status != _UNAUTHORIZED:
                return refusal
            token.note_refusal()
        # If only one operation refuses a valid token, the tests report this violation.
        authorization = self.authorization or ""
        if all(
            self.backend.send("GET", path, headers={"Authorization": authorization}).status == _UNAUTHORIZED
            for path in ("/video-calls/", f"/video-calls/{self.backend.no_call}/")
        ):
            raise Unreachable(token.refusal_reason)
        return refusal

    def list(self, query: str = "") -> Exchange:
        """Read the first page of the list, or the page of a query such as `page_size=2`."""
        path = f"/video-calls/?{query}" if query else "/video-calls/"
        return self.send("GET", path, operation="listVideoCalls")

    def follow(self, link: str) -> Exchange:
        """Read the page of a `next` or `previous` link, at the origin of `base_url`."""
        return self.send("GET", self.backend.local_url(link) or "/video-calls/", operation="listVideoCalls")

    def create(
        self,
        doctor: object,
        patient: object,
        scheduled_time: object,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: object,
    ) -> Exchange:
        """Send a request that creates a call at this time: a datetime, or any other value."""
        body = {"doctor": doctor, "patient": patient, "scheduled_time": wire_time(scheduled_time), **fields}
        return self.post_call(body, headers=headers)

    def post_call(
        self,
        body: object = UNSET,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Exchange:
        """Send a request that creates a call, with a JSON body or with any content."""
        return self.send(
            "POST",
            "/video-calls/",
            operation="createVideoCall",
            headers=headers,
            json_body=body,
            content=content,
        )

    def get(self, call_id: object) -> Exchange:
        """Read a call."""
        return self.send("GET", f"/video-calls/{call_id}/", operation="getVideoCall")

    def join(self, call_id: object) -> Exchange:
        """Join a call."""
        return self.act("join", call_id)

    def end(self, call_id: object) -> Exchange:
        """End a call."""
        return self.act("end", call_id)

    def cancel(self, call_id: object) -> Exchange:
        """Cancel a call."""
        return self.act("cancel", call_id)

    def act(self, action: str, call_id: object) -> Exchange:
        """Read a call (`get`), or send an action such as `join`."""
        if action == "get":
            return self.get(call_id)
        return self.send("POST", f"/video-calls/{call_id}/{action}/", operation=f"{action}VideoCall")


def wire_time(value: object) -> object:
    """Return a datetime as the document writes it, and any other value unchanged."""
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() == timedelta(0):
        return value.replace(tzinfo=None).isoformat() + "Z"
    return value.isoformat()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004


class Users:
    """The users of the configuration, by the names of their identities.

    Raises:
        Missing: if the configuration lacks the user that is read.
    """

    def __init__(self, config: Config, backend: Backend) -> None:
        self._config = config
        self._backend = backend
        self._credentials: dict[str, Token | str] = {}
        backend.expect_ids(config.identities["doctor"].doctor)
        for identity in config.identities.values():
            if identity.token and identity.name == "expired":
                backend.redactor.learn(identity.token, identity.variable)
                self._credentials[identity.name] = f"Bearer {identity.token}"
            elif identity.token:
                self._credentials[identity.name] = Token(identity, backend.redactor, backend.clock.now)
        if config.agora.app_certificate:
            backend.redactor.learn(config.agora.app_certificate, "AGORA_APP_CERTIFICATE")

    def __getitem__(self, name: str) -> User:
        identity = self.identity(name)
        if name not in self._credentials:
            raise Missing(f"[identities.{name}] of the configuration has no token")
        return User(name, self._credentials[name], self._backend, identity.doctor, identity.patient)

    def expiring_soon(self, seconds: float) -> list[str]:
        """Return a note for each token that expires within `seconds`, if no command prints a new one."""
        return [
            f"the token of [identities.{name}] expires in {_duration(left)}, perhaps before the run ends; "
            "use token_command instead of token to get new ones"
            for name, token in self._credentials.items()
            if isinstance(token, Token)
            and not token.has_command
            and (left := token.seconds_left) is not None
            and 0 < left < seconds
        ]

    def identity(self, name: str) -> Identity:
        """Return an identity of the configuration, with or without a token.

        Raises:
            Missing: if there is none.
        """
        try:
            return self._config.identities[name]
        except KeyError:
            raise Missing(f"the configuration has no [identities.{name}]") from None

    def has(self, name: str) -> bool:
        """Return whether the configuration has this user, with a token."""
        identity = self._config.identities.get(name)
        return identity is not None and identity.token is not None

    def present(self, *names: str) -> list[User]:
        """Return the users with these names; leave out names that the configuration does not have."""
        return [self[name] for name in names if self.has(name)]

    @property
    def doctor(self) -> User:
        """The doctor."""
        return self["doctor"]

    @property
    def patient(self) -> User:
        """The patient."""
        return self["patient"]

    @property
    def nobody(self) -> User:
        """A client without a token."""
        return User("nobody", None, self._backend)

    def with_header(self, authorization: str, name: str) -> User:
        """Return a user with this `Authorization` header and this name in reports."""
        self._backend.redactor.learn(authorization.removeprefix("Bearer "), f"{name.upper()}_TOKEN")
        return User(name, authorization, self._backend)

"""JSON Web Tokens: checking those of requests, and making those of the development identities.

The algorithm is the configured one and never the token's choice. Claims are laid out as
djangorestframework-simplejwt does: `token_type`, `user_id`, `exp`, `iat`, `jti`.
"""

import base64
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn
from uuid import uuid4

import jwt
import msgspec
from video_calls_spec import RuleId

from video_calls_server.api.errors import Refusal
from video_calls_server.observability import request_id
from video_calls_server.settings import JwtAlgorithm, Settings, SettingsError

CHALLENGE = {"WWW-Authenticate": "Bearer"}
LONGEST_TOKEN = 8192  # characters
REMEMBERED_TOKENS = 1024
REMEMBERED_FOR = 60.0  # seconds; a key that was withdrawn stops working by then
LARGEST_ID = 2**63 - 1
LONGEST_EMAIL = 254
LONGEST_REASON = 200  # characters
LATEST = 253_402_300_799  # the last second of the year 9999

_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)  # RFC 7515, 3.1
_ID = re.compile(r"0|[1-9]\d{0,18}", re.ASCII)  # 0101 is another text than 101

logger = logging.getLogger("video_calls_server")

Key = jwt.PyJWK | str | bytes


KeySource = Callable[[str], Awaitable[Key]]
"""Returns the key that checks a token.

It raises `jwt.PyJWTError` if there is none, and `UnavailableError` if the keys cannot be fetched for now.
"""


class Verified(NamedTuple):
    """Whom a token stands for, by id or e-mail address, and when it expires, in seconds since 1970."""

    user: int | str
    expires: float


class TokenVerifier:
    """Tells which user a token is of.

    The signature of a token that was good is not checked again for `REMEMBERED_FOR` seconds, nor
    beyond its expiry. Whether the user is still active is not remembered.
    """

    def __init__(self, settings: Settings, key_of: KeySource) -> None:
        self._key_of = key_of
        self._algorithm: JwtAlgorithm = settings.jwt_algorithm
        self._user_claim = settings.jwt_user_claim
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._leeway = settings.jwt_leeway
        self._remembered: dict[str, tuple[Verified, float]] = {}

    async def verify(self, authorization: str | None) -> Verified:
        """Whom an `Authorization` header stands for.

        Raises:
            Refusal: `auth.required`, `auth.valid-token` or `auth.expired-token`.
        """
        token = bearer_token(authorization)
        now = time.time()
        remembered = self._remembered.get(token)
        if remembered is not None and remembered[1] > now:
            return remembered[0]
        self._remembered.pop(token, None)
        verified = await self._verify(token)
        if len(self._remembered) >= REMEMBERED_TOKENS:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[token] = verified, min(verified.expires, now + REMEMBERED_FOR)
        return verified

    async def _verify(self, token: str) -> Verified:
        try:
            return await self._checked(token)
        except jwt.ExpiredSignatureError as error:
            raise _refused("auth.expired-token", "it has expired") from error
        except _NOT_VALID as error:
            raise _refused("auth.valid-token", str(error) or type(error).__name__) from error

    async def _checked(self, token: str) -> Verified:
        if len(token) > LONGEST_TOKEN or not _COMPACT.fullmatch(token):
            raise ValueError("it is not a JWT in compact form")
        key = await self._key_of(token)
        jwt.decode(
            token,
            key,
            algorithms=[self._algorithm],
            issuer=self._issuer,
            audience=self._audience,
            options={
                "require": ["exp", self._user_claim],
                "verify_aud": self._audience is not None,
                "verify_iat": False,  # these two have a leeway, unlike `exp`
                "verify_nbf": False,
                "enforce_minimum_key_length": True,  # RFC 7518, 3.3: an RSA key has 2048 bits or more
            },
        )
        _, members = (_json(segment) for segment in token.split(".")[:2])
        claims = msgspec.convert(members, _Claims)
        if max(claims.iat, claims.nbf) > datetime.now(UTC).timestamp() + self._leeway:  # PyJWT's clock
            raise ValueError("its iat or nbf is in the future; see --jwt-leeway")
        if members.get("token_type", "access") != "access":
            text = "The token is not an access token"
            raise _refused("auth.valid-token", "its token_type is not access", error=text)
        return Verified(_user(members[self._user_claim]), claims.exp)


# PyJWT parses what has no signature yet: beside its own errors, what JSON can do to a parser.
_NOT_VALID = (
    jwt.PyJWTError,
    msgspec.ValidationError,
    ValueError,
    TypeError,
    ArithmeticError,
    RecursionError,
)


def _refused(rule: RuleId, reason: str, *, error: str | None = None) -> Refusal:
    """Return the refusal of a token, and log the reason, which no answer tells."""
    logger.info(
        "token refused: %(reason)s request_id=%(request_id)s",
        {"reason": ascii(reason[:LONGEST_REASON])[1:-1], "request_id": request_id.request_id.get()},
    )
    return Refusal(rule, CHALLENGE, error=error)


Seconds = Annotated[float, msgspec.Meta(ge=0, le=LATEST)]


class _Claims(msgspec.Struct):
    """The claims as RFC 7519 types them; PyJWT takes a text for a number, and any number for a date."""

    exp: Seconds
    iat: Seconds = 0.0
    nbf: Seconds = 0.0
    iss: str | None = None
    aud: str | list[str] | None = None


def _json(segment: str) -> Any:  # noqa: ANN401 (JSON)
    """Return the JSON of a segment: in UTF-8, and with unique names (RFC 7515, 4; RFC 7519, 4)."""
    text = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode("utf-8")
    return json.loads(text, object_pairs_hook=_unique_members, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _user(claim: object) -> int | str:
    """Return the id, or the e-mail address, that a claim holds.

    Raises:
        ValueError: if it holds neither.
    """
    if isinstance(claim, str) and _ID.fullmatch(claim):
        claim = int(claim)
    if isinstance(claim, int) and not isinstance(claim, bool) and -LARGEST_ID <= claim <= LARGEST_ID:
        return claim
    if isinstance(claim, str) and len(claim) <= LONGEST_EMAIL:
        claim.encode()  # a lone surrogate is no text
        return claim
    raise ValueError("its claim names no user")


def bearer_token(authorization: str | None) -> str:
    """The token of an `Authorization` header.

    Raises:
        Refusal: `auth.required`: there is none, or it is of another scheme.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not (token := token.strip()):
        raise Refusal("auth.required", CHALLENGE)
    return token


def key_source(settings: Settings) -> KeySource:
    """Return where the configured keys come from.

    Raises:
        SettingsError: if a configured key cannot be read.
    """
    if settings.jwt_jwks_url is not None:
        from video_calls_server.api.jwks import JwksKeys

        return JwksKeys(settings.jwt_jwks_url, settings.jwt_algorithm).key_of
    key: Key | None = settings.signing_secret
    if settings.jwt_public_key is not None:
        key = _public_key(settings.jwt_public_key, settings.jwt_algorithm)
    assert key is not None  # noqa: S101 (the settings have checked it)
    return _fixed(key)


def _fixed(key: Key) -> KeySource:
    async def key_of(_token: str) -> Key:
        return key

    return key_of


def _public_key(path: Path, algorithm: JwtAlgorithm) -> bytes:
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"jwt_public_key: cannot read {path}: {error.strerror}") from error
    try:
        jwt.get_algorithm_by_name(algorithm).prepare_key(pem)
        usable = b"PRIVATE KEY" not in pem  # which does not belong on this server
    except (ValueError, TypeError, jwt.InvalidKeyError):
        usable = False
    if not usable:
        raise SettingsError(f"jwt_public_key: {path} is not the PEM public key of {algorithm} tokens")
    return pem


def make_token(
    settings: Settings, user_id: int, *, expires_in: float, claims: Mapping[str, object] | None = None
) -> str:
    """A JWT for a user that expires in so many seconds, or expired so many ago where that is negative.

    `claims` are added to its claims, or stand in their place.

    Raises:
        SettingsError: JWTs are signed elsewhere.
    """
    secret = settings.signing_secret
    if secret is None:
        raise SettingsError(
            f"jwt_algorithm: with {settings.jwt_algorithm} tokens are signed by your identity provider; "
            "this server holds only the public key and cannot make one"
        )
    issued = int(time.time())
    content: dict[str, object] = {
        "token_type": "access",
        "exp": issued + int(expires_in),
        "iat": min(issued, issued + int(expires_in)),
        "jti": uuid4().hex,
        settings.jwt_user_claim: str(user_id) if settings.jwt_user_claim == "sub" else user_id,
    }
    if settings.jwt_issuer is not None:
        content["iss"] = settings.jwt_issuer
    if settings.jwt_audience is not None:
        content["aud"] = settings.jwt_audience
    return jwt.encode(content | dict(claims or {}), secret, algorithm="HS256")

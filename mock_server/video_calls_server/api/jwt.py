"""JSON Web Tokens: verify those of requests, and make those of the development identities.

The settings choose the algorithm, never the token. The claims are those of djangorestframework-simplejwt:
`token_type`, `user_id`, `exp`, `iat`, `jti`.
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
from video_calls_server.observability.request_id import current_request_id
from video_calls_server.settings import JwtAlgorithm, Settings, SettingsError

CHALLENGE = {"WWW-Authenticate": "Bearer"}
LARGEST_ID = 2**63 - 1

_LONGEST_TOKEN = 8192  # characters
_LONGEST_EMAIL = 254
_LONGEST_REASON = 200  # characters
_CACHE_SIZE = 1024  # tokens
_CACHE_LIFETIME = 60.0  # seconds; tokens of a withdrawn key stop working after this time
_LATEST_TIME = 253_402_300_799  # the last second of the year 9999

_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)  # RFC 7515, 3.1
_ID = re.compile(r"0|[1-9]\d{0,18}", re.ASCII)  # no leading zero: 0101 is another text than 101

logger = logging.getLogger("video_calls_server")

Key = jwt.PyJWK | str | bytes
KeySource = Callable[[str], Awaitable[Key]]
"""Returns the key that verifies a token.

It raises `jwt.PyJWTError` if there is no such key, and `UnavailableError` if the keys cannot be fetched now.
"""


class VerifiedToken(NamedTuple):
    """The user that a token names, by id or e-mail address, and the token's expiry in seconds since 1970."""

    user: int | str
    expires: float


class TokenVerifier:
    """Verifies tokens, and caches the valid ones until they expire, at most for a minute.

    It does not cache whether the user is active, because a deactivated user must be refused at once.
    """

    def __init__(self, settings: Settings, key_of: KeySource) -> None:
        self._key_of = key_of
        self._algorithm: JwtAlgorithm = settings.jwt_algorithm
        self._user_claim = settings.jwt_user_claim
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._leeway = settings.jwt_leeway
        self._cache: dict[str, tuple[VerifiedToken, float]] = {}

    async def verify(self, authorization: str | None) -> VerifiedToken:
        """Return the user and the expiry of the token in an `Authorization` header.

        Raises:
            Refusal: if the header breaks `auth.required`, `auth.valid-token` or `auth.expired-token`.
        """
        token = bearer_token(authorization)
        now = time.time()
        cached = self._cache.get(token)
        if cached is not None and cached[1] > now:
            return cached[0]
        self._cache.pop(token, None)
        verified = await self._verify(token)
        if len(self._cache) >= _CACHE_SIZE:
            del self._cache[next(iter(self._cache))]
        self._cache[token] = verified, min(verified.expires, now + _CACHE_LIFETIME)
        return verified

    async def _verify(self, token: str) -> VerifiedToken:
        try:
            return await self._decode(token)
        except jwt.ExpiredSignatureError as error:
            raise _log_refusal("auth.expired-token", "it has expired") from error
        except _PARSER_ERRORS as error:
            raise _log_refusal("auth.valid-token", str(error) or type(error).__name__) from error

    async def _decode(self, token: str) -> VerifiedToken:
        if len(token) > _LONGEST_TOKEN or not _COMPACT.fullmatch(token):
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
                # Check iat and nbf below, because the leeway applies to them and not to exp.
                "verify_iat": False,
                "verify_nbf": False,
                "enforce_minimum_key_length": True,  # RFC 7518, 3.3: an RSA key has 2048 bits or more
            },
        )
        _, members = (_parse_segment(segment) for segment in token.split(".")[:2])
        claims = msgspec.convert(members, _Claims)
        # PyJWT checks exp with the same clock.
        if max(claims.iat, claims.nbf) > datetime.now(UTC).timestamp() + self._leeway:
            raise ValueError("its iat or nbf is in the future; see --jwt-leeway")
        if members.get("token_type", "access") != "access":
            text = "The token is not an access token"
            raise _log_refusal("auth.valid-token", "its token_type is not access", error=text)
        return VerifiedToken(_user(members[self._user_claim]), claims.exp)


# PyJWT parses the token before it checks the signature, so hostile JSON can raise any error of a parser.
_PARSER_ERRORS = (
    jwt.PyJWTError,
    msgspec.ValidationError,
    ValueError,
    TypeError,
    ArithmeticError,
    RecursionError,
)


def _log_refusal(rule: RuleId, reason: str, *, error: str | None = None) -> Refusal:
    """Log why a token is refused, because the response does not say it, and return the refusal."""
    logger.info(
        "token refused: %(reason)s request_id=%(request_id)s",
        {"reason": ascii(reason[:_LONGEST_REASON])[1:-1], "request_id": current_request_id.get()},
    )
    return Refusal(rule, CHALLENGE, error=error)


_Seconds = Annotated[float, msgspec.Meta(ge=0, le=_LATEST_TIME)]


class _Claims(msgspec.Struct):
    """The claims with the types of RFC 7519; PyJWT is less strict about numbers and dates."""

    exp: _Seconds
    iat: _Seconds = 0.0
    nbf: _Seconds = 0.0
    iss: str | None = None
    aud: str | list[str] | None = None


def _parse_segment(segment: str) -> Any:  # noqa: ANN401 (JSON)
    """Return the JSON value of a segment. Its text must be UTF-8, and its names must be unique.

    RFC 7515, 4 and RFC 7519, 4 require this.
    """
    text = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode("utf-8")
    return json.loads(text, object_pairs_hook=_unique_members, parse_constant=_reject_constant)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _user(claim: object) -> int | str:
    """Return the id or the e-mail address in a claim.

    Raises:
        ValueError: if the claim is neither an id nor an e-mail address.
    """
    if isinstance(claim, str) and _ID.fullmatch(claim):
        claim = int(claim)
    if isinstance(claim, int) and not isinstance(claim, bool) and -LARGEST_ID <= claim <= LARGEST_ID:
        return claim
    if isinstance(claim, str) and len(claim) <= _LONGEST_EMAIL:
        claim.encode()  # raises ValueError for a lone surrogate
        return claim
    raise ValueError("its claim names no user")


def bearer_token(authorization: str | None) -> str:
    """Return the token in an `Authorization` header.

    Raises:
        Refusal: if the header is missing or has another scheme (`auth.required`).
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not (token := token.strip()):
        raise Refusal("auth.required", CHALLENGE)
    return token


def key_source(settings: Settings) -> KeySource:
    """Return the function that finds the key for a token, as the settings say.

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

    async def key_of(_token: str, key: Key = key) -> Key:
        return key

    return key_of


def _public_key(path: Path, algorithm: JwtAlgorithm) -> bytes:
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"jwt_public_key: cannot read {path}: {error.strerror}") from error
    try:
        jwt.get_algorithm_by_name(algorithm).prepare_key(pem)
        is_usable = b"PRIVATE KEY" not in pem  # a private key does not belong on this server
    except (ValueError, TypeError, jwt.InvalidKeyError):
        is_usable = False
    if not is_usable:
        raise SettingsError(f"jwt_public_key: {path} is not the PEM public key of {algorithm} tokens")
    return pem


def make_token(
    settings: Settings, user_id: int, *, expires_in: float, claims: Mapping[str, object] | None = None
) -> str:
    """Return a JWT for a user.

    Args:
        settings: the settings of the server that will verify the token.
        user_id: the id of the user.
        expires_in: the seconds until the expiry; a negative number makes an expired token.
        claims: further claims; they replace the usual claims of the same name.

    Raises:
        SettingsError: if an identity provider signs the JWTs.
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

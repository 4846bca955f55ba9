"""JSON Web Tokens: checking those of requests, and making those of the development identities.

The algorithm is the configured one and never the token's choice. Claims are laid out as
djangorestframework-simplejwt does: `token_type`, `user_id`, `exp`, `iat`, `jti`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

import jwt

from video_calls_server.api.errors import refused
from video_calls_server.settings import JwtAlgorithm, Settings, SettingsError

CHALLENGE = {"WWW-Authenticate": "Bearer"}
LONGEST_TOKEN = 8192  # characters
REMEMBERED_TOKENS = 1024
REMEMBERED_FOR = 60.0  # seconds; a key that was withdrawn stops working by then
LARGEST_ID = 2**63 - 1
LONGEST_EMAIL = 254

Key = jwt.PyJWK | str | bytes


class KeySource(Protocol):
    """Where the key that checks a token comes from."""

    async def key_of(self, token: str) -> Key:
        """The key for this token.

        Raises:
            jwt.PyJWTError: there is none.
            UnavailableError: the keys cannot be had for now.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedKey:
    """One key for every token: a secret, or a public key."""

    key: Key

    async def key_of(self, token: str) -> Key:  # noqa: ARG002 (the key is the same for all)
        """That key."""
        return self.key


class Verified(NamedTuple):
    """Whom a token stands for, by id or e-mail address, and when it expires, in seconds since 1970."""

    user: int | str
    expires: float


class TokenVerifier:
    """Tells which user a token is of.

    The signature of a token that was good is not checked again for `REMEMBERED_FOR` seconds, nor
    beyond its expiry. Whether the user is still active is not remembered.
    """

    def __init__(self, settings: Settings, keys: KeySource) -> None:
        self._keys = keys
        self._algorithm: JwtAlgorithm = settings.jwt_algorithm
        self._user_claim = settings.jwt_user_claim
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._remembered: dict[str, tuple[Verified, float]] = {}

    async def verify(self, authorization: str | None) -> Verified:
        """Whom an `Authorization` header stands for.

        Raises:
            Refused: `auth.required`, `auth.valid-token` or `auth.expired-token`.
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
        if len(token) > LONGEST_TOKEN:
            raise refused("auth.valid-token", CHALLENGE)
        try:
            key = await self._keys.key_of(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", self._user_claim], "verify_aud": self._audience is not None},
            )
            user = _user(claims[self._user_claim])
            expires = float(claims["exp"])
        except jwt.ExpiredSignatureError as error:
            raise refused("auth.expired-token", CHALLENGE) from error
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            # PyJWT parses what has no signature yet: beside its own errors, what JSON can do to a parser.
            raise refused("auth.valid-token", CHALLENGE) from error
        if claims.get("token_type", "access") != "access":
            raise refused("auth.valid-token", CHALLENGE, error="The token is not an access token")
        return Verified(user, expires)


def _user(claim: object) -> int | str:
    """The id, or the e-mail address, that a claim holds.

    Raises:
        ValueError: it holds neither.
    """
    if isinstance(claim, str) and claim.isascii() and claim.isdigit() and len(claim) <= len(str(LARGEST_ID)):
        claim = int(claim)
    if isinstance(claim, int) and not isinstance(claim, bool) and -LARGEST_ID <= claim <= LARGEST_ID:
        return claim
    if isinstance(claim, str) and len(claim) <= LONGEST_EMAIL:
        claim.encode()  # a lone surrogate is no text
        return claim
    raise ValueError("the claim names no user")


def bearer_token(authorization: str | None) -> str:
    """The token of an `Authorization` header.

    Raises:
        Refused: `auth.required`: there is none, or it is of another scheme.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not (token := token.strip()):
        raise refused("auth.required", CHALLENGE)
    return token


def key_source(settings: Settings) -> KeySource:
    """Where the configured keys come from.

    Raises:
        SettingsError: a configured key cannot be read.
    """
    if settings.signing_secret is not None:
        return FixedKey(settings.signing_secret)
    if settings.jwt_public_key is not None:
        return FixedKey(_public_key(settings.jwt_public_key, settings.jwt_algorithm))
    from video_calls_server.api.jwks import JwksKeys

    assert settings.jwt_jwks_url is not None  # noqa: S101 (the settings have checked it)
    return JwksKeys(settings.jwt_jwks_url)


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

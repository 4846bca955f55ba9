"""Public keys from an identity provider's key set (JWKS), fetched when a token needs one not yet known."""

import asyncio
import time

import httpx
import jwt

from video_calls_server.unavailable import UnavailableError

LIFETIME = 300.0
"""Seconds after which a key set is fetched anew, so that a withdrawn key stops working."""

COOLDOWN = 10.0
"""Least seconds between two fetches, so that tokens with invented key ids cannot make the server fetch."""


class JwksKeys:
    """The keys of a JWKS URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def key_of(self, token: str) -> jwt.PyJWK:
        """The key that the token's header names or, where it names none, the only one.

        Raises:
            jwt.PyJWTError: the key set has no such key.
            UnavailableError: the key set cannot be fetched for now.
        """
        name = jwt.get_unverified_header(token).get("kid")
        async with self._lock:
            now = time.monotonic()
            stale = now - self._fetched > LIFETIME
            unknown = len(self._keys) != 1 if name is None else name not in self._keys
            if (stale or unknown) and now - self._tried > COOLDOWN:
                self._tried = now
                await self._fetch()
            elif stale:
                raise UnavailableError(f"the key set at {self._url} could not be fetched")
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if name not in self._keys:
            raise jwt.InvalidKeyError("the key set has no such key")
        return self._keys[name]

    async def _fetch(self) -> None:
        try:
            async with httpx.AsyncClient(timeout=5.0) as client:
                response = await client.get(self._url)
                response.raise_for_status()
            keys = jwt.PyJWKSet.from_dict(response.json()).keys
        except (httpx.HTTPError, ValueError, AttributeError, TypeError, jwt.PyJWTError) as error:
            raise UnavailableError(f"the key set at {self._url} could not be fetched: {error}") from error
        self._keys = {key.key_id or "": key for key in keys}
        self._fetched = time.monotonic()

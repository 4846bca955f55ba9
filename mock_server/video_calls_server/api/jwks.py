"""Public keys from an identity provider's key set (JWKS), fetched when a token needs one not yet known."""

import asyncio
import json
import time
from typing import cast

import httpx
import jwt

from video_calls_server.settings import JwtAlgorithm, without_credentials
from video_calls_server.store import UnavailableError

LIFETIME = 300.0
"""Seconds after which a key set is fetched again, so that a withdrawn key stops working."""

OUTAGE = 3600.0
"""Seconds for which known keys still work if the key set cannot be fetched."""

COOLDOWN = 10.0
"""Least seconds between two fetches, so that tokens with invented key ids cannot make the server fetch."""

TIMEOUT = 5.0
"""Seconds within which the whole key set must have arrived."""

LARGEST = 256 * 1024
"""The largest key set, in bytes."""


class JwksKeys:
    """The keys of a JWKS URL that are for signatures of one algorithm."""

    def __init__(self, url: str, algorithm: JwtAlgorithm) -> None:
        self._url = url
        self._algorithm = algorithm
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._failure: str | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def key_of(self, token: str) -> jwt.PyJWK:
        """Return the key that the token's header names or, if it names none, the only one.

        A known key is returned at once, also while the key set is fetched again.

        Raises:
            jwt.PyJWTError: if the key set has no such key.
            UnavailableError: if the key set cannot be fetched for now.
        """
        name = jwt.get_unverified_header(token).get("kid")
        key, age = self._key(name), time.monotonic() - self._fetched
        if key is not None and age < OUTAGE:
            if age > LIFETIME:
                self._fetch_again()
            return key
        if (fetching := self._fetch_again()) is not None:
            await asyncio.shield(fetching)  # other requests wait for it too
        if self._failure is not None:
            raise UnavailableError(f"the key set could not be fetched: {self._failure}")
        key = self._key(name)
        if key is None:
            raise jwt.InvalidKeyError("the key set has no such key")
        return key

    def _key(self, name: str | None) -> jwt.PyJWK | None:
        if name is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(name)

    def _fetch_again(self) -> "asyncio.Task[None] | None":
        """Return the fetch that is under way or, unless the last one was just now, a new one."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if time.monotonic() - self._tried <= COOLDOWN:
            return None
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        self._tried = time.monotonic()
        try:
            content = await self._content()
            keys = [key for key in json.loads(content)["keys"] if _checks_signatures(key)]
            self._keys = {
                key.key_id or "": key
                for key in jwt.PyJWKSet.from_dict({"keys": keys}).keys
                if key.algorithm_name == self._algorithm
            }
            self._fetched, self._failure = time.monotonic(), None
        except httpx.HTTPStatusError as error:  # whose text has the whole URL
            self._failure = f"{without_credentials(self._url)} answered {error.response.status_code}"
        except TimeoutError:
            self._failure = f"{without_credentials(self._url)} did not answer within {TIMEOUT:g} seconds"
        except (httpx.HTTPError, ValueError, LookupError, AttributeError, TypeError, jwt.PyJWTError) as error:
            self._failure = f"{without_credentials(self._url)}: {error or type(error).__name__}"

    async def _content(self) -> bytes:
        """Return what the URL answers, uncompressed."""
        content = b""
        headers = {"Accept-Encoding": "identity"}
        async with (
            asyncio.timeout(TIMEOUT),
            httpx.AsyncClient(timeout=TIMEOUT) as client,
            client.stream("GET", self._url, headers=headers) as response,
        ):
            response.raise_for_status()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > LARGEST:
                    raise ValueError(f"the answer is larger than {LARGEST} bytes")
        return content


def _checks_signatures(member: object) -> bool:
    """Whether a member of a key set is a key for signatures (RFC 7517, 4.2 and 4.3)."""
    if not isinstance(member, dict):
        return False
    key = cast("dict[str, object]", member)
    operations = key.get("key_ops", ["verify"])
    return key.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations

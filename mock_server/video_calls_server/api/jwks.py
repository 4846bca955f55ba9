"""Public keys from an identity provider's key set (JWKS), fetched when a token names an unknown key."""

import asyncio
import json
import time
from typing import cast

import httpx
import jwt

from video_calls_server.settings import JwtAlgorithm, without_credentials
from video_calls_server.store import UnavailableError

LIFETIME = 300.0
"""Seconds after which the key set is fetched again, so that a withdrawn key stops working."""

OUTAGE = 3600.0
"""Seconds for which the last keys still work if the key set cannot be fetched."""

COOLDOWN = 10.0
"""Minimum seconds between two fetches, so that not every token with an invented key id causes a fetch."""

TIMEOUT = 5.0
"""Seconds for fetching the whole key set."""

LARGEST_KEY_SET = 256 * 1024
"""Bytes of the largest key set."""


class JwksKeys:
    """The keys in the key set at a URL that verify signatures of one algorithm."""

    def __init__(self, url: str, algorithm: JwtAlgorithm) -> None:
        self._url = url
        self._algorithm = algorithm
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._attempted_at = float("-inf")
        self._failure: str | None = None
        self._fetch_task: asyncio.Task[None] | None = None

    async def key_of(self, token: str) -> jwt.PyJWK:
        """Return the key that the token's header names. If the header names none, return the only key.

        A cached key is returned at once, even while the key set is fetched again.

        Raises:
            jwt.PyJWTError: if the key set has no such key.
            UnavailableError: if the key set cannot be fetched now.
        """
        name = jwt.get_unverified_header(token).get("kid")
        key, age = self._key(name), time.monotonic() - self._fetched_at
        if key is not None and age < OUTAGE:
            if age > LIFETIME:
                self._start_fetch()
            return key
        if (fetch := self._start_fetch()) is not None:
            await asyncio.shield(fetch)  # shielded, because other requests wait for it too
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

    def _start_fetch(self) -> "asyncio.Task[None] | None":
        """Return the running fetch, or start one. Return None during the cooldown."""
        if self._fetch_task is not None and not self._fetch_task.done():
            return self._fetch_task
        if time.monotonic() - self._attempted_at <= COOLDOWN:
            return None
        self._fetch_task = asyncio.create_task(self._fetch())
        return self._fetch_task

    async def _fetch(self) -> None:
        self._attempted_at = time.monotonic()
        try:
            content = await self._content()
            keys = [key for key in json.loads(content)["keys"] if _is_for_signatures(key)]
            self._keys = {
                key.key_id or "": key
                for key in jwt.PyJWKSet.from_dict({"keys": keys}).keys
                if key.algorithm_name == self._algorithm
            }
            self._fetched_at, self._failure = time.monotonic(), None
        except httpx.HTTPStatusError as error:  # its text contains the URL's secrets
            self._failure = f"{without_credentials(self._url)} answered {error.response.status_code}"
        except TimeoutError:
            self._failure = f"{without_credentials(self._url)} did not answer within {TIMEOUT:g} seconds"
        except (httpx.HTTPError, ValueError, LookupError, AttributeError, TypeError, jwt.PyJWTError) as error:
            self._failure = f"{without_credentials(self._url)}: {error or type(error).__name__}"

    async def _content(self) -> bytes:
        """Fetch the key set and return its bytes, without compression, so that the size limit holds."""
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
                if len(content) > LARGEST_KEY_SET:
                    raise ValueError(f"the response is larger than {LARGEST_KEY_SET} bytes")
        return content


def _is_for_signatures(member: object) -> bool:
    """Return whether a member of a key set is a key for signatures (RFC 7517, 4.2 and 4.3)."""
    if not isinstance(member, dict):
        return False
    key = cast("dict[str, object]", member)
    operations = key.get("key_ops", ["verify"])
    return key.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations

"""Whether what is watched is the API: one request without a token, before anything passes."""

from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from video_calls_contract.config import API_PATH, Config
from video_calls_contract.connection import certificate_problem, connection

__all__ = ["Target", "TargetError", "find_target"]

_TIMEOUT = 10.0
_REFUSALS = (401, 403)


class TargetError(Exception):
    """The target is not the API, or cannot be reached; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class Target:
    """The API that is watched.

    Attributes:
        base_url: its root.
        host: the `Host` that it has to be sent; None if it answers to that of the proxy's clients too.
    """

    base_url: str
    host: str | None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"


def find_target(config: Config, listens_at: str) -> Target:
    """Return the API at the base URL of a configuration, or below it at the document's path.

    The list of calls is asked for without a token, with the `Host` of the proxy's clients and, if that is not
    answered, with the target's own.

    Raises:
        TargetError: if there is no such API.
        ConfigError: if a certificate or a proxy cannot be used.
    """
    roots = [config.base_url]
    if not config.base_url.endswith(API_PATH):
        roots.insert(0, config.base_url + API_PATH)
    reached_by = connection(config)
    url = problem = ""
    with httpx.Client(
        timeout=_TIMEOUT,
        trust_env=False,
        verify=reached_by.context or False,
        proxy=reached_by.httpx_proxy,
        headers={"Accept": "application/json", "User-Agent": "video-calls-contract"},
    ) as client:
        for host in (listens_at, None):
            for root in roots:
                url = f"{root}/video-calls/"
                try:
                    answer = client.get(url, headers={"Host": host} if host else {})
                except httpx.HTTPError as error:
                    why = certificate_problem(error) or str(error) or type(error).__name__
                    raise TargetError(f"{root} cannot be reached: {why}; is the target right?") from None
                problem = _problem(answer)
                if not problem:
                    return Target(root, None if host else urlsplit(root).netloc)
    raise TargetError(f"there is no Video Calls API at {config.base_url}: {url} {problem}")


def _problem(answer: httpx.Response) -> str:
    """Return why an answer is not that of the list of calls without a token; empty if it may be."""
    kind = answer.headers.get("content-type", "no Content-Type").partition(";")[0].strip()
    status = answer.status_code
    if answer.is_redirect:
        return f"was answered {status}, to {answer.headers.get('location', '')}"
    if "html" in kind:
        return f"was answered {status} with {kind}, a page for people"
    if status in _REFUSALS:
        scheme = answer.headers.get("www-authenticate", "")
        return f"asks for {scheme.split()[0]} authentication" if scheme.lower().startswith("basic") else ""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.is_success and isinstance(body, dict) and "results" in body:
        return ""
    return f"was answered {status} with {kind}, not as the list of calls is; give the API's root, such as https://staging.example.com{API_PATH}"

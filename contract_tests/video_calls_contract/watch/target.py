"""Finds the API at the target, with a request without a token, before the proxy starts."""

from dataclasses import replace
from urllib.parse import urlsplit

import httpx

from video_calls_contract.config import API_PATH, Config
from video_calls_contract.connection_settings import certificate_problem, connection

_TIMEOUT = 10.0
_REFUSALS = (401, 403)


class TargetError(Exception):
    """The target is not the API, or the suite cannot reach it; the message says what to change."""


def find_target(config: Config, address: str) -> tuple[Config, str]:
    """Find the API at the base URL of a configuration, or at the document's path below it.

    Return the configuration with the root of the API, and the `Host` to send to the target. This `Host` is
    empty if the target accepts the one that clients of the proxy send.

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
        for host in (address, None):
            for root in roots:
                url = f"{root}/video-calls/"
                try:
                    response = client.get(url, headers={"Host": host} if host else {})
                except httpx.HTTPError as error:
                    why = certificate_problem(error) or str(error) or type(error).__name__
                    raise TargetError(f"{root} cannot be reached: {why}; is the target right?") from None
                problem = _problem(response)
                if not problem:
                    return replace(config, base_url=root), "" if host else urlsplit(root).netloc
    raise TargetError(
        f"there is no Video Calls API at {config.base_url}: {url} {problem}; "
        f"give the API's root, such as https://staging.example.com{API_PATH}"
    )


def _problem(response: httpx.Response) -> str:
    """Return why a response to a list without a token is not from the API; empty if it may be."""
    kind = response.headers.get("content-type", "no Content-Type").partition(";")[0].strip()
    if response.status_code in _REFUSALS and "html" not in kind:
        is_basic = response.headers.get("www-authenticate", "").lower().startswith("basic")
        return "asks for Basic authentication" if is_basic else ""
    if response.is_success and kind == "application/json" and b'"results"' in response.content:
        return ""
    return f"was answered {response.status_code} with {kind}"

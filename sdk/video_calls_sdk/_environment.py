"""The proxy and the certificates of the environment, for requests and for events.

httpx and websockets read the environment in different ways, and their errors do not name the variable. This
module reads the environment for both. No I/O beyond the environment and the certificate files.
"""

import os
import ssl
from typing import NamedTuple

import httpx
from video_calls_spec.proxies import environment_proxy, masked

from video_calls_sdk._errors import ConfigurationError

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


class Proxy(NamedTuple):
    """A proxy that an environment variable names.

    Attributes:
        url: its address, with its port and credentials.
        setting: the variable and its value, with credentials masked, for an error message.
    """

    url: str
    setting: str

    def unusable(self, reason: object) -> ConfigurationError:
        """Return the error for a proxy that cannot be used."""
        return ConfigurationError(f"{self.setting}: the proxy cannot be used: {reason}")


def proxy_of(base_url: str) -> Proxy | None:
    """Return the proxy through which the environment sends requests for a URL, or None.

    Raises:
        ConfigurationError: if the environment's proxy is not a URL of a supported scheme.
    """
    variable = environment_proxy(base_url)
    if variable is None:
        return None
    proxy = Proxy("", variable.setting)
    try:
        url = httpx.URL(variable.url)
    except httpx.InvalidURL as error:
        raise proxy.unusable(masked(str(error))) from None
    if url.scheme not in _PORTS:
        raise proxy.unusable(f"its scheme is not one of {', '.join(_PORTS)}")
    if not url.host:
        raise proxy.unusable("it has no host")
    address = f"[{url.host}]" if ":" in url.host else url.host
    user = url.userinfo.decode("ascii")
    credentials = f"{user if ':' in user else f'{user}:'}@" if user else ""
    return proxy._replace(url=f"{url.scheme}://{credentials}{address}:{url.port or _PORTS[url.scheme]}")


def tls() -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates of `SSL_CERT_FILE` or `SSL_CERT_DIR`, else certifi's.

    Raises:
        ConfigurationError: if the certificates cannot be loaded.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        variables = " ".join(f"{name}={value}" for name in _TLS_VARIABLES if (value := os.environ.get(name)))
        raise ConfigurationError(
            f"{variables or 'certifi'}: the certificates cannot be loaded: {error}"
        ) from error

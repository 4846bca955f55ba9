"""The proxy and the certificates that the environment names, for requests and for events alike.

httpx and websockets read the environment in different ways, and their errors do not name the variable. This
module reads it for both. No I/O beyond the environment and the files of certificates.
"""

import os
import ssl
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.request import getproxies, proxy_bypass

import httpx

from video_calls_sdk._errors import ConfigurationError

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


class Proxy(NamedTuple):
    """A proxy that the environment names.

    Attributes:
        url: its address, with its port and credentials.
        setting: the variable and its value, with credentials masked, for an error message.
    """

    url: str
    setting: str

    def unusable(self, reason: object) -> ConfigurationError:
        """The error for a proxy that cannot be used."""
        return ConfigurationError(f"{self.setting}: the proxy cannot be used: {reason}")


def proxy_of(base_url: str) -> Proxy | None:
    """The proxy through which the environment sends requests for a URL, or None.

    A proxy without a scheme is an HTTP proxy. `NO_PROXY` holds names, addresses and networks (`::1/128`).

    Raises:
        ConfigurationError: if the environment's proxy is not a URL of a supported scheme.
    """
    url, settings = httpx.URL(base_url), getproxies()
    scheme = next((each for each in (url.scheme, "all") if settings.get(each)), None)
    if scheme is None or _goes_direct(url, settings.get("no", "")):
        return None
    value = settings[scheme]
    proxy = Proxy("", f"{_variable(scheme)}={_masked(value)}")
    try:
        given = httpx.URL(value if "://" in value else f"http://{value}")
    except httpx.InvalidURL as error:
        raise proxy.unusable(_masked(str(error))) from None
    if given.scheme not in _PORTS:
        raise proxy.unusable(f"its scheme is not one of {', '.join(_PORTS)}")
    if not given.host:
        raise proxy.unusable("it has no host")
    address = f"[{given.host}]" if ":" in given.host else given.host
    user = given.userinfo.decode("ascii")
    credentials = f"{user if ':' in user else f'{user}:'}@" if user else ""
    return proxy._replace(url=f"{given.scheme}://{credentials}{address}:{given.port or _PORTS[given.scheme]}")


def tls() -> ssl.SSLContext:
    """The certificates to trust: those of `SSL_CERT_FILE` or `SSL_CERT_DIR`, or else those of certifi.

    Raises:
        ConfigurationError: if they cannot be loaded.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        named = " ".join(f"{name}={value}" for name in _TLS_VARIABLES if (value := os.environ.get(name)))
        raise ConfigurationError(
            f"{named or 'certifi'}: the certificates cannot be loaded: {error}"
        ) from error


def _goes_direct(url: httpx.URL, no_proxy: str) -> bool:
    entries = [entry.strip() for entry in no_proxy.split(",")]
    if "*" in entries or proxy_bypass(f"{url.host}:{url.port or _PORTS[url.scheme]}"):
        return True
    try:
        address = ip_address(url.host)
    except ValueError:
        return False
    for entry in entries:
        with suppress(ValueError):  # a name, or a mistake: neither is an address
            if address in ip_network(entry.strip("[]"), strict=False):
                return True
    return False


def _variable(scheme: str) -> str:
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    return next((name for name in names if os.environ.get(name)), "the system's proxy")


def _masked(value: str) -> str:
    """A URL without the credentials that it may hold."""
    before, at, host = value.rpartition("@")
    scheme, separator, _ = before.partition("://")
    return f"{scheme if separator else ''}{separator}***@{host}" if at else value

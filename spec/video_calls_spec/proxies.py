"""The proxy of the environment for a URL.

No I/O beyond the environment, and no import beyond the standard library.
"""

import os
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PORTS = {"http": 80, "https": 443}


class EnvironmentProxy(NamedTuple):
    """A proxy of the environment.

    Attributes:
        variable: the name of the variable.
        value: its value, which may hold credentials.
    """

    variable: str
    value: str

    @property
    def url(self) -> str:
        """Return the URL of the proxy; the default scheme is http."""
        return self.value if "://" in self.value else f"http://{self.value}"

    @property
    def setting(self) -> str:
        """Return the variable and its value, without credentials, for messages."""
        return f"{self.variable}={masked(self.value)}"


def environment_proxy(url: str) -> EnvironmentProxy | None:
    """Return the proxy that the environment sets for an http or https URL; None if it sets none.

    `NO_PROXY` may contain names, names with a port, addresses and networks (`::1/128`).
    """
    parts, settings = urlsplit(url), getproxies()
    scheme = next((each for each in (parts.scheme, "all") if settings.get(each)), None)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    if scheme is None or _goes_direct(host, port, settings.get("no", "")):
        return None
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    variable = next((name for name in names if os.environ.get(name)), "the system's settings")
    return EnvironmentProxy(variable, settings[scheme])


def masked(url: str) -> str:
    """Return a URL with its credentials masked."""
    before, at, host = url.rpartition("@")
    scheme, separator, _ = before.partition("://")
    return f"{scheme if separator else ''}{separator}***@{host}" if at else url


def _goes_direct(host: str, port: int, no_proxy: str) -> bool:
    entries = [entry.strip() for entry in no_proxy.split(",")]
    if "*" in entries or proxy_bypass(f"{host}:{port}"):
        return True
    with suppress(ValueError):  # if the host is a name
        address = ip_address(host)
        for entry in entries:
            with suppress(ValueError):  # if the entry is a name
                if address in ip_network(entry.strip("[]"), strict=False):
                    return True
    return False

"""How the backend is reached: the certificates that are trusted and shown, and the proxy.

The options and the environment are read once, for HTTP and for events alike. No request is sent here.
"""

import os
import re
import ssl
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from video_calls_spec.proxies import EnvironmentProxy, environment_proxy, masked

from video_calls_contract.config import Config, ConfigError, Tls

__all__ = ["Connection", "certificate_problem", "connection"]

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_SOCKS = ("socks5", "socks5h")
_SOCKS_PACKAGES = ("socksio", "python_socks")  # what httpx and websockets each need for it
_UNKNOWN_ISSUER = (18, 19, 20, 21)  # OpenSSL's codes for a certificate whose authority is not trusted


@dataclass(frozen=True, slots=True)
class Connection:
    """What HTTP and events connect with.

    Attributes:
        context: for TLS; None if neither the backend nor the proxy has it.
        proxy: a URL; None if there is none.
        through: how messages name the proxy: its variable and its URL, without credentials.
    """

    context: ssl.SSLContext | None = None
    proxy: str | None = None
    through: str = ""

    @property
    def httpx_proxy(self) -> httpx.Proxy | None:
        """The proxy, as httpx takes it."""
        return httpx.Proxy(self.proxy, ssl_context=self.proxy_context) if self.proxy else None

    @property
    def proxy_context(self) -> ssl.SSLContext | None:
        """For TLS with the proxy itself; None if it has none."""
        return self.context if (self.proxy or "").startswith("https:") else None


def connection(config: Config) -> Connection:
    """Return how to reach the backend of a configuration.

    Raises:
        ConfigError: if a certificate, or a variable of the environment, cannot be used.
    """
    named = environment_proxy(config.base_url) if config.use_proxy else None
    proxy = _checked(named) if named else None
    encrypted = any((url or "").startswith("https:") for url in (config.base_url, proxy))
    through = f"the proxy of {named.variable} ({masked(named.url)})" if named else ""
    return Connection(_context(config.tls) if encrypted else None, proxy, through)


# -- Certificates ----------------------------------------------------------------------------------


def _context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca) if tls.ca else _default_context()
    except OSError as error:
        raise _not_readable("ca", tls.ca, error) from None
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise _not_readable("cert", tls.cert, error, " with its key") from None
    return context


def _default_context() -> ssl.SSLContext:
    for variable in _CERTIFICATES:
        path = os.environ.get(variable)
        if path and not Path(path).exists():
            raise ConfigError(
                f"{variable}={path}: there is no such file or directory; set it right or unset it"
            )
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        named = next((f"{name}={os.environ[name]}" for name in _CERTIFICATES if os.environ.get(name)), "")
        raise ConfigError(f"{named}: holds no certificates that can be read: {error}") from None


def _no_password() -> str:
    raise ValueError("the key has a password, which cannot be given")


def _not_readable(name: str, path: Path | None, error: Exception, more: str = "") -> ConfigError:
    why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return ConfigError(f"{name} {path}: cannot be used as PEM{more}: {why}")


def certificate_problem(error: BaseException) -> str:
    """Return what an error says about certificates, and the options that help; empty if nothing."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        help_ = (
            "; give the certificate of its authority with --ca FILE (`ca` in contract.toml) or SSL_CERT_FILE"
            if cause.verify_code in _UNKNOWN_ISSUER
            else ""
        )
        return f"its certificate is not accepted: {cause.verify_message}{help_}"
    if re.search(r"CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED", cause.reason or ""):
        return (
            f"it did not accept the client's certificate, or wants one ({cause.reason}); "
            "give --cert FILE and --key FILE (`cert` and `key` in contract.toml)"
        )
    return ""


# -- The proxy -------------------------------------------------------------------------------------


def _checked(named: EnvironmentProxy) -> str:
    """Return the URL of a proxy that can be used."""
    try:
        parts = urlsplit(named.url)
        is_good = bool(parts.hostname) and parts.port != 0 and parts.scheme in (*_SOCKS, "http", "https")
        httpx.Proxy(named.url)
    except (ValueError, httpx.InvalidURL):
        is_good = False
    if not is_good:
        raise ConfigError(
            f"{named.setting}: is not the URL of a proxy, such as http://proxy.example.com:3128"
        )
    if urlsplit(named.url).scheme in _SOCKS and not all(map(find_spec, _SOCKS_PACKAGES)):
        raise ConfigError(
            f"{named.setting}: a SOCKS proxy needs two more packages: "
            "pip install 'httpx[socks]' python-socks; or name the backend's host in NO_PROXY"
        )
    return named.url

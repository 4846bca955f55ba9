"""How to reach the backend: the trusted certificates, the client's certificate, and the proxy.

HTTP and events share these settings. This module sends no requests.
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

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_SOCKS = ("socks5", "socks5h")
_SOCKS_PACKAGES = ("socksio", "python_socks")  # for SOCKS, httpx needs the first, websockets the second
_UNKNOWN_ISSUER = (18, 19, 20, 21)  # OpenSSL's codes for a certificate whose authority is not trusted


@dataclass(frozen=True, slots=True)
class Connection:
    """Settings of connections to the backend.

    Attributes:
        context: the TLS context; None if neither the backend nor the proxy uses TLS.
        proxy: the URL of the proxy; None if there is none.
        through: the proxy in messages: its variable and its URL, without credentials.
    """

    context: ssl.SSLContext | None = None
    proxy: str | None = None
    through: str = ""

    @property
    def httpx_proxy(self) -> httpx.Proxy | None:
        """The proxy as an argument for httpx."""
        return httpx.Proxy(self.proxy, ssl_context=self.proxy_context) if self.proxy else None

    @property
    def proxy_context(self) -> ssl.SSLContext | None:
        """The TLS context for the proxy itself; None if the proxy does not use TLS."""
        return self.context if (self.proxy or "").startswith("https:") else None


def connection(config: Config) -> Connection:
    """Return how to reach the backend of a configuration.

    Raises:
        ConfigError: if a certificate or an environment variable cannot be used.
    """
    variable = environment_proxy(config.base_url) if config.use_proxy else None
    proxy = _usable_url(variable) if variable else None
    encrypted = any((url or "").startswith("https:") for url in (config.base_url, proxy))
    through = f"the proxy of {variable.variable} ({masked(variable.url)})" if variable else ""
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
                f"{variable}={path}: there is no such file or directory; correct it or unset it"
            )
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        setting = next((f"{name}={os.environ[name]}" for name in _CERTIFICATES if os.environ.get(name)), "")
        raise ConfigError(f"{setting}: holds no readable certificates: {error}") from None


def _no_password() -> str:
    raise ValueError("the key has a password, which the suite does not support")


def _not_readable(name: str, path: Path | None, error: Exception, more: str = "") -> ConfigError:
    why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return ConfigError(f"{name} {path}: cannot be used as PEM{more}: {why}")


def certificate_problem(error: BaseException) -> str:
    """Return what is wrong with a certificate, and which options help; empty for other errors."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        help_ = (
            "; pass the certificate of its authority with --ca FILE (`ca` in contract.toml) or SSL_CERT_FILE"
            if cause.verify_code in _UNKNOWN_ISSUER
            else ""
        )
        return f"its certificate is not accepted: {cause.verify_message}{help_}"
    if re.search(r"CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED", cause.reason or ""):
        return (
            f"it does not accept the client's certificate, or requires one ({cause.reason}); "
            "pass --cert FILE and --key FILE (`cert` and `key` in contract.toml)"
        )
    return ""


# -- The proxy -------------------------------------------------------------------------------------


def _usable_url(proxy: EnvironmentProxy) -> str:
    """Return the URL of a proxy, checked.

    Raises:
        ConfigError: if it cannot be used.
    """
    try:
        parts = urlsplit(proxy.url)
        is_valid = bool(parts.hostname) and parts.port != 0 and parts.scheme in (*_SOCKS, "http", "https")
        httpx.Proxy(proxy.url)
    except (ValueError, httpx.InvalidURL):
        is_valid = False
    if not is_valid:
        raise ConfigError(
            f"{proxy.setting}: is not the URL of a proxy, such as http://proxy.example.com:3128"
        )
    if urlsplit(proxy.url).scheme in _SOCKS and not all(map(find_spec, _SOCKS_PACKAGES)):
        raise ConfigError(
            f"{proxy.setting}: a SOCKS proxy needs two more packages: "
            "pip install 'httpx[socks]' python-socks; or name the backend's host in NO_PROXY"
        )
    return proxy.url

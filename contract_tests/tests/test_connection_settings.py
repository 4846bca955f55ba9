"""Tests of certificates and proxies, from options and from the environment."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from video_calls_contract.backend import Backend
from video_calls_contract.command import main
from video_calls_contract.config import ConfigError, Tls, parse_config
from video_calls_contract.connection_settings import connection
from video_calls_contract.event_listener import Listener
from video_calls_contract.exceptions import NotTheBackend
from video_calls_contract.exchange import NO_RESPONSE
from video_calls_contract.redaction import Redactor
from video_calls_contract.users import User
from websockets.sync.server import serve

from support.certificates import server_context
from support.fake_backend import TOKENS, FakeBackend, fake_backend, scheduling

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
STAGING = "https://staging.example.com/api/v1/video"


_backends: list[Backend] = []


@pytest.fixture(autouse=True)
def _closed_backends() -> Iterator[None]:
    yield
    while _backends:
        _backends.pop().close()


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def doctor(url: str, tls: Tls = Tls()) -> User:  # noqa: B008 (frozen)
    config = parse_config(FakeBackend(url).toml(), "contract.toml", tls=tls)
    backend = Backend(url, Redactor(), timeout=5, connection=connection(config))
    _backends.append(backend)
    return User("doctor", f"Bearer {TOKENS['doctor']}", backend)


# -- Certificates ----------------------------------------------------------------------------------


def test_private_authority_is_trusted_if_configured(pems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_backend(scheduling, server_context(pems)) as backend:
        assert doctor(backend.url, Tls(ca=pems / "ca.pem")).list().status == 200
        with pytest.raises(NotTheBackend, match=r"--ca FILE.*SSL_CERT_FILE"):
            doctor(backend.url).list()
        monkeypatch.setenv("SSL_CERT_FILE", str(pems / "ca.pem"))
        assert doctor(backend.url).list().status == 200


def test_client_certificate_is_sent_if_configured(pems: Path) -> None:
    with fake_backend(scheduling, server_context(pems, client=True)) as backend:
        own = Tls(pems / "ca.pem", pems / "client.pem", pems / "client.key")
        assert doctor(backend.url, own).list().status == 200
        with pytest.raises(NotTheBackend, match="--cert FILE and --key FILE"):
            doctor(backend.url, Tls(ca=pems / "ca.pem")).list()


def test_events_use_the_same_certificates(pems: Path) -> None:
    with websocket_server(server_context(pems, client=True)) as url:
        own = Tls(pems / "ca.pem", pems / "client.pem", pems / "client.key")
        with Listener(doctor(url, own)) as listener:
            assert listener.stays_open(0.1)
        with Listener(doctor(url)) as listener:
            assert "--ca FILE" in listener.ending


@contextmanager
def websocket_server(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0, ssl=tls) as server:  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.socket.getsockname()[1]}/api/v1/video"
        finally:
            server.shutdown()
            thread.join()


def test_certificate_paths_are_relative_to_configuration(pems: Path) -> None:
    text = 'ca = "ca.pem"\ncert = "client.pem"\nkey = "client.key"\n' + FakeBackend(STAGING).toml()
    config = parse_config(text, str(pems / "contract.toml"))
    assert config.tls == Tls(pems / "ca.pem", pems / "client.pem", pems / "client.key")
    assert connection(config).context


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (Tls(ca=Path("nowhere.pem")), "ca nowhere.pem: .*No such file"),
        (Tls(ca=Path(__file__)), "ca .*test_connection_settings.py: cannot be used as PEM"),
        (Tls(cert=Path("nowhere.pem")), "cert nowhere.pem: "),
        (Tls(key=Path("client.key")), "key: has no certificate"),
    ],
    ids=["missing", "no PEM", "missing certificate", "key alone"],
)
def test_unusable_certificate_file_is_named(tls: Tls, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        doctor(STAGING, tls)


def error_line(directory: Path, backend: FakeBackend, *options: str) -> str:
    """Return the error message of the command."""
    with contextlib.chdir(directory):
        Path("contract.toml").write_text(backend.toml())
        result = CliRunner().invoke(main, ["run", *options])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    return line


def test_certificate_error_is_one_line(pems: Path, tmp_path: Path) -> None:
    with fake_backend(scheduling, server_context(pems)) as backend:
        line = error_line(tmp_path, backend)
        assert "--ca FILE" in line
        assert "is the backend running" not in line
        assert "key: has no certificate" in error_line(tmp_path, backend, "--key", "client.key")


# -- Proxies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"HTTPS_PROXY": "http://p.example:3128"}, STAGING, "http://p.example:3128"),
        ({"HTTP_PROXY": "http://p.example"}, STAGING, None),
        ({"HTTPS_PROXY": "http://p.example", "NO_PROXY": "localhost,.example.com"}, STAGING, None),
        ({"HTTP_PROXY": "socks5://p.example", "NO_PROXY": "*"}, "http://10.1.2.3", None),
    ],
)
def test_proxy_of_the_environment_is_used_unless_exempt(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert connection(parse_config(FakeBackend(url).toml(), "c")).proxy == proxy
    Backend(url, Redactor(), connection=connection(parse_config(FakeBackend(url).toml(), "c"))).close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://me:secret@p.example:1080"),
        ("HTTPS_PROXY", "http://me:secret@p.example:proxy"),
        ("HTTPS_PROXY", "ftp://me:secret@p.example"),
        ("https_proxy", "http://"),
        ("SSL_CERT_FILE", "/no/such/file.pem"),
        ("SSL_CERT_DIR", "/no/such/directory"),
        ("SSL_CERT_FILE", __file__),
    ],
)
def test_unusable_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr("video_calls_contract.connection_settings.find_spec", lambda _: None)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        connection(parse_config(FakeBackend(STAGING).toml(), "c"))
    assert f"{name}={value.replace('me:secret@', '***@')}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_proxy_password_with_slash_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://me:a/secret@p.example")
    with pytest.raises(ConfigError, match=r"HTTPS_PROXY=ftp://\*\*\*@p\.example:"):
        connection(parse_config(FakeBackend(STAGING).toml(), "c"))


def test_events_use_the_same_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with websocket_server() as url:
        with Listener(doctor(url)) as listener:
            assert listener.stays_open(0.1)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        with Listener(doctor(url)) as listener:
            assert listener.status == NO_RESPONSE


def test_unreachable_proxy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    line = error_line(tmp_path, FakeBackend("http://staging.example.com"))
    assert "the proxy of HTTP_PROXY (http://***@127.0.0.1:9)" in line
    assert "secret" not in line

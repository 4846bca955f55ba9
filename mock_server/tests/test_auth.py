"""The document's "Authentication": which tokens are good, and what is said of those that are not."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from video_calls_server.api.jwt import make_token
from video_calls_server.settings import DEVELOPMENT_JWT_SECRET

from support.api import CALLS, Api

OPERATIONS = [
    ("GET", CALLS),
    ("POST", CALLS),
    ("GET", f"{CALLS}1/"),
    ("POST", f"{CALLS}1/join/"),
    ("POST", f"{CALLS}1/end/"),
    ("POST", f"{CALLS}1/cancel/"),
]


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    wanted = {"token_type": "access", "user_id": 101, "exp": now + 3600, "iat": now, "jti": "1"} | changes
    return {name: value for name, value in wanted.items() if value is not ...}


def signed(secret: str = DEVELOPMENT_JWT_SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), secret, algorithm=algorithm)


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def sealed(payload: bytes) -> str:
    """A token with these bytes for its claims, whose signature holds."""
    return jwt.PyJWS().encode(payload, DEVELOPMENT_JWT_SECRET, algorithm="HS256")


def ask(api: Api, token: str | None, method: str = "GET", path: str = CALLS) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return api.client.request(method, path, headers=headers)


def assert_refused(answer: httpx.Response, rule: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (401, rule), answer.text
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.rule("auth.required", "auth.challenge")
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_operation_without_token_is_refused(read_only_api: Api, method: str, path: str) -> None:
    assert_refused(ask(read_only_api, None, method, path), "auth.required")


@pytest.mark.rule("auth.bearer")
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_operation_accepts_bearer_token(read_only_api: Api, method: str, path: str) -> None:
    assert ask(read_only_api, signed(), method, path).status_code != 401


@pytest.mark.parametrize("header", ["", "Bearer ", "bearer:abc"])
def test_header_without_bearer_token_is_refused(read_only_api: Api, header: str) -> None:
    answer = read_only_api.client.get(CALLS, headers={"Authorization": header})
    assert_refused(answer, "auth.required")


@pytest.mark.rule("auth.scheme")
@pytest.mark.parametrize("scheme", ["Basic", "Token"])
def test_valid_token_with_other_scheme_is_refused(read_only_api: Api, scheme: str) -> None:
    answer = read_only_api.client.get(CALLS, headers={"Authorization": f"{scheme} {signed()}"})
    assert_refused(answer, "auth.required")


def test_token_in_url_is_ignored(read_only_api: Api) -> None:
    assert_refused(read_only_api.client.get(f"{CALLS}?token={signed()}"), "auth.required")


@pytest.mark.rule("auth.valid-token")
@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed("another-secret-of-thirty-two-bytes-and-more"), id="forged"),
        pytest.param(signed().rpartition(".")[0] + ".", id="unsigned"),
        pytest.param(f"{segment({'alg': 'none'})}.{segment(claims())}.", id="alg none"),
        pytest.param(signed(algorithm="HS512"), id="another algorithm"),
        pytest.param(signed(nbf=int(time.time()) + 3600), id="premature"),
        pytest.param(signed(iat=int(time.time()) + 3600), id="issued in the future"),
        pytest.param(signed(token_type="refresh"), id="refresh"),
        pytest.param(signed(exp=...), id="without expiry"),
        pytest.param(signed(user_id=...), id="without user"),
        pytest.param(signed(user_id=True), id="user is a truth"),
        pytest.param(signed(user_id=2**63), id="user is huge"),
        pytest.param(signed(user_id="\ud800@example.com"), id="user is no text"),
        pytest.param(signed(user_id="a@b" * 100), id="user is an endless address"),
        pytest.param(signed(exp=10**400), id="expiry is beyond all numbers"),
        pytest.param(signed(exp="9" * 10), id="expiry is text"),
        pytest.param(signed(nbf=True), id="nbf is a truth"),
        pytest.param(signed(x=float("nan")), id="not a number"),
        pytest.param(sealed(b'{"user_id": 101, "user_id": 102, "exp": 4000000000}'), id="claim twice"),
        pytest.param(sealed('{"user_id": 101, "exp": 4000000000}'.encode("utf-16")), id="UTF-16"),
        pytest.param(signed().replace(".", ".\n", 1), id="line break"),
        pytest.param(f"{segment({'alg': ['HS256']})}.{segment({})}.x", id="alg is a list"),
        pytest.param(base64.urlsafe_b64encode(b"[" * 4000).decode() + ".e30.x", id="nested header"),
        pytest.param("x" * 10000, id="endless"),
    ],
)
def test_invalid_token_is_refused(read_only_api: Api, token: str) -> None:
    answer = read_only_api.client.get(CALLS, headers={"Authorization": f"Bearer {token}".encode("latin-1")})  # type: ignore[dict-item]
    assert_refused(answer, "auth.valid-token")


def test_leeway_applies_to_iat_and_nbf(api: Api) -> None:
    ahead = int(time.time()) + 5
    assert ask(api, signed(iat=ahead, nbf=ahead)).status_code == 200
    assert_refused(ask(api, signed(exp=ahead - 7)), "auth.expired-token")


def test_reason_of_token_refusal_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    token = signed(exp="soon")
    ask(api, token)
    ask(api, signed("another-secret-of-thirty-two-bytes-and-more"))
    reasons = [message for message in caplog.messages if message.startswith("token refused: ")]
    assert [word in reason for word, reason in zip(["exp", "ignature"], reasons, strict=True)] == [True, True]
    assert token not in caplog.text


@pytest.mark.rule("auth.expired-token")
def test_expired_token_is_refused(read_only_api: Api) -> None:
    assert_refused(ask(read_only_api, signed(exp=int(time.time()) - 1)), "auth.expired-token")


def test_verified_token_is_cached_for_a_minute(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    token, short = signed(exp=int(time.time()) + 600), signed(exp=int(time.time()) + 30)
    assert ask(api, token).status_code == ask(api, short).status_code == 200

    def expired(*_: Any, **__: Any) -> None:
        raise jwt.ExpiredSignatureError

    monkeypatch.setattr(jwt, "decode", expired)
    assert ask(api, token).status_code == ask(api, short).status_code == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    assert ask(api, token).status_code == 200
    assert_refused(ask(api, short), "auth.expired-token")
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert_refused(ask(api, token), "auth.expired-token")


@pytest.mark.rule("auth.active-user")
@pytest.mark.parametrize("user", [105, 999, -5, "0101", "nobody@example.com"])
def test_token_of_inactive_user_is_refused(read_only_api: Api, user: int | str) -> None:
    assert_refused(ask(read_only_api, signed(user_id=user)), "auth.active-user")


def test_deactivated_user_is_refused_at_once(api: Api) -> None:
    token = signed()
    assert ask(api, token).status_code == 200
    store = api.client.app.state.namespaces.default.store
    with store._connection.begin():
        store._connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE id = 101")
    assert_refused(ask(api, token), "auth.active-user")


@pytest.mark.parametrize("user", ["101", "doctor@example.com", "Doctor@Example.COM"])
def test_user_claim_may_be_text(read_only_api: Api, user: str) -> None:
    assert ask(read_only_api, signed(user_id=user)).status_code == 200


def test_claim_issuer_and_audience_are_configurable(make_api: Callable[..., Api]) -> None:
    api = make_api(jwt_user_claim="sub", jwt_issuer="https://id.example.com", jwt_audience="video")
    good = {"sub": "101", "iss": "https://id.example.com", "aud": "video"}
    assert ask(api, signed(**good)).status_code == 200
    for name in good:
        assert_refused(ask(api, signed(**good | {name: ...})), "auth.valid-token")
    for wrong in ({"iss": "https://elsewhere.example.com"}, {"iss": "https://id"}, {"aud": "other"}):
        assert_refused(ask(api, signed(**good | wrong)), "auth.valid-token")
    assert ask(api, make_token(api.settings, 101, expires_in=60)).status_code == 200


def test_401_precedes_other_refusals(read_only_api: Api) -> None:
    assert read_only_api.client.get(f"{CALLS}999/").status_code == 401
    assert read_only_api.client.post(CALLS, content=b"x" * 100_000).status_code == 401
    assert read_only_api.client.get(f"{CALLS}?page=abc").status_code == 401


# -- Public keys ------------------------------------------------------------------------------------

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


def by(key: Any, algorithm: str, kid: str | None = None, **changes: Any) -> str:
    headers = {"kid": kid} if kid else None
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return jwt.encode(claims(**changes), private, algorithm=algorithm, headers=headers)


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_pem_public_key_verifies_tokens(
    make_api: Callable[..., Api], tmp_path: Path, key: Any, algorithm: str
) -> None:
    (tmp_path / "key.pem").write_bytes(pem(key))
    api = make_api(jwt_algorithm=algorithm, jwt_public_key=tmp_path / "key.pem")
    assert ask(api, by(key, algorithm)).status_code == 200
    another = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert_refused(ask(api, by(another, "RS256")), "auth.valid-token")
    assert_refused(ask(api, signed()), "auth.valid-token")


def test_public_key_is_not_an_hmac_secret(make_api: Callable[..., Api], tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(RSA))
    api = make_api(jwt_algorithm="RS256", jwt_public_key=tmp_path / "key.pem")
    import hmac

    body = f"{segment({'alg': 'HS256', 'typ': 'JWT'})}.{segment(claims())}"
    mac = base64.urlsafe_b64encode(hmac.digest(pem(RSA), body.encode(), "sha256")).rstrip(b"=").decode()
    assert_refused(ask(api, f"{body}.{mac}"), "auth.valid-token")


@pytest.fixture
def key_set() -> Iterator[dict[str, Any]]:
    """A key set served over HTTP; `keys` and the whole `answer` may be changed, None answers 500."""
    state: dict[str, Any] = {"keys": [], "requests": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["requests"] += 1
            self.send_response(200 if state["keys"] is not None else 500)
            self.end_headers()
            if "drips" in state:
                with contextlib.suppress(ConnectionError):
                    while not state["drips"].wait(0.05):
                        self.wfile.write(b" ")
                return
            self.wfile.write(json.dumps(state.get("answer", {"keys": state["keys"]})).encode())

        def log_message(self, *_: Any) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # in seconds, how soon it stops
    thread.start()
    state["url"] = f"http://127.0.0.1:{server.server_port}/jwks.json"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def jwk(key: Any, kid: str) -> dict[str, Any]:
    return json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"}  # type: ignore[no-any-return]


def test_key_set_is_fetched_once(make_api: Callable[..., Api], key_set: dict[str, Any]) -> None:
    key_set["keys"] = [jwk(RSA, "a")]
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])
    for _ in range(3):
        assert ask(api, by(RSA, "RS256", "a")).status_code == 200
    assert_refused(ask(api, by(RSA, "RS256", "invented")), "auth.valid-token")
    assert_refused(ask(api, by(EC, "ES256", "a")), "auth.valid-token")
    assert_refused(ask(api, signed()), "auth.valid-token")
    assert key_set["requests"] == 1


def test_rotated_key_is_fetched(
    make_api: Callable[..., Api], key_set: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("video_calls_server.api.jwks.COOLDOWN", 0.0)
    key_set["keys"] = [jwk(RSA, "a")]
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])
    assert ask(api, by(RSA, "RS256", "a")).status_code == 200
    new = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key_set["keys"] = [jwk(new, "b")]
    assert ask(api, by(new, "RS256", "b")).status_code == 200
    assert_refused(ask(api, by(RSA, "RS256", "a", jti="2")), "auth.valid-token")


def test_unavailable_key_set_is_503(
    make_api: Callable[..., Api], key_set: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    key_set["keys"] = None
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])
    for _ in range(2):
        answer = ask(api, by(RSA, "RS256", "a"))
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert key_set["requests"] == 1
    monkeypatch.setattr("video_calls_server.api.jwks.COOLDOWN", 0.0)
    key_set["keys"] = [jwk(RSA, "a")]
    assert ask(api, by(RSA, "RS256", "a")).status_code == 200


def test_key_for_other_use_verifies_no_token(make_api: Callable[..., Api], key_set: dict[str, Any]) -> None:
    key_set["keys"] = [
        jwk(RSA, "a") | {"use": "enc"},
        jwk(RSA, "b") | {"key_ops": ["encrypt"]},
        jwk(RSA, "c"),
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key())) | {"kid": "c"},
        None,
    ]
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])
    statuses = [ask(api, by(RSA, "RS256", kid)).status_code for kid in "abc"]
    assert statuses == [401, 401, 200]


def test_short_rsa_key_verifies_no_token(make_api: Callable[..., Api], key_set: dict[str, Any]) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 (refused)
    key_set["keys"] = [jwk(short, "a")]
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])
    with pytest.warns(UserWarning, match="1024"):
        token = by(short, "RS256", "a")
    assert_refused(ask(api, token), "auth.valid-token")


def test_cached_key_works_during_slow_fetch(
    make_api: Callable[..., Api], key_set: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    key_set["keys"] = [jwk(RSA, "a")]
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])
    assert ask(api, by(RSA, "RS256", "a")).status_code == 200
    for name, value in (("LIFETIME", 0.0), ("COOLDOWN", 0.0), ("TIMEOUT", 0.5)):
        monkeypatch.setattr(f"video_calls_server.api.jwks.{name}", value)
    key_set["drips"] = threading.Event()
    asked = time.monotonic()
    assert ask(api, by(RSA, "RS256", "a", jti="2")).status_code == 200
    assert ask(api, by(RSA, "RS256", "unknown")).status_code == 503
    assert time.monotonic() - asked < 5
    key_set["drips"].set()


def test_oversized_key_set_is_503(
    make_api: Callable[..., Api], key_set: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    key_set["keys"] = [jwk(RSA, "a") | {"x": "x" * 2**18}]
    address = key_set["url"].replace("//", "//user:hidden@") + "?key=hidden"
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=address)
    assert ask(api, by(RSA, "RS256", "a")).status_code == 503
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("video_calls_server")]
    assert any("larger than" in line for line in lines)
    assert not any("hidden" in line for line in lines)


def test_token_without_key_id_uses_only_key(
    make_api: Callable[..., Api], key_set: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("video_calls_server.api.jwks.COOLDOWN", 0.0)
    key_set["keys"] = [jwk(RSA, "a")]
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])
    for number in range(3):
        assert ask(api, by(RSA, "RS256", None, jti=str(number))).status_code == 200
    assert key_set["requests"] == 1
    key_set["keys"] = [jwk(RSA, "a"), jwk(RSA, "b")]
    assert ask(api, by(RSA, "RS256", "b")).status_code == 200
    assert_refused(ask(api, by(RSA, "RS256", None, jti="of two")), "auth.valid-token")


@pytest.mark.parametrize("answer", [None, {"keys": 1}])
def test_malformed_key_set_is_503(
    make_api: Callable[..., Api], key_set: dict[str, Any], answer: object
) -> None:
    key_set["answer"] = answer
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])
    refused = ask(api, by(RSA, "RS256", "a"))
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")

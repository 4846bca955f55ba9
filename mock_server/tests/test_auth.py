"""The document's "Authentication": which tokens are valid, and how the others are refused."""

import base64
import contextlib
import hmac
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

OTHER_SECRET = "another-secret-of-thirty-two-bytes-and-more"


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    content = {"token_type": "access", "user_id": 101, "exp": now + 3600, "iat": now, "jti": "1"} | changes
    return {name: value for name, value in content.items() if value is not ...}


def sign(secret: str = DEVELOPMENT_JWT_SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), secret, algorithm=algorithm)


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def sign_bytes(payload: bytes) -> str:
    """Return a token with a valid signature and these bytes as its claims."""
    return jwt.PyJWS().encode(payload, DEVELOPMENT_JWT_SECRET, algorithm="HS256")


def request(api: Api, token: str | None, method: str = "GET", path: str = CALLS) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return api.client.request(method, path, headers=headers)


def assert_refused(response: httpx.Response, rule: str) -> None:
    assert (response.status_code, response.json()["code"]) == (401, rule), response.text
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.rule("auth.required", "auth.challenge", "auth.bearer")
@pytest.mark.parametrize(
    "operation", ["GET ", "POST ", "GET 1/", "POST 1/join/", "POST 1/end/", "POST 1/cancel/"]
)
def test_operation_requires_bearer_token(read_only_api: Api, operation: str) -> None:
    method, _, path = operation.partition(" ")
    assert_refused(request(read_only_api, None, method, CALLS + path), "auth.required")
    assert request(read_only_api, sign(), method, CALLS + path).status_code != 401


@pytest.mark.rule("auth.scheme")
@pytest.mark.parametrize("header", ["", "Bearer ", "bearer:abc", f"Basic {sign()}", f"Token {sign()}"])
def test_header_without_bearer_token_is_refused(read_only_api: Api, header: str) -> None:
    response = read_only_api.client.get(CALLS, headers={"Authorization": header})
    assert_refused(response, "auth.required")


def test_token_in_url_is_ignored(read_only_api: Api) -> None:
    assert_refused(read_only_api.client.get(f"{CALLS}?token={sign()}"), "auth.required")


@pytest.mark.rule("auth.valid-token")
@pytest.mark.parametrize(
    "token",
    [
        pytest.param(sign(OTHER_SECRET), id="forged"),
        pytest.param(f"{segment({'alg': 'none'})}.{segment(claims())}.", id="alg none"),
        pytest.param(sign(algorithm="HS512"), id="another algorithm"),
        pytest.param(sign(nbf=int(time.time()) + 3600), id="nbf in the future"),
        pytest.param(sign(iat=int(time.time()) + 3600), id="iat in the future"),
        pytest.param(sign(token_type="refresh"), id="refresh"),
        pytest.param(sign(exp=...), id="without expiry"),
        pytest.param(sign(user_id=...), id="without user"),
        pytest.param(sign(user_id=True), id="boolean user"),
        pytest.param(sign(user_id=2**63), id="large user"),
        pytest.param(sign(user_id="\ud800@example.com"), id="surrogate in user"),
        pytest.param(sign(user_id="a@b" * 100), id="long user"),
        pytest.param(sign(exp=10**400), id="infinite expiry"),
        pytest.param(sign(exp="9" * 10), id="text as expiry"),
        pytest.param(sign(x=float("nan")), id="NaN"),
        pytest.param(sign_bytes(b'{"user_id": 101, "user_id": 102, "exp": 4000000000}'), id="repeated claim"),
        pytest.param(sign().replace(".", ".\n", 1), id="line break"),
        pytest.param(f"{segment({'alg': ['HS256']})}.{segment({})}.x", id="list as alg"),
        pytest.param(base64.urlsafe_b64encode(b"[" * 4000).decode() + ".e30.x", id="nested header"),
        pytest.param("x" * 10000, id="long token"),
    ],
)
def test_invalid_token_is_refused(read_only_api: Api, token: str) -> None:
    response = read_only_api.client.get(CALLS, headers={"Authorization": f"Bearer {token}".encode("latin-1")})  # type: ignore[dict-item]
    assert_refused(response, "auth.valid-token")


def test_leeway_applies_to_iat_and_nbf(api: Api) -> None:
    ahead = int(time.time()) + 5
    assert request(api, sign(iat=ahead, nbf=ahead)).status_code == 200
    assert_refused(request(api, sign(exp=ahead - 7)), "auth.expired-token")


def test_server_logs_why_token_is_refused(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    token = sign(exp="soon")
    request(api, token)
    request(api, sign(OTHER_SECRET))
    reasons = [message for message in caplog.messages if message.startswith("token refused: ")]
    assert [word in reason for word, reason in zip(["exp", "ignature"], reasons, strict=True)] == [True, True]
    assert token not in caplog.text


@pytest.mark.rule("auth.expired-token")
def test_expired_token_is_refused(read_only_api: Api) -> None:
    assert_refused(request(read_only_api, sign(exp=int(time.time()) - 1)), "auth.expired-token")


def test_verified_token_is_cached_for_a_minute(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    token, short = sign(exp=int(time.time()) + 600), sign(exp=int(time.time()) + 30)
    assert request(api, token).status_code == request(api, short).status_code == 200

    def fail(*_: Any, **__: Any) -> None:
        raise jwt.ExpiredSignatureError

    monkeypatch.setattr(jwt, "decode", fail)
    assert request(api, token).status_code == request(api, short).status_code == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    assert request(api, token).status_code == 200
    assert_refused(request(api, short), "auth.expired-token")
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert_refused(request(api, token), "auth.expired-token")


@pytest.mark.rule("auth.active-user")
@pytest.mark.parametrize("user", [105, 999, -5, "0101", "nobody@example.com"])
def test_token_of_inactive_user_is_refused(read_only_api: Api, user: int | str) -> None:
    assert_refused(request(read_only_api, sign(user_id=user)), "auth.active-user")


def test_deactivated_user_is_refused_at_once(api: Api) -> None:
    token = sign()
    assert request(api, token).status_code == 200
    api.manage("PATCH", "/identities/101", {"active": False})
    assert_refused(request(api, token), "auth.active-user")


@pytest.mark.parametrize("user", ["101", "doctor@example.com", "Doctor@Example.COM"])
def test_user_claim_may_be_text(read_only_api: Api, user: str) -> None:
    assert request(read_only_api, sign(user_id=user)).status_code == 200


def test_claim_issuer_and_audience_are_configurable(make_api: Callable[..., Api]) -> None:
    api = make_api(jwt_user_claim="sub", jwt_issuer="https://id.example.com", jwt_audience="video")
    valid = {"sub": "101", "iss": "https://id.example.com", "aud": "video"}
    assert request(api, sign(**valid)).status_code == 200
    for name in valid:
        assert_refused(request(api, sign(**valid | {name: ...})), "auth.valid-token")
    for wrong in ({"iss": "https://elsewhere.example.com"}, {"iss": "https://id"}, {"aud": "other"}):
        assert_refused(request(api, sign(**valid | wrong)), "auth.valid-token")
    assert request(api, make_token(api.settings, 101, expires_in=60)).status_code == 200


def test_401_precedes_other_refusals(read_only_api: Api) -> None:
    assert read_only_api.client.get(f"{CALLS}999/").status_code == 401
    assert read_only_api.client.post(CALLS, content=b"x" * 100_000).status_code == 401
    assert read_only_api.client.get(f"{CALLS}?page=abc").status_code == 401


# -- Public keys ------------------------------------------------------------------------------------

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


def sign_with(key: Any, algorithm: str, kid: str | None = None, **changes: Any) -> str:
    headers = {"kid": kid} if kid else None
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return jwt.encode(claims(**changes), private, algorithm=algorithm, headers=headers)


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_pem_public_key_verifies_tokens(
    make_api: Callable[..., Api], tmp_path: Path, key: Any, algorithm: str
) -> None:
    (tmp_path / "key.pem").write_bytes(pem(key))
    api = make_api(jwt_algorithm=algorithm, jwt_public_key=tmp_path / "key.pem")
    assert request(api, sign_with(key, algorithm)).status_code == 200
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert_refused(request(api, sign_with(other, "RS256")), "auth.valid-token")
    assert_refused(request(api, sign()), "auth.valid-token")


def test_public_key_is_not_an_hmac_secret(make_api: Callable[..., Api], tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(RSA))
    api = make_api(jwt_algorithm="RS256", jwt_public_key=tmp_path / "key.pem")
    body = f"{segment({'alg': 'HS256', 'typ': 'JWT'})}.{segment(claims())}"
    mac = base64.urlsafe_b64encode(hmac.digest(pem(RSA), body.encode(), "sha256")).rstrip(b"=").decode()
    assert_refused(request(api, f"{body}.{mac}"), "auth.valid-token")


@pytest.fixture
def key_set() -> Iterator[dict[str, Any]]:
    """Serve a key set over HTTP. Tests may change `keys` (None is status 500) and the whole `body`."""
    state: dict[str, Any] = {"keys": [], "requests": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["requests"] += 1
            self.send_response(200 if state["keys"] is not None else 500)
            self.end_headers()
            if "stop" in state:  # send bytes slowly until the test sets it
                with contextlib.suppress(ConnectionError):
                    while not state["stop"].wait(0.05):
                        self.wfile.write(b" ")
                return
            self.wfile.write(json.dumps(state.get("body", {"keys": state["keys"]})).encode())

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # seconds between checks for a stop
    thread.start()
    state["url"] = f"http://127.0.0.1:{server.server_port}/jwks.json"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def jwks_api(make_api: Callable[..., Api], key_set: dict[str, Any]) -> Api:
    key_set["keys"] = [jwk(RSA, "a")]
    return make_api(jwt_algorithm="RS256", jwt_jwks_url=key_set["url"])


@pytest.fixture
def without_cooldown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_calls_server.api.jwks.COOLDOWN", 0.0)


def jwk(key: Any, kid: str) -> dict[str, Any]:
    return json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"}  # type: ignore[no-any-return]


def test_key_set_is_fetched_once(jwks_api: Api, key_set: dict[str, Any]) -> None:
    for _ in range(3):
        assert request(jwks_api, sign_with(RSA, "RS256", "a")).status_code == 200
    for token in (sign_with(RSA, "RS256", "invented"), sign_with(EC, "ES256", "a"), sign()):
        assert_refused(request(jwks_api, token), "auth.valid-token")
    assert key_set["requests"] == 1


@pytest.mark.usefixtures("without_cooldown")
def test_rotated_key_is_fetched(jwks_api: Api, key_set: dict[str, Any]) -> None:
    assert request(jwks_api, sign_with(RSA, "RS256", "a")).status_code == 200
    new = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key_set["keys"] = [jwk(new, "b")]
    assert request(jwks_api, sign_with(new, "RS256", "b")).status_code == 200
    assert_refused(request(jwks_api, sign_with(RSA, "RS256", "a", jti="2")), "auth.valid-token")


@pytest.mark.parametrize("outage", [{"keys": None}, {"body": None}, {"body": {"keys": 1}}], ids=str)
def test_request_gets_503_if_key_set_is_unusable(
    jwks_api: Api, key_set: dict[str, Any], monkeypatch: pytest.MonkeyPatch, outage: dict[str, Any]
) -> None:
    key_set.update(outage)
    for _ in range(2):
        response = request(jwks_api, sign_with(RSA, "RS256", "a"))
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert int(response.headers["retry-after"]) > 0
    assert key_set["requests"] == 1
    monkeypatch.setattr("video_calls_server.api.jwks.COOLDOWN", 0.0)
    key_set.pop("body", None)
    key_set["keys"] = [jwk(RSA, "a")]
    assert request(jwks_api, sign_with(RSA, "RS256", "a")).status_code == 200


def test_key_for_other_use_verifies_no_token(jwks_api: Api, key_set: dict[str, Any]) -> None:
    key_set["keys"] = [
        jwk(RSA, "a") | {"use": "enc"},
        jwk(RSA, "b") | {"key_ops": ["encrypt"]},
        jwk(RSA, "c"),
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key())) | {"kid": "c"},
        None,
    ]
    statuses = [request(jwks_api, sign_with(RSA, "RS256", kid)).status_code for kid in "abc"]
    assert statuses == [401, 401, 200]


def test_short_rsa_key_verifies_no_token(jwks_api: Api, key_set: dict[str, Any]) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 (refused)
    key_set["keys"] = [jwk(short, "a")]
    with pytest.warns(UserWarning, match="1024"):
        token = sign_with(short, "RS256", "a")
    assert_refused(request(jwks_api, token), "auth.valid-token")


def test_cached_key_works_during_slow_fetch(
    jwks_api: Api, key_set: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert request(jwks_api, sign_with(RSA, "RS256", "a")).status_code == 200
    for name, value in (("LIFETIME", 0.0), ("COOLDOWN", 0.0), ("TIMEOUT", 0.5)):
        monkeypatch.setattr(f"video_calls_server.api.jwks.{name}", value)
    key_set["stop"] = threading.Event()
    assert request(jwks_api, sign_with(RSA, "RS256", "a", jti="2")).status_code == 200
    assert request(jwks_api, sign_with(RSA, "RS256", "unknown")).status_code == 503
    key_set["stop"].set()


def test_request_gets_503_if_key_set_is_oversized(
    make_api: Callable[..., Api], key_set: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    key_set["keys"] = [jwk(RSA, "a") | {"x": "x" * 2**18}]
    url = key_set["url"].replace("//", "//user:hidden@") + "?key=hidden"
    api = make_api(jwt_algorithm="RS256", jwt_jwks_url=url)
    assert request(api, sign_with(RSA, "RS256", "a")).status_code == 503
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("video_calls_server")]
    assert any("larger than" in line for line in lines)
    assert not any("hidden" in line for line in lines)


@pytest.mark.usefixtures("without_cooldown")
def test_token_without_key_id_needs_single_key(jwks_api: Api, key_set: dict[str, Any]) -> None:
    for number in range(3):
        assert request(jwks_api, sign_with(RSA, "RS256", jti=str(number))).status_code == 200
    assert key_set["requests"] == 1
    key_set["keys"].append(jwk(RSA, "b"))
    assert request(jwks_api, sign_with(RSA, "RS256", "b")).status_code == 200
    assert_refused(request(jwks_api, sign_with(RSA, "RS256", jti="of two")), "auth.valid-token")

"""The document built a third time, on the standard library alone: a dictionary, a lock, and threads.

It takes other freedoms than the Django project does: pages by an opaque cursor, times in whole seconds,
tokens of version 007, uids and channels that say nothing, ids from 10^12 on, errors in its own words and
language, 400 for what is not JSON, 404 for methods that it does not know, no `Date`, a join window that
closes two hours after its start, and schedulers who book for others.

`python small_backend.py` serves on a free port, prints a configuration for the contract suite and then the
line `# ready`.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import struct
import threading
import time
import zlib
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

ROOT = "/api/v1/video/video-calls"
KEY = secrets.token_bytes(32)
APP_ID, CERTIFICATE = secrets.token_hex(16), secrets.token_hex(16)
PAGE = 7
MINUTE = timedelta(minutes=1)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)

Json = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


def refuse(status: int, text: str) -> NoReturn:
    raise Refusal(status, text)


# -- Who is who ------------------------------------------------------------------------------------

USERS: dict[str, Json] = {
    "doctor": {"doctor": 7001, "name": "Hana Černá"},
    "patient": {"patient": 7001, "name": "Ivo Malý"},
    "other_doctor": {"doctor": 7002, "name": "Jana Nová"},
    "other_patient": {"patient": 9, "name": "Karel Starý"},
    "outsider": {"name": "Reception", "scheduler": True},
    "dual_user": {"doctor": 7003, "patient": 10, "name": "Lev Obojí"},
    "inactive_doctor": {"doctor": 7004, "name": "Marie Pryč", "inactive": True},
    "inactive_patient": {"patient": 11, "name": "Norbert Pryč", "inactive": True},
}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def signature(text: str) -> str:
    return base64url(hmac.digest(KEY, text.encode(), "sha512"))


def session(name: str, seconds: int) -> str:
    header, claims = {"alg": "HS512"}, {"sub": name, "exp": int(time.time()) + seconds}
    text = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{signature(text)}"


def user_of(header: str | None) -> Json:
    scheme, _, token = (header or "").partition(" ")
    text, _, signed = token.rpartition(".")
    if scheme != "Bearer" or not hmac.compare_digest(signature(text).encode(), signed.encode()):
        refuse(401, "Přihlaste se, prosím.")
    claims = json.loads(base64.urlsafe_b64decode(text.partition(".")[2] + "=="))
    user = USERS[claims["sub"]]
    if claims["exp"] < time.time() or "inactive" in user:
        refuse(401, "Přihlášení už neplatí.")
    return user


def person(role: str, number: int) -> Json | None:
    return next((user for user in USERS.values() if user.get(role) == number), None)


# -- Calls -----------------------------------------------------------------------------------------

calls: dict[int, Json] = {}
lock = threading.Lock()


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def shown(call: Json) -> Json:
    body = {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in call.items()
    }
    for role in ("doctor", "patient"):
        user = person(role, call[role])
        assert user is not None
        email = f"{role}.{call[role]}@ordinace.example"
        body[f"{role}_details"] = {
            "id": call[role],
            "user": {"email": email, "full_name": user["name"], "avatar_url": None},
            "languages": ["cs", "en"],
        }
    return body


def own_call(user: Json, number: str) -> Json:
    call = calls.get(int(number))
    if call is None:
        refuse(404, "Takový hovor tu není.")
    if call["doctor"] != user.get("doctor") and call["patient"] != user.get("patient"):
        refuse(403, "Tento hovor vám nepatří.")
    return call


def asked_for(body: bytes) -> tuple[int, int, datetime]:
    try:
        asked = json.loads(body)
        doctor, patient, text = (asked[name] for name in ("doctor", "patient", "scheduled_time"))
        start = datetime.fromisoformat(text.upper()).astimezone(UTC).replace(microsecond=0)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        refuse(400, "Tomu nerozumíme: chybí lékař, pacient nebo čas.")
    if type(doctor) is not int or type(patient) is not int or not RFC_3339.fullmatch(text):
        refuse(400, "Tomu nerozumíme: lékař a pacient jsou čísla, čas je jako 2024-01-05T10:00:00Z.")
    return doctor, patient, start


def create(user: Json, body: bytes) -> Json:
    doctor, patient, start = asked_for(body)
    if doctor != user.get("doctor") and patient != user.get("patient") and "scheduler" not in user:
        refuse(403, "Objednat můžete jen sebe.")
    people = person("doctor", doctor), person("patient", patient)
    if None in people or any("inactive" in someone for someone in people if someone):
        refuse(400, "Tento lékař nebo pacient tu není.")
    if people[0] is people[1]:
        refuse(400, "Lékař nemůže být sám sobě pacientem.")
    if start <= now():
        refuse(400, "Tento čas už minul.")
    for other in calls.values():
        if (
            other["status"] in ("scheduled", "ongoing")
            and (other["doctor"] == doctor or other["patient"] == patient)
            and abs(other["scheduled_time"] - start) < 30 * MINUTE
        ):
            refuse(400, "V tu dobu už někdo z obou hovor má.")
    number = max(calls, default=10**12) + secrets.randbelow(5) + 1
    calls[number] = {
        "id": number,
        "channel_name": secrets.token_hex(16),
        "doctor": doctor,
        "patient": patient,
        "status": "scheduled",
        "scheduled_time": start,
        "started_at": None,
        "ended_at": None,
        "created_at": now(),
        "updated_at": now(),
    }
    return shown(calls[number])


def join(user: Json, call: Json) -> Json:
    if call["status"] not in ("scheduled", "ongoing"):
        refuse(400, "Tento hovor už skončil.")
    if not now() - 120 * MINUTE <= call["scheduled_time"] <= now() + 15 * MINUTE:
        refuse(400, "Na tento hovor teď není čas.")
    if call["status"] == "scheduled":
        call.update(status="ongoing", started_at=now(), updated_at=now())
    uid = int.from_bytes(hashlib.sha256(f"{call['id']} {user['name']}".encode()).digest()[:4]) >> 1 or 1
    issued = int(time.time())
    return {
        "channel_name": call["channel_name"],
        "token": agora_token(call["channel_name"], uid, issued),
        "uid": uid,
        "expiration_time": datetime.fromtimestamp(issued + 3600, UTC).isoformat().replace("+00:00", "Z"),
        "app_id": APP_ID,
        "role": "publisher",
    }


def end(_user: Json, call: Json) -> Json:
    if call["status"] != "ongoing":
        refuse(400, "Ukončit lze jen hovor, který běží.")
    call.update(status="completed", ended_at=now(), updated_at=now())
    return shown(call)


def cancel(_user: Json, call: Json) -> Json:
    if call["status"] != "scheduled":
        refuse(400, "Zrušit lze jen hovor, který ještě nezačal.")
    call.update(status="cancelled", updated_at=now())
    return shown(call)


def agora_token(channel: str, uid: int, issued: int) -> str:
    """An AccessToken2: for an hour, with the four privileges of a publisher for as long."""

    def text(value: str | bytes) -> bytes:
        data = value.encode() if isinstance(value, str) else value
        return struct.pack("<H", len(data)) + data

    salt = secrets.randbelow(99_999_998) + 1
    privileges = b"".join(struct.pack("<HI", privilege, 3600) for privilege in (1, 2, 3, 4))
    content = text(APP_ID) + struct.pack("<IIIHHH", issued, 3600, salt, 1, 1, 4) + privileges
    content += text(channel) + text(str(uid))
    key = hmac.digest(struct.pack("<I", issued), CERTIFICATE.encode(), "sha256")
    key = hmac.digest(struct.pack("<I", salt), key, "sha256")
    packed = zlib.compress(text(hmac.digest(key, content, "sha256")) + content)
    return "007" + base64.b64encode(packed).decode("ascii")


# -- Lists -----------------------------------------------------------------------------------------


def page(user: Json, query: str, host: str) -> Json:
    """The page after, or before, the call that the cursor names by time and id."""
    own = [
        call
        for call in calls.values()
        if call["doctor"] == user.get("doctor") or call["patient"] == user.get("patient")
    ]
    own.sort(key=lambda call: (call["scheduled_time"], call["id"]), reverse=True)
    first, last = 0, PAGE
    if cursor := parse_qs(query).get("cursor"):
        try:
            direction, time, number = base64.urlsafe_b64decode(cursor[0] + "==").decode().split()
            at = float(time), int(number)
        except ValueError:
            refuse(404, "Taková stránka není.")
        place = sum((call["scheduled_time"].timestamp(), call["id"]) > at for call in own)
        first, last = (place + 1, place + 1 + PAGE) if direction == "after" else (max(0, place - PAGE), place)

    def link(direction: str, call: Json) -> str:
        text = f"{direction} {call['scheduled_time'].timestamp()} {call['id']}"
        return f"http://{host}{ROOT}/?cursor={base64url(text.encode())}"

    found = own[first:last]
    return {
        "count": len(own),
        "next": link("after", found[-1]) if found and last < len(own) else None,
        "previous": link("before", found[0]) if found and first else None,
        "results": [shown(call) for call in found],
    }


# -- HTTP ------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            with lock:
                status, answer = self.answer(body)
        except Refusal as refusal:
            status, answer = refusal.status, {"error": refusal.text}
        content = json.dumps(answer).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any  # noqa: N815

    def answer(self, body: bytes) -> tuple[int, Json]:
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        user = user_of(self.headers.get("Authorization"))
        if (self.command, path) == ("GET", f"{ROOT}/"):
            return 200, page(user, query, self.headers["Host"])
        if (self.command, path) == ("POST", f"{ROOT}/"):
            if self.headers.get_content_type() != "application/json":
                refuse(400, "Posílejte JSON.")
            return 201, create(user, body)
        actions = {
            ("GET", ""): lambda _user, call: shown(call),
            ("POST", "join/"): join,
            ("POST", "end/"): end,
            ("POST", "cancel/"): cancel,
        }
        match = re.fullmatch(ROOT + r"/(\d{1,18})/(\w+/)?", path, re.ASCII)
        action = match and actions.get((self.command, match[2] or ""))
        if not match or not action:
            refuse(404, "Tady nic není.")
        return 200, action(user, own_call(user, match[1]))

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f'base_url = "http://127.0.0.1:{server.server_port}/api/v1/video"')
    print(f'[agora]\napp_id = "{APP_ID}"\napp_certificate = "{CERTIFICATE}"')
    for name, user in {**USERS, "expired": USERS["doctor"]}.items():
        print(f"[identities.{name}]")
        print(*(f"{role} = {user[role]}" for role in ("doctor", "patient") if role in user), sep="\n")
        print(f'token = "{session("doctor", -9000) if name == "expired" else session(name, 9000)}"')
    print("# ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

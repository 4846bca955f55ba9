"""A conforming backend on the standard library, independent of the reference server.

It uses other freedoms than the Django project: pages by an opaque cursor, times in whole seconds, tokens of
version 007, random uids and channels, ids from 10^12 on, its own error texts in another language, 400 for a
body that is not JSON, 404 for unknown methods, no `Date`, a join window that closes two hours after its
start, schedulers who book for other users, and an update of the call at each join.

`python small_backend.py` serves on a free port, prints a configuration for the contract suite and then
the line `# ready`. `python small_backend.py NAME` turns on a switch of `SWITCHES`: the backend then
breaks a rule, or uses a freedom. `--help` lists further options with values. `--policy JSON` changes a
part of `POLICY`, whose defaults are the rules of the document.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import struct
import threading
import time
import uuid
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

SWITCHES = (
    *("list-from-cache", "empty-list-404", "foreign-page-2", "touched-by-get", "profile-uid", "two-ends"),
    *("join-keeps-updated-at", "end-keeps-updated-at", "cancel-keeps-updated-at", "two-first-joins"),
    *("body-sets-created-at", "overlap-latest", "overlap-one-day", "loose-path-id", "loose-body-id"),
    *("number-as-time", "rolling-days", "body-before-token", "any-scheme", "one-error-text"),
    *("traceback", "body-kills", "hanging-join", "public-host", "digit-ids"),
)
"""Violations and freedoms; the tests that use them describe them."""

POLICY: Json = {
    # Permissions (see `may`). A refused action may still be "done", or the call "touched" (`updated_at`)
    "may": dict.fromkeys(("list", "create", "get", "join", "end", "cancel"), "participants"),
    "though_refused": {},
    "state_first": False,  # reveals the state of a call before it checks permissions
    "hidden": [],  # statuses that a list leaves out
    "step": 0,  # how many calls are on two pages; below 0, on none
    "early": 0,  # how many calls before the last one `next` becomes null
    "no_previous": False,
    # Calls that block a new one
    "sharing": ["doctor", "patient"],  # a call blocks if it has one of these in common
    "blocking": ["scheduled", "ongoing"],
    "minutes": {"before": 30, "after": 30},
    "unlocked": [],  # those of `sharing` that are checked only before the lock
    # Values of a new call
    "accepted": [],  # invalid values that a create accepts: "unknown doctor", ...
    "same_user": "user",  # what must differ: "user" or "number"; or "allowed"
    "earliest": 0,  # minutes from now
    "writable": "",  # a field that the client may set
    "defaults": {},  # defaults of missing fields
    "ignores_offset": False,
    "channel": "random",  # see `new_channel`
    "channel_each": False,  # each participant gets another channel
    # The statuses before and after an action, and the fields that it sets: "now", None, or a field
    "also_from": {"join": "", "end": "", "cancel": ""},
    "to": {"join": "ongoing", "end": "completed", "cancel": "cancelled"},
    "sets": {"join": {"started_at": "now"}, "end": {"ended_at": "now"}, "cancel": {}},
    "unsaved": "",  # an action that changes only its response
    # Joins
    "opens": {"doctor": 15, "patient": 15},  # minutes before the start
    "closes_at_start": False,
    "restarts": False,  # each join sets `started_at` again
    "random_uid": False,
    "token": {},  # false values of the token; see `agora_token`
}
"""The behaviour of the backend. The values are those of the document; `--policy` changes them."""

parser = argparse.ArgumentParser()
parser.add_argument("--uuids", action="store_true", help="ids are UUIDs")
parser.add_argument("--days-ahead", type=int, help="calls are at most so many days ahead")
parser.add_argument("--opening-hours", action="store_true", help="eight hours on five days, open now")
parser.add_argument("--step", type=int, help="calls start every so many minutes")
parser.add_argument("--notice", type=int, default=0, help="calls are at least so many minutes ahead")
parser.add_argument("--starts-at", type=datetime.fromisoformat, help="the time when the clock starts")
parser.add_argument("--strict-window", action="store_true", help="no first join after the start")
parser.add_argument("--hide-foreign", action="store_true", help="404 for calls of others")
parser.add_argument("--break-join", action="store_true", help="500 for each join")
parser.add_argument("--refuse-create", action="store_true", help="400 for each new call")
parser.add_argument(
    "--replace", action="append", default=[], metavar="NAME=JSON", help="a field of all answers"
)
parser.add_argument("--policy", type=json.loads, default={}, metavar="JSON", help="parts of POLICY")
parser.add_argument("switch", nargs="?", default="", choices=["", *SWITCHES])
options = parser.parse_args(None if __name__ == "__main__" else [])
SWITCH = options.switch
for part, value in options.policy.items():
    POLICY[part] = {**POLICY[part], **value} if isinstance(POLICY[part], dict) else value
replacements: Json = {}


class Refusal(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


def refuse(status: int, text: str) -> NoReturn:
    raise Refusal(status, text)


# -- Users -----------------------------------------------------------------------------------------

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
    if (scheme != "Bearer" and SWITCH != "any-scheme") or not hmac.compare_digest(
        signature(text).encode(), signed.encode()
    ):
        refuse(401, "Přihlaste se, prosím.")
    claims = json.loads(base64.urlsafe_b64decode(text.partition(".")[2] + "=="))
    user = USERS[claims["sub"]]
    if claims["exp"] < time.time() or "inactive" in user:
        refuse(401, "Přihlášení už neplatí.")
    return user


def user_with(role: str, number: int | str) -> Json | None:
    return next((user for user in USERS.values() if user.get(role) == number), None)


# -- Calls -----------------------------------------------------------------------------------------

calls: dict[int | str, Json] = {}
lock = threading.Lock()
cache: dict[tuple[str, str], Json] = {}
stopped = threading.Event()
CLOCK_AHEAD = options.starts_at - datetime.now(UTC) if options.starts_at else timedelta(0)


def now() -> datetime:
    return (datetime.now(UTC) + CLOCK_AHEAD).replace(microsecond=0)


OPENS = now().replace(minute=0, second=0) - timedelta(hours=4)


def representation(call: Json) -> Json:
    body = {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in call.items()
    }
    if SWITCH == "digit-ids":
        body["id"] = str(call["id"])
    for role in ("doctor", "patient"):
        user = user_with(role, call[role])
        assert user is not None
        email = f"{role}.{call[role]}@ordinace.example"
        body[f"{role}_details"] = {
            "id": call[role],
            "user": {"email": email, "full_name": user["name"], "avatar_url": None},
            "languages": ["cs", "en"],
        }
    return body


def may(user: Json, call: Json, action: str) -> bool:
    """Whether a user may do something with a call, or see it in the list."""
    is_doctor, is_patient = (call[role] == user.get(role) for role in ("doctor", "patient"))
    answers: dict[str, bool] = {
        "participants": is_doctor or is_patient,
        "anyone": True,
        "any doctor": is_patient or "doctor" in user,
        "any patient": is_doctor or "patient" in user,
        "outsiders": is_doctor or is_patient or "scheduler" in user,
        "equal numbers": is_doctor or is_patient or call["doctor"] == user.get("patient"),
        "the doctor": is_doctor,
        "one side": is_doctor if "doctor" in user else is_patient,
    }
    return answers[POLICY["may"][action]]


def call_for(user: Json, number: str, action: str) -> Json:
    call = calls.get(number if options.uuids else int(number))
    if call is None:
        refuse(404, "Takový hovor tu není.")
    if POLICY["state_first"] and action != "get" and call["status"] in ("completed", "cancelled"):
        refuse(400, "Tento hovor už skončil.")
    if not may(user, call, action):
        if action in POLICY["though_refused"]:
            change_though_refused(call, action)
        refuse(404 if options.hide_foreign else 403, "Tento hovor vám nepatří.")
    return call


def change_though_refused(call: Json, action: str) -> None:
    if POLICY["though_refused"][action] == "done":
        change(call, action)
    call["updated_at"] = datetime.now(UTC)


def change(call: Json, action: str) -> Json:
    """Apply an action to a call; return the call as the answer shows it."""
    before = dict(call)
    for name, value in POLICY["sets"][action].items():
        call[name] = now() if value == "now" else value and call[value]
    call.update(status=POLICY["to"][action], **new_update_time(action))
    after = dict(call)
    if POLICY["unsaved"] == action:
        call.update(before)
    return after


def lenient_id(value: Any) -> Any:
    """Return the id of a body; a switch may accept other values as ids."""
    if SWITCH == "body-kills" and isinstance(value, list):
        os._exit(1)
    if SWITCH == "loose-body-id" and isinstance(value, str) and (digits := re.match(r"\d+", value)):
        return int(digits[0])
    return value


def lenient_time(value: Any) -> Any:
    """Return the time of a body; a switch may accept other values as times."""
    if SWITCH == "number-as-time" and type(value) is int:
        return datetime.fromtimestamp(value / 1000, UTC).isoformat()
    if SWITCH == "rolling-days" and isinstance(value, str) and RFC_3339.fullmatch(value):
        first = datetime.fromisoformat(value[:8] + "01" + value[10:])
        return (first + timedelta(days=int(value[8:10]) - 1)).isoformat()
    return value


def calls_to_compare(start: datetime) -> list[Json]:
    """Return the calls that a new one is compared with."""
    matches = list(calls.values())
    if SWITCH == "overlap-latest":
        return matches[-20:]
    if SWITCH == "overlap-one-day":
        return [call for call in matches if call["scheduled_time"].date() == start.date()]
    return matches


def overlaps(doctor: Any, patient: Any, start: datetime, sharing: list[str]) -> bool:
    """Whether a call of the doctor or the patient is less than half an hour away."""
    near, booking = POLICY["minutes"], {"doctor": doctor, "patient": patient}
    for other in calls_to_compare(start):
        shared = [role for role in sharing if other[role] == booking[role]]
        distance = start - other["scheduled_time"]
        if (
            other["status"] in POLICY["blocking"]
            and shared
            and -near["after"] * MINUTE < distance < near["before"] * MINUTE
        ):
            return True
    return False


def new_channel(doctor: Any, patient: Any) -> str:
    """Return the name of a new call's channel."""
    count = str(len(calls) + 1)
    cancelled = [call for call in calls.values() if call["status"] == "cancelled"]
    names = {
        "random": secrets.token_hex(16),
        "four digits": f"call_{int(time.time())}_{secrets.randbelow(9000) + 1000}",
        "counter": f"call_{count}",
        "hash": "call_" + hashlib.md5(count.encode(), usedforsecurity=False).hexdigest(),
        "participants": f"call_{doctor}_{patient}",
        "freed": cancelled[-1]["channel_name"] if cancelled else secrets.token_hex(16),
    }
    return names[POLICY["channel"]]


def parse_booking(body: bytes) -> tuple[int | str, int | str, datetime]:
    try:
        booking = POLICY["defaults"] | json.loads(body)
        doctor, patient, text = (booking[name] for name in ("doctor", "patient", "scheduled_time"))
        doctor, patient, text = lenient_id(doctor), lenient_id(patient), lenient_time(text)
        if POLICY["ignores_offset"]:
            text = re.sub(r"([+-]\d\d:\d\d|Z)?$", "Z", text, count=1)
        start = datetime.fromisoformat(text.upper()).astimezone(UTC).replace(microsecond=0)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        refuse(400, "Tomu nerozumíme: chybí lékař, pacient nebo čas.")
    kind = str if options.uuids else int
    if type(doctor) is not kind or type(patient) is not kind or not RFC_3339.fullmatch(text):
        refuse(400, "Tomu nerozumíme: lékař a pacient jsou čísla, čas je jako 2024-01-05T10:00:00Z.")
    return doctor, patient, start


def is_open(start: datetime) -> bool:
    """Return whether the clinic is open: from four hours before the start of this program, and not on the
    second and third day from now."""
    if options.days_ahead is not None and start > now() + timedelta(days=options.days_ahead):
        return False
    if options.step and start.timestamp() % (60 * options.step):
        return False
    opened = (start - OPENS) % timedelta(days=1)
    day = (start - OPENS) // timedelta(days=1) % 7
    return not options.opening_hours or (opened <= 480 * MINUTE and day not in (2, 3))


def create(user: Json, body: bytes) -> Json:
    doctor, patient, start = parse_booking(body)
    if not may(user, {"doctor": doctor, "patient": patient}, "create") and "scheduler" not in user:
        refuse(403, "Objednat můžete jen sebe.")
    people = active_user("doctor", doctor), active_user("patient", patient)
    same = {"user": people[0] is people[1], "number": doctor == patient, "allowed": False}
    if same[POLICY["same_user"]]:
        refuse(400, "Lékař nemůže být sám sobě pacientem.")
    if start <= now() + POLICY["earliest"] * MINUTE or options.refuse_create:
        refuse(400, "Tento čas už minul.")
    if (options.notice and start < now() + options.notice * MINUTE) or not is_open(start):
        refuse(400, "V tuto dobu neordinujeme.")
    is_free = not overlaps(doctor, patient, start, POLICY["sharing"])
    if POLICY["unlocked"]:
        pause_lock()
        guarded = [role for role in POLICY["sharing"] if role not in POLICY["unlocked"]]
        is_free = is_free and not overlaps(doctor, patient, start, guarded)
    if not is_free:
        refuse(400, "V tu dobu už někdo z obou hovor má.")
    number = str(uuid.uuid4()) if options.uuids else 10**12 + len(calls) * 5 + secrets.randbelow(5)
    calls[number] = {
        "id": number,
        "channel_name": new_channel(doctor, patient),
        "doctor": doctor,
        "patient": patient,
        "status": "scheduled",
        "scheduled_time": start,
        "started_at": None,
        "ended_at": None,
        "created_at": now(),
        "updated_at": now(),
    }
    if SWITCH == "body-sets-created-at" and (created_at := json.loads(body).get("created_at")):
        calls[number]["created_at"] = created_at.replace("Z", ".000Z")
    if client_value := json.loads(body).get(POLICY["writable"]):
        calls[number][POLICY["writable"]] = client_value
    return representation(calls[number])


def active_user(role: str, number: Any) -> Json:
    """Return the user with this number, who must be known and active."""
    user = user_with(role, number)
    if user is None and f"unknown {role}" in POLICY["accepted"]:
        user = USERS.setdefault(f"new {role}", {role: number, "name": "Nový"})
    if user is None or ("inactive" in user and f"inactive {role}" not in POLICY["accepted"]):
        refuse(400, "Tento lékař nebo pacient tu není.")
    return user


def new_update_time(action: str) -> Json:
    return {} if f"{action}-keeps-updated-at" == SWITCH else {"updated_at": now()}


def pause_lock() -> None:
    """Let other requests run between a check and its change."""
    lock.release()
    time.sleep(0.05)
    lock.acquire()


def join(user: Json, call: Json) -> Json:  # noqa: C901 (a condition for each policy)
    if options.break_join:
        refuse(500, "Něco se pokazilo.")
    role = "doctor" if user.get("doctor") == call["doctor"] else "patient"
    if call["status"] not in ("scheduled", "ongoing", POLICY["also_from"]["join"]):
        refuse(400, "Tento hovor už skončil.")
    if not now() - 120 * MINUTE <= call["scheduled_time"] <= now() + POLICY["opens"][role] * MINUTE:
        refuse(400, "Na tento hovor teď není čas.")
    is_strict = POLICY["closes_at_start"] or (options.strict_window and call["status"] == "scheduled")
    if is_strict and now() > call["scheduled_time"]:
        refuse(400, "Na tento hovor je pozdě.")
    is_first = call["status"] != "ongoing"
    if SWITCH == "two-first-joins":
        pause_lock()
    if is_first and SWITCH == "two-first-joins":
        call.update(status="ongoing", started_at=datetime.now(UTC), updated_at=now())
    elif is_first:
        change(call, "join")
    elif POLICY["restarts"]:
        call.update(started_at=datetime.now(UTC))
    else:
        call.update(new_update_time("join"))
    uid = int.from_bytes(hashlib.sha256(f"{call['id']} {user['name']}".encode()).digest()[:4]) >> 1 or 1
    if POLICY["random_uid"]:
        uid = secrets.randbelow(2**31) + 1
    if SWITCH == "profile-uid":
        uid = call[role]
    channel, issued = call["channel_name"], int(time.time())
    if POLICY["channel_each"]:
        channel = f"{channel}_{role}"
    lifetime = POLICY["token"].get("lifetime", 3600)
    return {
        "channel_name": channel,
        "token": agora_token(channel, uid, issued),
        "uid": uid,
        "expiration_time": datetime.fromtimestamp(issued + lifetime, UTC).isoformat().replace("+00:00", "Z"),
        "app_id": APP_ID,
        "role": "publisher",
    }


def end(_user: Json, call: Json) -> Json:
    if call["status"] not in ("ongoing", POLICY["also_from"]["end"]):
        refuse(400, "Ukončit lze jen hovor, který běží.")
    if SWITCH == "two-ends":
        pause_lock()
    return representation(change(call, "end"))


def cancel(_user: Json, call: Json) -> Json:
    if call["status"] not in ("scheduled", POLICY["also_from"]["cancel"]):
        refuse(400, "Zrušit lze jen hovor, který ještě nezačal.")
    return representation(change(call, "cancel"))


def agora_token(channel: str, uid: int, issued: int) -> str:
    """Return an AccessToken2 that is valid for an hour and has the four privileges of a publisher."""
    payload_claims = {
        "channel": channel,
        "uid": uid,
        "app_id": APP_ID,
        "certificate": CERTIFICATE,
        "lifetime": 3600,
        "privileges": [1, 2, 3, 4],
        **POLICY["token"],
    }

    def text(value: str | bytes) -> bytes:
        data = value.encode() if isinstance(value, str) else value
        return struct.pack("<H", len(data)) + data

    salt = secrets.randbelow(99_999_998) + 1
    each = payload_claims.get("each", payload_claims["lifetime"])  # the seconds of each privilege
    privileges = b"".join(struct.pack("<HI", privilege, each) for privilege in payload_claims["privileges"])
    content = text(payload_claims["app_id"]) + struct.pack(
        "<IIIHHH", issued, payload_claims["lifetime"], salt, 1, 1, len(payload_claims["privileges"])
    )
    content += privileges + text(payload_claims["channel"]) + text(str(payload_claims["uid"]))
    key = hmac.digest(struct.pack("<I", issued), payload_claims["certificate"].encode(), "sha256")
    key = hmac.digest(struct.pack("<I", salt), key, "sha256")
    packed = zlib.compress(text(hmac.digest(key, content, "sha256")) + content)
    return "007" + base64.b64encode(packed).decode("ascii")


# -- Lists -----------------------------------------------------------------------------------------


def page(user: Json, query: str, host: str) -> Json:
    """Return the page after, or before, the call that the cursor names by time and id."""
    own = [
        call for call in calls.values() if may(user, call, "list") and call["status"] not in POLICY["hidden"]
    ]
    own.sort(key=lambda call: (call["scheduled_time"], call["id"]), reverse=True)
    first, last = 0, PAGE
    if cursor := parse_qs(query).get("cursor"):
        try:
            direction, time, number = base64.urlsafe_b64decode(cursor[0] + "==").decode().split()
            at = float(time), number if options.uuids else int(number)
        except ValueError:
            refuse(404, "Taková stránka není.")
        place = sum((call["scheduled_time"].timestamp(), call["id"]) > at for call in own)
        place -= POLICY["step"] if direction == "after" else 0
        first, last = (place + 1, place + 1 + PAGE) if direction == "after" else (max(0, place - PAGE), place)

    def link(direction: str, call: Json) -> str:
        text = f"{direction} {call['scheduled_time'].timestamp()} {call['id']}"
        return f"http://{host}{ROOT}/?cursor={base64url(text.encode())}"

    matches = own[first:last]
    if not own and SWITCH == "empty-list-404":
        refuse(404, "Nic tu není.")
    if SWITCH == "foreign-page-2" and cursor:
        matches = matches + [call for call in calls.values() if call not in own][:1]
    if SWITCH == "public-host":
        host = "api.ordinace.example"
    return {
        "count": len(own),
        "next": link("after", own[min(last, len(own)) - 1])
        if matches and last + POLICY["early"] < len(own)
        else None,
        "previous": link("before", own[first]) if matches and first and not POLICY["no_previous"] else None,
        "results": [representation(call) for call in matches],
    }


# -- HTTP ------------------------------------------------------------------------------------------


def replace_fields(answer: Any) -> Any:
    """Return the answer with the fields of `--replace`, at any depth."""
    if isinstance(answer, list):
        return [replace_fields(one) for one in answer]
    if not isinstance(answer, dict):
        return answer
    return {
        name: replacements[name] if name in replacements else replace_fields(value)
        for name, value in answer.items()
    }


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
            if SWITCH == "one-error-text":
                answer = {"error": "To nejde."}
            if SWITCH == "traceback" and status == 400:
                answer["page"] = "." * 9000 + 'Traceback (most recent call last): File "calls.py", line 7'
        content = json.dumps(replace_fields(answer)).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if options.starts_at:
            self.send_header("Date", self.date_time_string(now().timestamp()))
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any  # noqa: N815

    def answer(self, body: bytes) -> tuple[int, Json]:  # noqa: C901 (a condition for each switch)
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        if SWITCH == "body-before-token" and (self.command, path) == ("POST", f"{ROOT}/"):
            parse_booking(body)
        user = user_of(self.headers.get("Authorization"))
        if (self.command, path) == ("GET", f"{ROOT}/"):
            return 200, self.list_calls(user, query)
        if (self.command, path) == ("POST", f"{ROOT}/"):
            if self.headers.get_content_type() != "application/json":
                refuse(400, "Posílejte JSON.")
            cache.clear()
            return 201, create(user, body)
        actions = {
            ("GET", ""): lambda _user, call: representation(call),
            ("POST", "join/"): join,
            ("POST", "end/"): end,
            ("POST", "cancel/"): cancel,
        }
        form = r"[0-9a-f-]{36}" if options.uuids else r"\d{1,18}"
        after_id = "[^/]*" if SWITCH == "loose-path-id" else ""
        match = re.fullmatch(ROOT + rf"/({form}){after_id}/(\w+/)?", path, re.ASCII)
        action = match and actions.get((self.command, match[2] or ""))
        if not match or not action:
            refuse(404, "Tady nic není.")
        name = (match[2] or "get").rstrip("/")
        call = call_for(user, match[1], name)
        if action is cancel:
            cache.clear()
        if action is join and SWITCH == "hanging-join":
            lock.release()
            stopped.wait()
        if self.command == "GET" and SWITCH == "touched-by-get":
            call["updated_at"] = datetime.now(UTC)
        try:
            return 200, action(user, call)
        except Refusal:
            if name in POLICY["though_refused"]:
                change_though_refused(call, name)
            raise

    def list_calls(self, user: Json, query: str) -> Json:
        if SWITCH != "list-from-cache":
            return page(user, query, self.headers["Host"])
        key = user["name"], query
        if key not in cache:
            cache[key] = page(user, query, self.headers["Host"])
        return cache[key]

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


def main() -> None:
    replacements.update(
        {name: json.loads(value) for name, _, value in (one.partition("=") for one in options.replace)}
    )
    for user in USERS.values() if options.uuids else ():
        user.update({role: str(uuid.uuid4()) for role in ("doctor", "patient") if role in user})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f'base_url = "http://127.0.0.1:{server.server_port}/api/v1/video"')
    print(f'[agora]\napp_id = "{APP_ID}"\napp_certificate = "{CERTIFICATE}"')
    for name, user in {**USERS, "expired": USERS["doctor"]}.items():
        print(f"[identities.{name}]")
        print(
            *(f"{role} = {json.dumps(user[role])}" for role in ("doctor", "patient") if role in user),
            sep="\n",
        )
        print(f'token = "{session("doctor", -9000) if name == "expired" else session(name, 9000)}"')
    print("# ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

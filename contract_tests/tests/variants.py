"""Conforming servers that differ: the reference server with a freedom of the document used at a time.

A variant is data: which texts of the server are replaced, and what the suite may say of it: which
recommendations it leaves (notes), and which rules cannot be looked at there. The suite blames it for nothing else.
"""

# ruff: noqa: E501, S608 (texts of the server are as they are there)

from dataclasses import dataclass

from mutants import Change
from video_calls_spec import RULES

__all__ = ["COMBINED", "SINGLE", "Variant", "already"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A server that keeps the contract in its own way.

    Attributes:
        name: what it does otherwise than the reference server.
        notes: the recommendations that it leaves, where the document is open.
        unchecked: the rules that the suite says it cannot look at.
        options: of the server's command.
    """

    name: str
    changes: tuple[Change, ...]
    notes: frozenset[str] = frozenset()
    unchecked: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()


def _variant(
    name: str, *changes: Change, notes: str = "", unchecked: str = "", options: tuple[str, ...] = ()
) -> Variant:
    return Variant(name, changes, frozenset(notes.split()), frozenset(unchecked.split()), options)


def _combined(name: str, *names: str) -> Variant:
    """The freedoms of several variants in one server."""
    variants = [next(variant for variant in SINGLE if variant.name == wanted) for wanted in names]
    return Variant(
        name,
        tuple(change for variant in variants for change in variant.changes),
        frozenset[str]().union(*(variant.notes for variant in variants)),
        frozenset[str]().union(*(variant.unchecked for variant in variants)),
        tuple(option for variant in variants for option in variant.options),
    )


# -- Kinds of changes -------------------------------------------------------------------------------


def _around(code: str) -> Change:
    """Every request passes this body of `async def around(inner, scope, receive, send)`."""
    lines = "".join(f"        {line}\n" for line in code.strip().splitlines())
    before = "    app.asgi_handler = observed.around(traced)\n"
    return Change(
        "app.py",
        before,
        f"{before}    async def around(scope, receive, send, inner=app.asgi_handler):\n{lines}\n"
        "    app.asgi_handler = around\n",
    )


def _headers(expression: str) -> Change:
    """Every response has these headers; `headers` is the list of those that it had, of pairs of bytes."""
    return _around(
        "async def sending(message):\n"
        "    if message['type'] == 'http.response.start':\n"
        f"        status, headers = message['status'], message['headers']\n"
        f"        message['headers'] = {expression}\n"
        "    await send(message)\n"
        "await inner(scope, receive, sending)\n"
    )


def _bodies(code: str) -> Change:
    """Every successful body passes this body of `def rewritten(body)`; it is a dictionary by then."""
    lines = "".join(f"    {line}\n" for line in code.strip().splitlines())
    return Change(
        "api/answer.py",
        "_encode = msgspec.json.Encoder().encode\n",
        f"def _rewritten(body):\n{lines}    return body\n\n\n"
        "def _calls(body):\n    return body.get('results', [body] if 'status' in body else [])\n\n\n"
        "def _encode(body):\n    return msgspec.json.encode(_rewritten(msgspec.to_builtins(body)))\n",
    )


def _errors(body: str) -> Change:
    """Every refusal has this body; `body` is the server's own, `status` its status."""
    return Change(
        "api/errors.py",
        "        msgspec.json.encode(body), status_code",
        f"        msgspec.json.encode({body}), status_code",
    )


def _refused_fields(names: str) -> Change:
    """A new call with one of these fields is refused; `sent` is what was sent."""
    return Change(
        "api/reading.py",
        "    people: dict[str, int] = {}\n",
        "    people: dict[str, int] = {}\n"
        f"    for name in sorted({names} & set(sent)):\n"
        "        raise _invalid(name, 'is not to be set')\n",
    )


def _refusals(status: int, rule: str) -> Change:
    """A refusal by this rule has another status."""
    return Change(
        "api/errors.py",
        "return error_response(violation.rule.status, body, headers)",
        f"return error_response({status} if violation.rule.id == {rule!r} else violation.rule.status, body, headers)",
    )


def _times(code: str) -> Change:
    """Every time in a successful body, a text that ends in Z, is written by this expression of `text`."""
    return _bodies(
        "import re\n"
        "def written(match):\n"
        "    text = match[0]\n"
        f"    return {code}\n"
        "body = msgspec.json.decode(re.sub(\n"
        r"    r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z', written, msgspec.json.encode(body).decode()))"
    )


def _channels(expression: str) -> Change:
    """Channels are named by this expression of `now`."""
    return Change(
        "channels.py",
        "    return f\"call_{int(now.timestamp())}_{''.join(digits.choices('0123456789', k=_DIGITS))}\"",
        f"    import secrets, uuid\n    return {expression}",
    )


def already(*booked: tuple[str, int, int, int]) -> Change:
    """Calls exist: status, minutes from now, doctor, patient."""
    return Change(
        "store/database.py",
        "            people.add_person(connection, user, doctor, patient)\n",
        "            people.add_person(connection, user, doctor, patient)\n"
        "        now = int(__import__('time').time() * 1e6)\n"
        f"        for number, (status, minutes, doctor, patient) in enumerate({booked!r}):\n"
        "            start = now + minutes * 60_000_000\n"
        "            began = start if status in ('ongoing', 'completed') else None\n"
        "            ended = start + 60_000_000 if status == 'completed' else None\n"
        "            made = min(now, start) - 9_000_000_000\n"
        "            changed = ended or began or made\n"
        "            values = (f'earlier_{number}', doctor, patient, status, start, began, ended, made, changed)\n"
        "            connection.exec_driver_sql(\n"
        "                'INSERT INTO calls (channel_name, doctor_id, patient_id, status, scheduled_time,'\n"
        "                ' started_at, ended_at, created_at, updated_at, doctor_present, patient_present)'\n"
        "                ' VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)', values)\n",
    )


def _clock(seconds: int) -> tuple[Change, ...]:
    """The application's clock is ahead by so many seconds."""
    return (
        Change(
            "clock.py",
            "return instant(time.time())",
            f"return instant(time.time() + {seconds})",
        ),
        Change("agora/tokens.py", "issued = int(time.time())", f"issued = int(time.time()) + {seconds}"),
    )


def _dated(seconds: int) -> tuple[Change, ...]:
    """Responses are dated by a clock that is ahead by so many seconds."""
    return (
        Change("serving.py", "server_header=False,", "server_header=False, date_header=False,"),
        _headers(
            "[*headers, (b'date', __import__('email.utils').utils.formatdate("
            f"__import__('time').time() + {seconds}, usegmt=True).encode())]"
        ),
    )


_NO_CHANGE_OF_PAGE_SIZE = Change("api/reading.py", 'query.get("page_size")', 'query.get("never")')

_CROWD = (
    *(("completed", -1440 * day, 1, 1) for day in (1, 2, 3, 30)),
    *(("cancelled", -1440 * day + 35, 1, 2) for day in (1, 2, 3)),
    *(("cancelled", minutes, 2, 2) for minutes in (2, 5, 9, 14)),
    *(("completed", -minutes, 2, 2) for minutes in (3, 9)),
    *(("scheduled", -minutes, 1, 1) for minutes in (1500, 700)),
    *(("ongoing", -minutes, 2, 1) for minutes in (400, 90)),
    *(("scheduled", 60 + 31 * number, 1 + number % 2, 1 + number // 2 % 2) for number in range(8)),
    *(("scheduled", 1440 * day + 31, 1, 2) for day in (41, 60, 72, 73, 104, 200, 900)),
)

_MORE = """
for call in _calls(body):
    call |= {"title": "Consultation", "duration_minutes": 30, "notes": None, "is_active": True}
    call["url"] = f"https://api.example.com/api/v1/video/video-calls/{call['id']}/"
    call["participants"] = [{"role": "doctor", "joined": False}, {"role": "patient", "joined": True}]
    call["doctor_details"] |= {
        "specialization": {"id": 3, "name": "Dermatology", "parent": None},
        "rating": 4.8, "review_count": 321, "languages": ["en", "cs"], "timezone": "Europe/Prague",
        "phone": "+1 202 555 0143", "office": {"street": "12 Main St", "postal_code": "12345-6789"},
        "bio": "Author of \\u201cNo more secrets about skin\\u201d, member of the board since 2011-04-01.",
        "consultation_fee": "120.00", "accepts_insurance": True,
        "slug": "dr-john-doe-4f1c0a9be0d24e5c", "registration_country": "CZ",
    }
    call["patient_details"] |= {"language": "cs", "avatar_url": "https://cdn.example.com/a/9f86d081.png", "age": 41}
    for role in ("doctor_details", "patient_details"):
        call[role]["user"] |= {
            "id": 7, "username": "somebody", "is_active": True, "password_changed": True,
            "date_joined": "2020-02-29T12:00:00Z", "last_login": None, "groups": [],
        }
if "results" in body:
    body |= {"page": 1, "page_size": 20, "total_pages": 3, "links": {"self": "/x"}, "facets": []}
if "token" in body:
    body |= {"role": "publisher", "expires_in": 3600, "rtm_token": None, "call_id": 3, "server_time": "2026-01-01T00:00:00Z"}
"""

# -- One freedom each -------------------------------------------------------------------------------

SINGLE = (
    _variant("ids: UUIDs", options=("--ids", "uuid"), notes="model.integer-ids"),
    _variant(
        "lists: three calls a page, whatever is asked for",
        Change("api/reading.py", "DEFAULT_PAGE_SIZE = 20", "DEFAULT_PAGE_SIZE = 3"),
        _NO_CHANGE_OF_PAGE_SIZE,
        unchecked="list.page-size",
    ),
    _variant(
        "lists: a hundred calls a page",
        Change("api/reading.py", "DEFAULT_PAGE_SIZE = 20", "DEFAULT_PAGE_SIZE = 100"),
    ),
    _variant(
        "lists: up to a thousand calls a page",
        Change("api/reading.py", "DEFAULT_PAGE_SIZE = 20", "DEFAULT_PAGE_SIZE = 1000"),
        Change("api/reading.py", "LARGEST_PAGE_SIZE = 100", "LARGEST_PAGE_SIZE = 1000"),
    ),
    _variant("lists: `page_size` is ignored", _NO_CHANGE_OF_PAGE_SIZE, unchecked="list.page-size"),
    _variant(
        "lists: `page_size` is bounded, not refused",
        Change(
            "api/reading.py", "size = whole_number(text) or 0", "size = min(whole_number(text) or 20, 100)"
        ),
    ),
    _variant(
        "lists: oldest first",
        Change(
            "store/queries.py",
            "_NEWEST_FIRST = calls.c.scheduled_time.desc(), calls.c.id.desc()",
            "_NEWEST_FIRST = calls.c.scheduled_time, calls.c.id",
        ),
        Change(
            "store/queries.py",
            ".order_by(both.c.scheduled_time.desc(), both.c.id.desc())",
            ".order_by(both.c.scheduled_time, both.c.id)",
        ),
        notes="list.newest-first",
    ),
    _variant(
        "lists: a page beyond the last is empty",
        Change(
            "service.py",
            "            if page > 1 and not found:\n",
            "            if not found:\n"
            "                count, _ = queries.page_of_calls(connection, actor, size=1, skip=0)\n"
            "            if False:\n",
        ),
        Change(
            "api/reading.py",
            "        if page < 1:\n            raise",
            "        page = max(1, min(page, 9999))\n        if page < 1:\n            raise",
        ),
        notes="list.page-out-of-range",
    ),
    _variant(
        "others' calls: 404",
        Change(
            "domain/calls.py",
            "raise RuleViolation(PARTICIPANTS_ONLY[action])",
            "raise RuleViolation(NOT_FOUND[action])",
        ),
    ),
    _variant("bodies: more fields everywhere", _bodies(_MORE)),
    _variant(
        "errors: more fields",
        _errors(
            '{"error": body.error, "detail": [], "status": status, "path": "/api/v1/video/", "docs": "https://x.example/errors", "timestamp": "2026-01-01T00:00:00Z"}'
        ),
    ),
    _variant("errors: nothing but a text", _errors('{"error": body.error}')),
    _variant(
        "errors: in another language",
        _errors('{"error": f"To bohužel nejde. 申し訳ありません。 {len(body.error)}"}'),
    ),
    _variant(
        "errors: charset in the content type",
        _headers("[(n, v + b'; charset=utf-8' if n == b'content-type' else v) for n, v in headers]"),
    ),
    _variant("calls exist: of all kinds, far and near", already(*_CROWD)),
    _variant(
        "calls exist: the doctor's and the patient's next minutes are taken",
        already(*_CROWD, ("scheduled", 7, 1, 4), ("ongoing", -4, 4, 1)),
    ),
    _variant(
        "answers: 150 ms late",
        Change(
            "api/middleware.py",
            "        started = time.perf_counter()\n",
            "        await __import__('anyio').sleep(0.15)\n        started = time.perf_counter()\n",
        ),
    ),
    _variant("limits: 20 requests a second", options=("--rate-limit", "20/second")),
    _variant(
        "limits: `Retry-After` is a date",
        Change(
            "api/middleware.py",
            '{"Retry-After": str(wait)}',
            "{'Retry-After': __import__('email.utils').utils.formatdate(int(time.time()) + wait, usegmt=True)}",
        ),
        options=("--rate-limit", "30/second"),
    ),
    _variant("clock: the application is 50 s ahead", *_clock(50)),
    _variant("clock: the application is 50 s behind", *_clock(-50)),
    _variant("clock: 50 s ahead", *_clock(50), *_dated(50)),
    _variant("clock: 50 s behind", *_clock(-50), *_dated(-50)),
    _variant("clock: answers are dated 50 s ahead", *_dated(50)),
    _variant(
        "clock: answers have no date",
        Change("serving.py", "server_header=False,", "server_header=False, date_header=False,"),
    ),
    _variant(
        "create: 30 minutes sharp is a conflict",
        Change("domain/calls.py", "other) < MIN_DISTANCE", "other) <= MIN_DISTANCE"),
    ),
    _variant(
        "create: schedulers book for others",
        Change(
            "api/routes.py",
            "    if asked.doctor is not None and asked.patient is not None:\n",
            "    if request.user.user_id != 108 and asked.doctor is not None and asked.patient is not None:\n",
        ),
    ),
    _variant(
        "create: everybody books for everybody",
        Change(
            "api/routes.py",
            "    if asked.doctor is not None and asked.patient is not None:\n",
            "    if False:\n",
        ),
        notes="create.participants-only",
    ),
    _variant(
        "create: read-only fields are refused",
        _refused_fields(
            "{'id', 'channel_name', 'status', 'started_at', 'ended_at', 'created_at', 'updated_at'}"
        ),
    ),
    _variant(
        "create: unknown fields are refused", _refused_fields("set(sent) - {*_PEOPLE, 'scheduled_time'}")
    ),
    _variant(
        "create: numbers may be texts, as Django REST framework has it",
        Change(
            "api/ids.py",
            "    text = bytes(sent)\n",
            "    text = bytes(sent).strip(b'\"')\n    sent = msgspec.Raw(text)\n",
        ),
    ),
    _variant(
        "create: a time without an offset is in UTC",
        Change(
            "api/reading.py",
            '        raise refused_field("create.aware-time", name)\n',
            "        time = time.replace(tzinfo=UTC)\n",
        ),
        notes="create.aware-time",
    ),
    _variant(
        "create: a time without an offset is in local time",
        Change(
            "api/reading.py",
            '        raise refused_field("create.aware-time", name)\n',
            "        import datetime as d\n        time = time.replace(tzinfo=d.timezone(d.timedelta(hours=-6)))\n",
        ),
        notes="create.aware-time",
    ),
    _variant(
        "create: no idempotency keys",
        Change("api/routes.py", 'idempotency_key(request.headers.get("idempotency-key"))', "None"),
        unchecked="create.idempotency-key",
    ),
    _variant(
        "create: idempotency keys are everybody's",
        Change(
            "store/remembered.py",
            'idempotency_keys.c.user_id == bindparam("user_id"),\n        idempotency_keys.c.key ==',
            "idempotency_keys.c.user_id > 0,\n        idempotency_keys.c.key ==",
        ),
    ),
    _variant("create: no `Location`", _headers("[(n, v) for n, v in headers if n != b'location']")),
    _variant(
        "tracing: no request ids",
        Change(
            "api/middleware.py",
            '[*message["headers"], (b"x-request-id", request_id)]',
            '[*message["headers"]]',
        ),
        unchecked="tracing.request-id",
    ),
    _variant(
        "tracing: request ids of its own",
        Change("api/middleware.py", 'elif name == b"x-request-id" and', "elif False and"),
        unchecked="tracing.request-id",
    ),
    _variant(
        "join: no `app_id`",
        Change("api/routes.py", "        app_id=service.app_id,\n", ""),
        unchecked="join.app-id",
    ),
    _variant("join: tokens of version 007", options=("--agora-token-version", "007")),
    _variant(
        "join: a 006 token lives a day",
        Change("agora/tokens.py", "salt=salt, ts=lapse)", "salt=salt, ts=issued + 86400)"),
        notes="join.token-timestamp",
    ),
    _variant(
        "join: no privilege to publish data",
        Change(
            "agora/tokens.py",
            "PUBLISHER = (JOIN_CHANNEL, PUBLISH_AUDIO, PUBLISH_VIDEO, PUBLISH_DATA)",
            "PUBLISHER = (JOIN_CHANNEL, PUBLISH_AUDIO, PUBLISH_VIDEO)",
        ),
    ),
    _variant(
        "join: `expiration_time` has a fraction of a second",
        Change(
            "agora/tokens.py",
            "instant(issued + lifetime)",
            "instant(time.time() + lifetime)",
        ),
    ),
    _variant(
        "join: the window closes after two hours",
        Change(
            "domain/calls.py",
            "if now < call.scheduled_time - JOIN_WINDOW:",
            "if not call.scheduled_time - JOIN_WINDOW <= now <= call.scheduled_time + 8 * JOIN_WINDOW:",
        ),
    ),
    _variant(
        "join: uids say nothing",
        Change(
            "service.py",
            "uid = transition.call, actor.user_id",
            "uid = transition.call, actor.user_id * 2654435761 % 2**32",
        ),
        Change("domain/calls.py", "role=role, uid=user.id)", "role=role, uid=user.id * 2654435761 % 2**32)"),
    ),
    _variant(
        "join: uids are a call's own",
        Change(
            "service.py",
            "uid = transition.call, actor.user_id",
            "uid = transition.call, (transition.call.id * 65537 + actor.user_id) * 2654435761 % 2**32",
        ),
        Change(
            "domain/calls.py",
            "role=role, uid=user.id)",
            "role=role, uid=(call.id * 65537 + user.id) * 2654435761 % 2**32)",
        ),
    ),
    _variant(
        "join: every join is an update of the record",
        Change(
            "domain/calls.py",
            "    if role not in call.present:\n",
            "    call = call._replace(updated_at=now)\n    if role not in call.present:\n",
        ),
    ),
    _variant("times: in whole seconds", _times("text[:19] + 'Z'")),
    _variant(
        "times: in milliseconds", _times("text.rstrip('Z')[:23] + ('' if '.' in text else '.000') + 'Z'")
    ),
    _variant(
        "times: always with six digits", _times("text.rstrip('Z') + ('' if '.' in text else '.000000') + 'Z'")
    ),
    _variant("times: with +00:00", _times("text.replace('Z', '+00:00')"), notes="model.utc"),
    _variant(
        "times: created and updated differ by microseconds",
        Change(
            "representation.py",
            "updated_at=call.updated_at",
            "updated_at=call.updated_at + __import__('datetime').timedelta(microseconds=17)",
        ),
    ),
    _variant(
        "ids: from 10^12 on",
        Change(
            "store/database.py",
            "        for user, doctor, patient in seed.people:\n",
            "        connection.exec_driver_sql(\"INSERT INTO sqlite_sequence VALUES ('calls', 1000000000000)\")\n"
            "        for user, doctor, patient in seed.people:\n",
        ),
    ),
    _variant("channels: UUIDs", _channels("str(uuid.uuid4())")),
    _variant("channels: 32 hexadecimal digits", _channels("secrets.token_hex(16)")),
    _variant("channels: the date, then letters", _channels("f'{now:%Y-%m-%d}-{secrets.token_urlsafe(9)}'")),
    _variant(
        "channels: the document's own, with four digits",
        _channels(
            "next(name for name in iter(lambda: f'call_{int(now.timestamp())}_{secrets.randbelow(9000) + 1000}', '') if name not in _NAMED and not _NAMED.add(name))"
        ),
        Change("channels.py", "_DIGITS = 16\n", "_DIGITS = 16\n_NAMED = set()\n"),
    ),
    _variant(
        "paths: a redirect where the slash is missing",
        _around(
            "path = scope.get('path', '')\n"
            "if '/video-calls' in path and not path.endswith('/'):\n"
            "    query = scope['query_string']\n"
            "    location = path.encode() + b'/' + (b'?' + query if query else b'')\n"
            "    await send({'type': 'http.response.start', 'status': 308, 'headers': [(b'location', location)]})\n"
            "    await send({'type': 'http.response.body', 'body': b''})\n"
            "else:\n"
            "    await inner(scope, receive, send)\n"
        ),
    ),
    _variant(
        "paths: with a slash and without",
        Change("api/middleware.py", 'not path.endswith(b"/") or ', ""),
        unchecked="errors.trailing-slash",
    ),
    _variant("media types: another is a 400", _refusals(400, "errors.media-type")),
    _variant(
        "media types: any is read as JSON",
        Change(
            "api/reading.py", "if content_type is None or not _JSON.fullmatch(content_type):", "if False:"
        ),
        notes="errors.media-type",
    ),
    _variant(
        "bodies: of any size",
        Change("app.py", "request_max_body_size=BODY_LIMIT", "request_max_body_size=None"),
        unchecked="errors.body-size",
    ),
    _variant("methods: 404", _refusals(404, "errors.method-not-allowed"), notes="errors.allow-header"),
    _variant(
        "methods: no `Allow`",
        _headers("[(n, v) for n, v in headers if n != b'allow']"),
        notes="errors.allow-header",
    ),
    _variant(
        "errors: the framework's own, in plain text",
        _around(
            "async def sending(message):\n"
            "    if message['type'] == 'http.response.start':\n"
            "        plain = message['status'] in (405, 413, 415)\n"
            "        scope['plain'] = plain\n"
            "        if plain:\n"
            "            message['headers'] = [(n, v) for n, v in message['headers'] if n not in (b'content-type', b'content-length')]\n"
            "            message['headers'] += [(b'content-type', b'text/html'), (b'content-length', b'11')]\n"
            "    elif scope.get('plain'):\n"
            "        message['body'] = b'<p>Oops</p>'\n"
            "    await send(message)\n"
            "await inner(scope, receive, sending)\n"
        ),
        notes="errors.body-everywhere",
    ),
    _variant(
        "errors: an id that is no number is a 422",
        Change(
            "api/routes.py",
            'return _ids(request).number("call", request.path_params["id"])',
            "number = _ids(request).number('call', request.path_params['id'])\n"
            "    if number is None:\n"
            "        from video_calls_server.domain.violation import RuleViolation\n"
            "        raise RuleViolation('create.idempotency-key', error='id: not a number')\n"
            "    return number",
        ),
    ),
    _variant(
        "errors: an id that is no number is no path, in plain text",
        _around(
            "import re\n"
            "path = (scope.get('raw_path') or b'').decode('latin-1').partition('?')[0]\n"
            "known = not re.fullmatch(r'/api/v1/video/video-calls/(?![0-9]+/)[^/]+/((join|end|cancel)/)?', path)\n"
            "if scope['type'] == 'http' and not known:\n"
            "    await send({'type': 'http.response.start', 'status': 404, 'headers': [(b'content-type', b'text/html')]})\n"
            "    await send({'type': 'http.response.body', 'body': b'<h1>Not Found</h1>'})\n"
            "else:\n"
            "    await inner(scope, receive, send)\n"
        ),
        notes="errors.body-everywhere",
    ),
    _variant(
        "auth: no challenge",
        Change(
            "api/tokens.py", 'CHALLENGE = {"WWW-Authenticate": "Bearer"}', "CHALLENGE: dict[str, str] = {}"
        ),
        notes="auth.challenge",
    ),
    _variant(
        "auth: a challenge with a realm and a reason",
        Change(
            "api/tokens.py",
            '"WWW-Authenticate": "Bearer"',
            '"WWW-Authenticate": \'Bearer realm="api", error="invalid_token"\'',
        ),
    ),
    _variant("auth: the inactive are forbidden", _refusals(403, "auth.active-user")),
    _variant(
        "auth: the inactive may look",
        Change("store/people.py", "None if row is None or not row[1] else", "None if row is None else"),
        notes="auth.active-user",
    ),
    # -- Events -------------------------------------------------------------------------------------
    _variant(
        "events: none",
        Change("app.py", "            events_router(API_ROOT, outside),\n", ""),
        unchecked=" ".join(slug for slug in RULES if slug.startswith("events.")),
    ),
    _variant(
        "events: opaque ids",
        Change("events/payload.py", "str(event.id)", "f'evt_{event.id * 7919:x}'"),
        Change(
            "api/events.py",
            "            if not _EVENT_ID.fullmatch(given):\n",
            "            if given.startswith('evt_'):\n"
            "                given = str(int(given[4:], 16) // 7919)\n"
            "            if not _EVENT_ID.fullmatch(given):\n",
        ),
    ),
    _variant(
        "events: more fields, and more kinds",
        Change(
            "api/events.py",
            "                        await self._socket.send_text(message(event, self._ids))\n",
            '                        more = message(event, self._ids).replace(\'{"id":\', \'{"version":2,"id":\', 1)\n'
            "                        await self._socket.send_text(more.replace(event.type, 'call.updated', 1))\n"
            "                        await self._socket.send_text(more)\n"
            '                        await self._socket.send_text(\'{"type":"heartbeat"}\')\n',
        ),
    ),
    _variant(
        "events: participants as Agora notices them",
        unchecked="events.participant-joined events.participant-left",
        options=("--agora-ncs-secret", "a-secret-of-notifications"),
    ),
    _variant(
        "events: one joins before the call has started",
        Change(
            "domain/calls.py",
            "    return Transition(call, tuple(events))\n\n\ndef end(",
            "    return Transition(call, tuple(reversed(events)))\n\n\ndef end(",
        ),
    ),
    _variant(
        "events: a second late",
        Change(
            "api/events.py",
            "                await subscription.wait()\n",
            "                await subscription.wait()\n                await anyio.sleep(1)\n",
        ),
    ),
)

# -- Many at once -----------------------------------------------------------------------------------

COMBINED = (
    _combined(
        "as another team would build it",
        "others' calls: 404",
        "bodies: more fields everywhere",
        "errors: in another language",
        "calls exist: the doctor's and the patient's next minutes are taken",
        "clock: 50 s ahead",
        "create: 30 minutes sharp is a conflict",
        "create: no idempotency keys",
        "tracing: no request ids",
        "join: no `app_id`",
        "join: tokens of version 007",
        "join: the window closes after two hours",
        "join: uids are a call's own",
        "join: every join is an update of the record",
        "ids: from 10^12 on",
        "channels: UUIDs",
        "paths: with a slash and without",
        "bodies: of any size",
    ),
    _combined(
        "as a team in a hurry would build it",
        "lists: oldest first",
        "lists: a page beyond the last is empty",
        "errors: nothing but a text",
        "calls exist: of all kinds, far and near",
        "clock: the application is 50 s behind",
        "create: schedulers book for others",
        "create: a time without an offset is in local time",
        "create: numbers may be texts, as Django REST framework has it",
        "tracing: request ids of its own",
        "join: a 006 token lives a day",
        "times: with +00:00",
        "channels: the document's own, with four digits",
        "media types: any is read as JSON",
        "methods: no `Allow`",
        "auth: no challenge",
        "auth: the inactive may look",
    ),
    _combined(
        "as a strict team would build it",
        "ids: UUIDs",
        "lists: up to a thousand calls a page",
        "lists: `page_size` is bounded, not refused",
        "errors: more fields",
        "clock: answers are dated 50 s ahead",
        "create: unknown fields are refused",
        "create: no `Location`",
        "times: in whole seconds",
        "channels: the date, then letters",
        "media types: another is a 400",
    ),
)

"""Servers with one violation each: the reference server with a rule, a field or a check of it altered.

A mutant is data: which texts of the server are replaced, and which rules it breaks. Where one alteration
breaks several sentences alike, the suite may name any of them. Run as a program, this module prints what
became of them from the JUnit report of their test.
"""

# ruff: noqa: E501, S608 (they are texts of the server, some of them wrong on purpose)

import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import video_calls_server

__all__ = ["MUTANTS", "PACKAGE", "Change", "Mutant", "build", "drifted", "table"]

PACKAGE = Path(video_calls_server.__file__).parent


@dataclass(frozen=True, slots=True)
class Change:
    """A text of a module of the server, which it has once, and what stands there instead."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A server with one violation.

    Attributes:
        name: what it does wrong.
        rules: the rules that it breaks; the suite names at least one of them.
        options: of the server's command.
    """

    name: str
    rules: frozenset[str]
    changes: tuple[Change, ...]
    options: tuple[str, ...] = ()

    @property
    def section(self) -> str:
        """The part of the catalogue that it is listed under."""
        return self.name.partition(":")[0]


def build(changes: Iterable[Change], directory: Path) -> None:
    """Put a copy of the server's package with these changes into a directory."""
    copy = directory / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for change in changes:
        module = copy / change.module
        module.write_text(module.read_text().replace(change.old, change.new))


def drifted(changes: Iterable[Change]) -> list[str]:
    """In which of them the server has drifted away, and which modules they leave no Python in, as text."""
    found: list[str] = []
    texts: dict[str, str] = {}
    for change in changes:
        text = texts.get(change.module) or (PACKAGE / change.module).read_text()
        if text.count(change.old) != 1:
            found.append(f"not once in {change.module}: {change.old!r}")
        texts[change.module] = text.replace(change.old, change.new)
    for module, text in texts.items():
        try:
            compile(text, module, "exec")
        except SyntaxError as error:
            found.append(f"no Python in {module}: {error}")
    return found


def _mutant(name: str, rules: str, *changes: Change, options: tuple[str, ...] = ()) -> Mutant:
    return Mutant(name, frozenset(rules.split()), changes, options)


def _domain(old: str, new: str) -> Change:
    return Change("domain/calls.py", old, new)


def _service(old: str, new: str) -> Change:
    return Change("service.py", old, new)


def _queries(old: str, new: str) -> Change:
    return Change("store/queries.py", old, new)


def _routes(old: str, new: str) -> Change:
    return Change("api/routes.py", old, new)


def _reading(old: str, new: str) -> Change:
    return Change("api/reading.py", old, new)


def _shown(old: str, new: str) -> Change:
    return Change("representation.py", old, new)


def _errors(old: str, new: str) -> Change:
    return Change("api/errors.py", old, new)


def _jwt(old: str, new: str) -> Change:
    return Change("api/tokens.py", old, new)


def _admission(old: str, new: str) -> Change:
    return Change("api/middleware.py", old, new)


def _agora(old: str, new: str) -> Change:
    return Change("agora/tokens.py", old, new)


def _structs(old: str, new: str) -> Change:
    return Change("_structs.py", old, new)


def _events(old: str, new: str) -> Change:
    return Change("api/events.py", old, new)


def _payload(old: str, new: str) -> Change:
    return Change("events/payload.py", old, new)


def _outbox(old: str, new: str) -> Change:
    return Change("store/outbox.py", old, new)


# -- Kinds of alterations ---------------------------------------------------------------------------


def _open_to_anybody(condition: str) -> Change:
    """Requests without a token, of which `condition` holds, are the doctor's."""
    return _admission(
        '        scope["user"] = await _authenticate(scope)\n',
        f'        if header(scope, b"authorization") is None and {condition}:\n'
        '            scope["user"] = Actor(101, 1, None)\n'
        "        else:\n"
        '            scope["user"] = await _authenticate(scope)\n',
    )


def _verified(options: str) -> Change:
    """JWTs are verified with other options of PyJWT."""
    return _jwt("options={\n", f"options={{\n                {options},\n")


def _answered(status: int, condition: str) -> Change:
    """Refusals, by rules of which `condition` holds, have another status."""
    return _errors(
        "return error_response(violation.rule.status, body, headers)",
        "rule = violation.rule\n"
        f"    return error_response({status} if {condition} else rule.status, body, headers)",
    )


def _said(error: str) -> Change:
    """Refusals have another text."""
    return _errors("body = Error(error=violation.error,", f"body = Error(error={error},")


_NOW = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"


def _ordered(*columns: str) -> tuple[Change, ...]:
    """Calls are listed in this order of `{}`, which stands for their columns."""
    first, second = (", ".join(column.format(table) for column in columns) for table in ("calls.c", "both.c"))
    return (
        _queries(
            "_NEWEST_FIRST = calls.c.scheduled_time.desc(), calls.c.id.desc()", f"_NEWEST_FIRST = ({first},)"
        ),
        _queries(".order_by(both.c.scheduled_time.desc(), both.c.id.desc())", f".order_by({second})"),
    )


def _refused_but_done(rule: str, assignments: str) -> Change:
    """What a rule refuses is done all the same."""
    return _service(
        "        transition = await self._store.write(work)\n        self._tell(transition)\n",
        "        try:\n"
        "            transition = await self._store.write(work)\n"
        "        except RuleViolation as violation:\n"
        f'            if violation.rule.id == "{rule}":\n'
        "                sql = "
        + repr(f"UPDATE calls SET {assignments} WHERE id = {{}}")
        + ".format(call_id)\n"
        "                await self._store.write(lambda connection: connection.exec_driver_sql(sql))\n"
        "            raise\n"
        "        self._tell(transition)\n",
    )


def _honoured(name: str, value: str = 'body["{}"]', only: str = "True") -> Change:
    """A field that the backend alone sets is taken from the request."""
    return _routes(
        "    created = await _service(request).create(request.user, draft, key=key)\n",
        "    created = await _service(request).create(request.user, draft, key=key)\n"
        "    from datetime import datetime\n"
        "    from video_calls_server.store.queries import to_microseconds\n"
        "    body = await request.json()\n"
        f'    if body.get("{name}") is not None and {only}:\n'
        f"        values = ({value.format(name)}, created.call.id)\n"
        f'        sql = "UPDATE calls SET {name} = ? WHERE id = ?"\n'
        "        store = request.app.state.namespaces.default.store\n"
        "        await store.write(lambda connection: connection.exec_driver_sql(sql, values))\n"
        '        call_id = body["id"] if "id" in sql.split(" = ")[0].split() else created.call.id\n'
        "        call = await _service(request).get(request.user, call_id)\n"
        "        created = type(created)(call, replayed=False)\n",
    )


_A_TIME = 'to_microseconds(datetime.fromisoformat(body["{}"]))'


def _channel(name: str, *, before: str = "") -> Change:
    """Channels have other names; `before` stands in the module, in front of the function that makes them."""
    return Change(
        "channels.py",
        "def channel_name(now: datetime, digits",
        f"import hashlib, itertools\n_numbers = itertools.count(1)\n{before}\n\n"
        f"def channel_name(now: datetime, _digits: object = None) -> str:\n    return {name}\n\n\n"
        "def _former_channel_name(now: datetime, digits",
    )


_CHANNELS_MAY_MEET = Change(
    "store/schema.py",
    'Column("channel_name", Text, nullable=False, unique=True)',
    'Column("channel_name", Text, nullable=False)',
)


def _in_details(extra: str) -> Change:
    """The users of a call are described with more."""
    return _shown(
        "return User(email=user.email, full_name=user.full_name)",
        f'return {{"email": user.email, "full_name": user.full_name, {extra}}}  # type: ignore[return-value]',
    )


def _joined(old: str, new: str) -> Change:
    """The answer to a join has another value."""
    return _routes(f"        {old},\n", f"        {new},\n")


def _also(method: str, path: str, body: str, name: str = "undocumented") -> tuple[Change, ...]:
    """Another method is served."""
    return (
        _routes(
            "from litestar import Request, Router, get, post",
            f"from litestar import Request, Router, {method}, get, post",
        ),
        _routes(
            "def _call_id(request: ApiRequest)",
            f'@{method}("{path}", status_code=200)\n'
            f"async def {name}(request: ApiRequest) -> Answer:\n{body}\n\n"
            "def _call_id(request: ApiRequest)",
        ),
        _routes("            cancel_video_call,\n", f"            cancel_video_call,\n            {name},\n"),
    )


def _also_by_get(action: str) -> tuple[Change, ...]:
    """An action is taken by GET too."""
    path = f"/video-calls/{{id:str}}/{action}/"
    return (
        _routes(
            "from litestar import Request, Router, get, post",
            "from litestar import Request, Router, get, post, route",
        ),
        _routes(f'@post("{path}"', f'@route("{path}", http_method=["GET", "POST"]'),
    )


_CALL_TO_CHANGE = "None if call_id is None else queries.call_to_change(connection, call_id)"


def _done_apart(action: str, pause: float) -> tuple[Change, ...]:
    """An action's check and its change are two transactions."""
    return (
        _service("import time\n", "import asyncio\nimport time\n"),
        _service(
            "        def work(connection: Connection) -> Transition:\n"
            f"            found = {_CALL_TO_CHANGE}\n",
            "        earlier = await self._store.read(lambda connection: _call(connection, call_id))\n"
            f"        if action in {action.split()!r}:\n"
            f"            await asyncio.sleep({pause})\n"
            "\n"
            "        def work(connection: Connection) -> Transition:\n"
            f"            found = earlier if action in {action.split()!r} else {_CALL_TO_CHANGE}\n",
        ),
    )


_ALLOWS_OVERLAP = "    if any(abs(draft.scheduled_time - other) < MIN_DISTANCE for other in neighbours):\n"
_NEAR_EITHER = "for of_one in (_of_doctor, _of_patient)"
_NEIGHBOURS_READ = (
    "                neighbours=queries.neighbours(\n"
    "                    connection, draft.doctor_id, draft.patient_id, draft.scheduled_time\n"
    "                ),\n"
)
_STARTS = "call = call._replace(status=status, started_at=now, updated_at=now)"
_ENDS = "call._replace(status=status, ended_at=ended, updated_at=ended, present=frozenset())"
_CANCELS = "call._replace(status=status, updated_at=now), (Event"
_OPEN_STATUSES = 'OPEN: frozenset[Status] = frozenset({"scheduled", "ongoing"})'
_GET = '            calls.role_of(actor, call, "get")\n            return call\n'
_PATH = '(scope.get("raw_path") or b"")'
_LIST = f'scope["method"] == "GET" and {_PATH}.endswith(b"/video-calls/")'
_DETAIL = f'scope["method"] == "GET" and not {_PATH}.endswith(b"/video-calls/")'
_CREATE = f'scope["method"] == "POST" and {_PATH}.endswith(b"/video-calls/")'

MUTANTS: tuple[Mutant, ...] = (
    # -- Authentication -----------------------------------------------------------------------------
    _mutant("auth: no operation needs a token", "auth.required", _open_to_anybody("True")),
    _mutant("auth: the list needs no token", "auth.required", _open_to_anybody(_LIST)),
    _mutant("auth: creating needs no token", "auth.required", _open_to_anybody(_CREATE)),
    _mutant("auth: reading a call needs no token", "auth.required", _open_to_anybody(_DETAIL)),
    _mutant(
        "auth: joining needs no token", "auth.required", _open_to_anybody(f'{_PATH}.endswith(b"/join/")')
    ),
    _mutant("auth: ending needs no token", "auth.required", _open_to_anybody(f'{_PATH}.endswith(b"/end/")')),
    _mutant(
        "auth: cancelling needs no token", "auth.required", _open_to_anybody(f'{_PATH}.endswith(b"/cancel/")')
    ),
    _mutant("auth: an expired token is accepted", "auth.expired-token", _verified('"verify_exp": False')),
    _mutant(
        "auth: a token is accepted for two hours beyond its expiry",
        "auth.expired-token",
        _jwt(
            "            audience=self._audience,\n",
            "            audience=self._audience,\n            leeway=7200,\n",
        ),
    ),
    _mutant(
        "auth: an expired token reads a call",
        "auth.expired-token",
        _admission(
            '    verified = await verifier.verify(header(scope, b"authorization"))\n',
            "    try:\n"
            '        verified = await verifier.verify(header(scope, b"authorization"))\n'
            "    except Exception as error:\n"
            f'        if "expired" not in str(error) or not ({_DETAIL}):\n'
            "            raise\n"
            "        verified = type('Verified', (), {'user': 101})\n",
        ),
    ),
    _mutant(
        "auth: a token of `alg: none` is accepted",
        "auth.valid-token",
        _verified(
            '"verify_exp": True, "verify_signature": jwt.get_unverified_header(token).get("alg") != "none"'
        ),
    ),
    _mutant(
        "auth: a token of `alg: None` is accepted",
        "auth.valid-token",
        _verified(
            '"verify_exp": True, "verify_signature": jwt.get_unverified_header(token).get("alg") != "None"'
        ),
    ),
    _mutant(
        "auth: no signature is verified",
        "auth.valid-token",
        _verified('"verify_exp": True, "verify_signature": False'),
    ),
    _mutant(
        "auth: a token without its signature is accepted",
        "auth.valid-token",
        _verified('"verify_exp": True, "verify_signature": not token.endswith(".")'),
    ),
    _mutant(
        "auth: a token signed with an empty key is accepted",
        "auth.valid-token",
        _jwt("import base64\n", "import base64\nimport hmac\n"),
        _jwt(
            "        jwt.decode(\n",
            '        signed, _, signature = token.rpartition(".")\n'
            '        digest = hmac.digest(b"", signed.encode(), "sha256")\n'
            '        empty = base64.urlsafe_b64encode(digest).decode().rstrip("=") == signature\n'
            "        jwt.decode(\n",
        ),
        _verified('"verify_exp": True, "verify_signature": not empty'),
    ),
    _mutant(
        "auth: a token is remembered by its signature, so that altered claims are accepted",
        "auth.valid-token",
        _jwt("self._remembered.get(token)", 'self._remembered.get(token.rpartition(".")[2])'),
        _jwt("self._remembered[token] =", 'self._remembered[token.rpartition(".")[2]] ='),
    ),
    _mutant(
        "auth: a signature may differ in its middle",
        "auth.valid-token",
        _jwt("self._remembered.get(token)", "self._remembered.get(token[:-25] + token[-10:])"),
        _jwt("self._remembered[token] =", "self._remembered[token[:-25] + token[-10:]] ="),
    ),
    _mutant(
        "auth: a forged token joins",
        "auth.valid-token",
        _admission(
            '    verified = await verifier.verify(header(scope, b"authorization"))\n',
            "    try:\n"
            '        verified = await verifier.verify(header(scope, b"authorization"))\n'
            "    except Exception as error:\n"
            f'        if "invalid" not in str(error) or not {_PATH}.endswith(b"/join/"):\n'
            "            raise\n"
            "        verified = type('Verified', (), {'user': 101})\n",
        ),
    ),
    _mutant(
        "auth: inactive people are served",
        "auth.active-user",
        Change("store/people.py", "None if row is None or not row[1] else", "None if row is None else"),
    ),
    _mutant(
        "auth: 403 in place of 401",
        "auth.required auth.valid-token auth.expired-token",
        _answered(403, "rule.status == 401"),
    ),
    _mutant(
        "auth: an expired token is answered 403",
        "auth.expired-token",
        _answered(403, 'rule.id == "auth.expired-token"'),
    ),
    _mutant(
        "auth: a forged token is answered 400",
        "auth.valid-token",
        _answered(400, 'rule.id == "auth.valid-token"'),
    ),
    _mutant(
        "auth: what is no JWT is answered 500",
        "auth.valid-token errors.no-server-error",
        _jwt(
            "except _NOT_VALID as error:",
            "except jwt.InvalidSignatureError as error:",
        ),
    ),
    _mutant(
        "auth: a 401 has no challenge",
        "auth.challenge",
        _jwt('CHALLENGE = {"WWW-Authenticate": "Bearer"}', "CHALLENGE: dict[str, str] = {}"),
    ),
    _mutant(
        "auth: a patient's good token is refused when they end a call",
        "auth.bearer end.completes",
        _routes(
            "    call = await _service(request).end(",
            "    if request.user.doctor_id is None:\n"
            "        from video_calls_server.domain.violation import RuleViolation\n"
            '        raise RuleViolation("auth.required")\n'
            "    call = await _service(request).end(",
        ),
    ),
    # -- List ---------------------------------------------------------------------------------------
    _mutant(
        "list: a doctor sees everybody's calls",
        "list.own-calls",
        _queries("_AS_DOCTOR = _as_one(_of_doctor)", "_AS_DOCTOR = _as_one(calls.c.id > 0)"),
    ),
    _mutant(
        "list: a patient sees everybody's calls",
        "list.own-calls",
        _queries("_AS_PATIENT = _as_one(_of_patient)", "_AS_PATIENT = _as_one(calls.c.id > 0)"),
    ),
    _mutant(
        "list: an outsider sees everybody's calls",
        "list.own-calls",
        _queries(
            'return _AS_PATIENT, {"patient_id": actor.patient_id}\n    return None',
            'return _AS_PATIENT, {"patient_id": actor.patient_id}\n    return _as_one(calls.c.id > 0), {}',
        ),
    ),
    _mutant(
        "list: doctors' and patients' ids are mixed up",
        "list.own-calls",
        _queries(
            "_AS_DOCTOR = _as_one(_of_doctor)",
            '_AS_DOCTOR = _as_one(or_(_of_doctor, calls.c.patient_id == bindparam("doctor_id")))',
        ),
    ),
    _mutant(
        "list: who is both sees the doctor's side alone",
        "list.own-calls",
        _queries("_AS_EITHER = _as_either(_of_doctor, _of_patient)", "_AS_EITHER = _as_one(_of_doctor)"),
    ),
    _mutant(
        "list: who is both sees the patient's side alone",
        "list.own-calls",
        _queries("_AS_EITHER = _as_either(_of_doctor, _of_patient)", "_AS_EITHER = _as_one(_of_patient)"),
    ),
    _mutant(
        "list: a patient sees nothing",
        "list.own-calls",
        _queries(
            "    if actor.patient_id is not None:\n        return _AS_PATIENT",
            "    if False:\n        return _AS_PATIENT",
        ),
    ),
    *(
        _mutant(
            f"list: {status} calls are hidden",
            "list.own-calls",
            _queries(
                "_AS_DOCTOR = _as_one(_of_doctor)\n"
                "_AS_PATIENT = _as_one(_of_patient)\n"
                "_AS_EITHER = _as_either(_of_doctor, _of_patient)\n",
                f'_seen = calls.c.status != "{status}"\n'
                "_AS_DOCTOR = _as_one(_of_doctor & _seen)\n"
                "_AS_PATIENT = _as_one(_of_patient & _seen)\n"
                "_AS_EITHER = _as_either(_of_doctor & _seen, _of_patient & _seen)\n",
            ),
        )
        for status in ("cancelled", "completed", "ongoing")
    ),
    _mutant(
        "list: `count` is one too many",
        "list.envelope",
        _routes("count=page.count,", "count=page.count + 1,"),
    ),
    _mutant(
        "list: `count` is of the page",
        "list.envelope",
        _routes("count=page.count,", "count=len(page.calls),"),
    ),
    _mutant(
        "list: `count` is of everybody's calls",
        "list.envelope",
        _queries(
            "return _whole(page, _count(own))",
            "return _whole(page, _count(calls.c.id > 0))",
        ),
    ),
    _mutant(
        "list: `next` is never null",
        "list.pages",
        _routes(
            "next=_page_url(request, asked.page + 1) if more else None",
            "next=_page_url(request, asked.page + 1)",
        ),
    ),
    _mutant(
        "list: `next` is always null",
        "list.pages",
        _routes("next=_page_url(request, asked.page + 1) if more else None", "next=None"),
    ),
    _mutant(
        "list: `next` is null a page too early",
        "list.pages",
        _routes(
            "more = asked.page * asked.size < page.count", "more = (asked.page + 1) * asked.size < page.count"
        ),
    ),
    _mutant(
        "list: `next` is the page itself",
        "list.pages",
        _routes("next=_page_url(request, asked.page + 1)", "next=_page_url(request, asked.page)"),
    ),
    _mutant(
        "list: `previous` is always null",
        "list.pages",
        _routes("_page_url(request, asked.page - 1) if asked.page > 1 else None", "None"),
    ),
    _mutant(
        "list: `previous` is the page itself",
        "list.pages",
        _routes("_page_url(request, asked.page - 1)", "_page_url(request, asked.page)"),
    ),
    _mutant(
        "list: `previous` of the first page is not null",
        "list.pages",
        _routes(
            "_page_url(request, asked.page - 1) if asked.page > 1",
            "_page_url(request, asked.page) if asked.page >= 1",
        ),
    ),
    _mutant(
        "list: a call is on two pages",
        "list.pages",
        _service("skip = (page - 1) * size", "skip = (page - 1) * max(size - 1, 0)"),
    ),
    _mutant(
        "list: a call between two pages is missed",
        "list.pages",
        _service("skip = (page - 1) * size", "skip = (page - 1) * (size + 1)"),
    ),
    _mutant(
        "list: every page has another order",
        "list.pages",
        *_ordered("func.random()"),
    ),
    _mutant(
        "list: links are relative",
        "list.pages",
        _routes('f"{request.url.scheme}://{request.url.netloc}{path}?', 'f"{path}?'),
    ),
    _mutant(
        "list: links lose `page_size`",
        "list.pages",
        _routes('if pair[0] != "page"]', 'if pair[0] not in ("page", "page_size")]'),
    ),
    _mutant(
        "list: `results` is called `items`",
        "list.envelope model.schema",
        _structs(
            "class VideoCallPage(Struct, kw_only=True):",
            'class VideoCallPage(Struct, kw_only=True, rename={"results": "items"}):',
        ),
    ),
    _mutant(
        "list: `count` is called `total`",
        "list.envelope model.schema",
        _structs(
            "class VideoCallPage(Struct, kw_only=True):",
            'class VideoCallPage(Struct, kw_only=True, rename={"count": "total"}):',
        ),
    ),
    _mutant(
        "list: `next` is left out where it is null",
        "list.envelope model.schema",
        _structs(
            "class VideoCallPage(Struct, kw_only=True):",
            "class VideoCallPage(Struct, kw_only=True, omit_defaults=True):",
        ),
        _structs(
            "or null on the last.', max_length=4096)] | None\n",
            "or null on the last.', max_length=4096)] | None = None\n",
        ),
    ),
    _mutant(
        "list: a bare array",
        "list.envelope model.schema",
        Change(
            "api/answer.py",
            "self.body = _encode(body)",
            'self.body = _encode(getattr(body, "results", body))',
        ),
    ),
    _mutant(
        "list: calls lack `patient_details`",
        "model.schema",
        _routes(
            "results=[_shown(request, call) for call in page.calls]",
            'results=[{name: getattr(video_call(call), name) for name in video_call(call).__struct_fields__ if name != "patient_details"} for call in page.calls]',
        ),
    ),
    _mutant(
        "list: every call is shown as scheduled",
        "list.own-calls",
        _routes(
            "_shown(request, call) for call in page.calls",
            '_shown(request, call._replace(status="scheduled", started_at=None, ended_at=None)) for call in page.calls',
        ),
    ),
    _mutant(
        "list: ids of calls are texts",
        "model.schema",
        _routes(
            "_shown(request, call) for call in page.calls",
            '__import__("msgspec").structs.replace(_shown(request, call), id=str(call.id)) for call in page.calls',
        ),
    ),
    _mutant(
        "list: oldest first",
        "list.newest-first",
        *_ordered("{}.scheduled_time", "{}.id"),
    ),
    _mutant(
        "list: in the order of creation",
        "list.newest-first",
        *_ordered("{}.id.desc()"),
    ),
    _mutant(
        "list: a page past the last is empty",
        "list.page-out-of-range",
        _service("if page > 1 and not found:", "if False:"),
    ),
    _mutant(
        "list: page 0 is the first",
        "list.page-out-of-range",
        _reading(
            '        if page < 1:\n            raise RuleViolation("list.page-out-of-range")\n',
            "        page = max(page, 1)\n",
        ),
    ),
    _mutant(
        "list: a page that is no number is answered 500",
        "errors.no-server-error list.page-out-of-range",
        _reading(
            "page = whole_number(text) or 0\n        if page < 1", "page = int(text)\n        if page < 1"
        ),
    ),
    _mutant(
        "list: a page size of 0 is answered 500",
        "errors.no-server-error list.page-size",
        _reading("if not 1 <= size <= LARGEST_PAGE_SIZE:", "if 1 // size > LARGEST_PAGE_SIZE:"),
    ),
    # -- Create -------------------------------------------------------------------------------------
    _mutant(
        "create: overlap is not looked at", "create.no-overlap", _domain(_ALLOWS_OVERLAP, "    if False:\n")
    ),
    _mutant(
        "create: overlap for the doctor alone",
        "create.no-overlap",
        _queries(_NEAR_EITHER, "for of_one in (_of_doctor,)"),
    ),
    _mutant(
        "create: overlap for the patient alone",
        "create.no-overlap",
        _queries(_NEAR_EITHER, "for of_one in (_of_patient,)"),
    ),
    _mutant(
        "create: overlap for the same pair alone",
        "create.no-overlap",
        _queries(_NEAR_EITHER, "for of_one in (_of_doctor & _of_patient,)"),
    ),
    _mutant(
        "create: overlap with everybody's calls",
        "create.adjacent create.schedules",
        _queries(_NEAR_EITHER, "for of_one in (calls.c.id > 0,)"),
    ),
    _mutant(
        "create: overlap with earlier calls alone",
        "create.no-overlap",
        _queries("latest=near + distance,", "latest=near,"),
    ),
    _mutant(
        "create: overlap with later calls alone",
        "create.no-overlap",
        _queries("earliest=near - distance,", "earliest=near,"),
    ),
    _mutant(
        "create: overlap at equal times alone",
        "create.no-overlap",
        _domain(_ALLOWS_OVERLAP, "    if any(draft.scheduled_time == other for other in neighbours):\n"),
    ),
    *(
        _mutant(
            f"create: calls must be {minutes} minutes apart",
            rules,
            _domain("MIN_DISTANCE = timedelta(minutes=30)", f"MIN_DISTANCE = timedelta(minutes={minutes})"),
        )
        for minutes, rules in (
            (20, "create.no-overlap"),
            (29, "create.no-overlap"),
            (35, "create.adjacent"),
            (45, "create.adjacent"),
            (60, "create.adjacent"),
        )
    ),
    _mutant(
        "create: ongoing calls block nothing",
        "create.no-overlap",
        _domain(_OPEN_STATUSES, 'OPEN: frozenset[Status] = frozenset({"scheduled"})'),
    ),
    _mutant(
        "create: cancelled calls block",
        "create.frees-slot",
        _domain(_OPEN_STATUSES, 'OPEN: frozenset[Status] = frozenset({"scheduled", "ongoing", "cancelled"})'),
    ),
    _mutant(
        "create: completed calls block",
        "create.frees-slot",
        _domain(_OPEN_STATUSES, 'OPEN: frozenset[Status] = frozenset({"scheduled", "ongoing", "completed"})'),
    ),
    _mutant(
        "create: an overlap is answered 409",
        "create.no-overlap",
        _answered(409, 'rule.id == "create.no-overlap"'),
    ),
    _mutant(
        "create: what overlaps is refused and kept",
        "create.no-overlap",
        _service(
            "        return await self._store.write(work)\n\n    async def join",
            "        try:\n"
            "            return await self._store.write(work)\n"
            "        except RuleViolation as violation:\n"
            '            if violation.rule.id == "create.no-overlap":\n'
            "                await self._store.write(lambda connection: queries.add_call(connection, calls.schedule(\n"
            "                    draft, doctor=people.doctor_to_book(connection, draft.doctor_id),\n"
            "                    patient=people.patient_to_book(connection, draft.patient_id), neighbours=(),\n"
            "                    channel_name=channel_name(self._clock.now()), now=self._clock.now())))\n"
            "            raise\n\n    async def join",
        ),
    ),
    _mutant(
        "create: simultaneous requests are checked before either is kept",
        "create.no-race",
        _service("import time\n", "import asyncio\nimport time\n"),
        _service(
            "        def work(connection: Connection) -> Created:\n",
            "        near = await self._store.read(lambda connection: queries.neighbours(\n"
            "            connection, draft.doctor_id, draft.patient_id, draft.scheduled_time))\n"
            "        await asyncio.sleep(0.05)\n\n"
            "        def work(connection: Connection) -> Created:\n",
        ),
        _service(_NEIGHBOURS_READ, "                neighbours=near,\n"),
    ),
    _mutant(
        "create: simultaneous requests for one patient are checked before either is kept",
        "create.no-race",
        _service("import time\n", "import asyncio\nimport time\n"),
        _service(
            "        def work(connection: Connection) -> Created:\n",
            "        near = await self._store.read(lambda connection: queries.neighbours(\n"
            "            connection, -1, draft.patient_id, draft.scheduled_time))\n"
            "        await asyncio.sleep(0.05)\n\n"
            "        def work(connection: Connection) -> Created:\n",
        ),
        _service(
            _NEIGHBOURS_READ,
            "                neighbours=[*near, *queries.neighbours(\n"
            "                    connection, draft.doctor_id, -1, draft.scheduled_time)],\n",
        ),
    ),
    _mutant(
        "create: simultaneous requests for one doctor are checked before either is kept",
        "create.no-race",
        _service("import time\n", "import asyncio\nimport time\n"),
        _service(
            "        def work(connection: Connection) -> Created:\n",
            "        near = await self._store.read(lambda connection: queries.neighbours(\n"
            "            connection, draft.doctor_id, -1, draft.scheduled_time))\n"
            "        await asyncio.sleep(0.05)\n\n"
            "        def work(connection: Connection) -> Created:\n",
        ),
        _service(
            _NEIGHBOURS_READ,
            "                neighbours=[*near, *queries.neighbours(\n"
            "                    connection, -1, draft.patient_id, draft.scheduled_time)],\n",
        ),
    ),
    _mutant(
        "create: the past is accepted",
        "create.future",
        _domain("if draft.scheduled_time <= now:", "if False:"),
    ),
    _mutant(
        "create: five minutes ago is accepted",
        "create.future",
        _domain("if draft.scheduled_time <= now:", "if draft.scheduled_time <= now - timedelta(minutes=5):"),
    ),
    _mutant(
        "create: calls must be an hour ahead",
        "create.future create.schedules",
        _domain("if draft.scheduled_time <= now:", "if draft.scheduled_time <= now + timedelta(hours=1):"),
    ),
    _mutant(
        "create: calls must be within thirty days",
        "create.future create.schedules",
        _domain(
            "if draft.scheduled_time <= now:", "if not now < draft.scheduled_time < now + timedelta(days=30):"
        ),
    ),
    _mutant(
        "create: doctor and patient may be the same user",
        "create.different-users",
        _domain("if doctor.user.id == patient.user.id:", "if False:"),
    ),
    _mutant(
        "create: the same user is told by equal ids",
        "create.different-users create.schedules",
        _domain("if doctor.user.id == patient.user.id:", "if doctor.id == patient.id:"),
    ),
    _mutant(
        "create: a doctor who does not exist is taken",
        "create.doctor-valid",
        _domain(
            'raise refused_field("create.doctor-valid", "doctor")',
            "from video_calls_server.domain.people import User\n"
            '        doctor = Doctor(draft.doctor_id, User(2**31, "new@example.com", "New", True))',
        ),
        Change("store/sqlite.py", '"foreign_keys = ON"', '"foreign_keys = OFF"'),
    ),
    _mutant(
        "create: a patient who does not exist is taken",
        "create.patient-valid",
        _domain(
            'raise refused_field("create.patient-valid", "patient")',
            "from video_calls_server.domain.people import User\n"
            '        patient = Patient(draft.patient_id, User(2**31, "new@example.com", "New", True))',
        ),
        Change("store/sqlite.py", '"foreign_keys = ON"', '"foreign_keys = OFF"'),
    ),
    _mutant(
        "create: a doctor who does not exist is answered 500",
        "create.doctor-valid errors.no-server-error",
        _domain('raise refused_field("create.doctor-valid", "doctor")', "raise LookupError(draft.doctor_id)"),
    ),
    _mutant(
        "create: an inactive doctor is taken",
        "create.doctor-active",
        _domain("if not doctor.user.active:", "if False:"),
    ),
    _mutant(
        "create: an inactive patient is taken",
        "create.patient-active",
        _domain("if not patient.user.active:", "if False:"),
    ),
    _mutant(
        "create: an offset is dropped",
        "create.time-offset",
        _reading("return time.astimezone(UTC)", "return time.replace(tzinfo=UTC)"),
    ),
    _mutant(
        "create: an offset is refused", "create.time-offset", _reading("([Zz]|[+-]\\d\\d:\\d\\d)?", "([Zz])?")
    ),
    _mutant(
        "create: an offset is turned round",
        "create.time-offset",
        _reading(
            "return time.astimezone(UTC)",
            "return time.replace(tzinfo=UTC) + (time.utcoffset() or time - time)",
        ),
    ),
    _mutant(
        "create: seconds are cut off",
        "model.scheduled-time create.schedules",
        _reading(
            "return time.astimezone(UTC)", "return time.astimezone(UTC).replace(second=0, microsecond=0)"
        ),
    ),
    _mutant(
        "create: times are rounded to the quarter of an hour",
        "model.scheduled-time create.schedules",
        _reading(
            "return time.astimezone(UTC)",
            "return time.astimezone(UTC).replace(minute=time.minute // 15 * 15, second=0, microsecond=0)",
        ),
    ),
    _mutant(
        "create: a time without an offset is accepted",
        "create.aware-time",
        _reading('raise refused_field("create.aware-time", name)', "time = time.replace(tzinfo=UTC)"),
    ),
    _mutant(
        "create: `status` is taken from the request",
        "create.read-only-fields",
        _honoured("status", only='body["status"] in ("ongoing", "completed", "cancelled")'),
    ),
    _mutant(
        "create: `channel_name` is taken from the request",
        "create.read-only-fields",
        _honoured("channel_name", only='isinstance(body["channel_name"], str)'),
    ),
    _mutant(
        "create: `id` is taken from the request",
        "create.read-only-fields",
        _honoured("id", only='isinstance(body["id"], int)'),
    ),
    *(
        _mutant(
            f"create: `{name}` is taken from the request", "create.read-only-fields", _honoured(name, _A_TIME)
        )
        for name in ("started_at", "ended_at", "created_at", "updated_at")
    ),
    _mutant(
        "create: 200 in place of 201", "create.schedules model.schema", _routes("status=201", "status=200")
    ),
    _mutant(
        "create: a missing field is answered 500",
        "create.valid-body errors.no-server-error",
        _reading('raise _invalid(name, "this field is required")', "raise LookupError(name)"),
    ),
    _mutant(
        "create: a wrong body is answered 422",
        "create.valid-body",
        _answered(422, 'rule.id == "create.valid-body"'),
    ),
    _mutant(
        "create: a missing time is tomorrow",
        "create.valid-body",
        _reading(
            '        raise _invalid(name, "this field is required")\n',
            '        if name == "scheduled_time":\n'
            "            from datetime import timedelta\n"
            "            return datetime.now(UTC) + timedelta(days=1)\n"
            '        raise _invalid(name, "this field is required")\n',
        ),
    ),
    _mutant(
        "create: a time of null is tomorrow",
        "create.valid-body",
        _reading(
            "    try:\n        text = _TEXT.decode(value)",
            '    if bytes(value) == b"null":\n'
            "        from datetime import timedelta\n"
            "        return datetime.now(UTC) + timedelta(days=1)\n"
            "    try:\n        text = _TEXT.decode(value)",
        ),
    ),
    _mutant(
        "create: a time that is no time is answered 500",
        "create.valid-body errors.no-server-error",
        _reading(
            "        if not _RFC_3339.fullmatch(text):\n",
            "        datetime.fromisoformat(text)\n        if not _RFC_3339.fullmatch(text):\n",
        ),
    ),
    _mutant(
        "create: an id beyond 64 bits is answered 500",
        "create.valid-body create.doctor-valid create.patient-valid errors.no-server-error",
        Change("api/ids.py", "Decoder(Annotated[int, Meta(ge=1, le=LARGEST_ID)])", "Decoder(int)"),
    ),
    _mutant("create: channels are numbered", "create.random-channel", _channel('f"call_{next(_numbers)}"')),
    _mutant(
        "create: channels are numbered after the time",
        "create.random-channel",
        _channel('f"call_{int(now.timestamp())}_{1000 + next(_numbers)}"'),
    ),
    _mutant(
        "create: channels are the time",
        "create.random-channel",
        _channel('f"call_{int(now.timestamp() * 1_000_000)}"'),
    ),
    _mutant(
        "create: channels are the MD5 of the id",
        "create.random-channel",
        _channel('"call_" + hashlib.md5(str(next(_numbers)).encode()).hexdigest()'),
    ),
    _mutant(
        "create: channels are the start of the SHA-256 of the id",
        "create.random-channel",
        _channel("hashlib.sha256(str(next(_numbers)).encode()).hexdigest()[:16]"),
    ),
    _mutant(
        "create: channels are made of the participants' ids and the time",
        "create.random-channel",
        _CHANNELS_MAY_MEET,
        _service(
            "channel_name=channel_name(now),",
            'channel_name=f"call_{draft.doctor_id}_{draft.patient_id}_{int(draft.scheduled_time.timestamp())}",',
        ),
    ),
    _mutant(
        "create: all calls have one channel",
        "create.unique-channel",
        _CHANNELS_MAY_MEET,
        _channel('"call_1704436789_5678"'),
    ),
    _mutant(
        "create: all calls of two people have one channel",
        "create.unique-channel",
        _CHANNELS_MAY_MEET,
        _service(
            "@dataclass(frozen=True, slots=True)\nclass Page:",
            "_CHANNELS: dict[tuple[int, int], str] = {}\n\n\n@dataclass(frozen=True, slots=True)\nclass Page:",
        ),
        _service(
            "channel_name=channel_name(now),",
            "channel_name=_CHANNELS.setdefault((draft.doctor_id, draft.patient_id), channel_name(now)),",
        ),
    ),
    _mutant(
        "create: a cancelled call's channel is used again",
        "create.unique-channel",
        _CHANNELS_MAY_MEET,
        _service(
            "@dataclass(frozen=True, slots=True)\nclass Page:",
            "_FREE: list[str] = []\n\n\n@dataclass(frozen=True, slots=True)\nclass Page:",
        ),
        _service(
            "channel_name=channel_name(now),", "channel_name=_FREE.pop() if _FREE else channel_name(now),"
        ),
        _service(
            '        return (await self._change(call_id, "cancel", lambda call, now: calls.cancel(call, actor, now))).call\n',
            '        call = (await self._change(call_id, "cancel", lambda call, now: calls.cancel(call, actor, now))).call\n'
            "        _FREE.append(call.channel_name)\n"
            "        return call\n",
        ),
    ),
    _mutant(
        "create: an Idempotency-Key with another body is answered with the first call",
        "create.idempotency-key",
        _service("if draft != Draft(call.doctor.id, call.patient.id, call.scheduled_time):", "if False:"),
    ),
    _mutant(
        "create: an Idempotency-Key is remembered and books again",
        "create.idempotency-key",
        _service(
            "                    return Created(_first_answer(earlier, draft), replayed=True)\n",
            "                    _first_answer(earlier, draft)\n"
            "                    new = calls.schedule(\n"
            "                        draft, doctor=earlier.doctor, patient=earlier.patient, neighbours=(),\n"
            "                        channel_name=channel_name(now), now=now)\n"
            "                    return Created(queries.add_call(connection, new), replayed=True)\n",
        ),
    ),
    _mutant(
        "create: anybody schedules for anybody",
        "create.participants-only",
        _domain("if actor.doctor_id != doctor_id and actor.patient_id != patient_id:", "if False:"),
    ),
    _mutant(
        "create: patients may not schedule",
        "create.schedules",
        _domain(
            "if actor.doctor_id != doctor_id and actor.patient_id != patient_id:",
            "if actor.doctor_id != doctor_id:",
        ),
    ),
    _mutant(
        "create: doctors may not schedule",
        "create.schedules",
        _domain(
            "if actor.doctor_id != doctor_id and actor.patient_id != patient_id:",
            "if actor.patient_id != patient_id:",
        ),
    ),
    _mutant(
        "create: the answer is not what is kept",
        "create.schedules get.returns-call",
        _routes(
            "Answer(shown, status=201",
            'Answer(video_call(created.call._replace(channel_name=f"{created.call.channel_name}_new")), status=201',
        ),
    ),
    # -- Get ----------------------------------------------------------------------------------------
    _mutant("get: anybody reads", "get.participants-only", _service(_GET, "            return call\n")),
    _mutant(
        "get: any doctor reads",
        "get.participants-only",
        _service(
            _GET,
            "            if actor.doctor_id is None:\n    " + _GET,
        ),
    ),
    _mutant(
        "get: any patient reads",
        "get.participants-only",
        _service(_GET, "            if actor.patient_id is None:\n    " + _GET),
    ),
    _mutant(
        "get: doctors' and patients' ids are mixed up",
        "get.participants-only",
        _service(
            _GET, "            if call.doctor.id not in (actor.doctor_id, actor.patient_id):\n    " + _GET
        ),
    ),
    _mutant(
        "get: the doctor alone reads",
        "get.returns-call",
        _service(
            _GET,
            '            if calls.role_of(actor, call, "get") != "doctor":\n'
            '                raise RuleViolation("get.participants-only")\n'
            "            return call\n",
        ),
    ),
    _mutant(
        "get: a call is read as it was created",
        "get.returns-call",
        _service(
            _GET,
            _GET.replace(
                "return call", 'return call._replace(status="scheduled", started_at=None, ended_at=None)'
            ),
        ),
    ),
    _mutant(
        "get: 200 and null for no call",
        "get.not-found",
        _routes(
            "    call = await _service(request).get(request.user, _call_id(request))\n    return",
            "    try:\n"
            "        call = await _service(request).get(request.user, _call_id(request))\n"
            "    except Exception as error:\n"
            '        if "not-found" not in str(error):\n'
            "            raise\n"
            "        return Answer(None)  # type: ignore[arg-type]\n"
            "    return",
        ),
    ),
    *(
        _mutant(
            f"{action}: 400 for no call",
            f"{action}.not-found",
            _answered(400, f'rule.id == "{action}.not-found"'),
        )
        for action in ("get", "join", "end", "cancel")
    ),
    _mutant(
        "get: 500 for no call",
        "errors.no-server-error get.not-found",
        _domain("raise RuleViolation(NOT_FOUND[action])", "raise LookupError(action)"),
    ),
    _mutant(
        "get: 500 for an id beyond 64 bits",
        "errors.no-server-error get.not-found",
        Change("api/ids.py", "return number if number <= LARGEST_ID else None", "return number"),
    ),
    _mutant(
        "get: 500 for an id that is no number",
        "errors.no-server-error get.not-found",
        Change("api/ids.py", "        return whole_number(text)\n", "        return int(text)\n"),
    ),
    # -- Join ---------------------------------------------------------------------------------------
    *(
        _mutant(
            f"join: the window is {minutes} minutes",
            "join.window",
            _domain("JOIN_WINDOW = timedelta(minutes=15)", f"JOIN_WINDOW = timedelta(minutes={minutes})"),
        )
        for minutes in (5, 10, 20, 30, 60, 24 * 60)
    ),
    _mutant(
        "join: there is no window",
        "join.window",
        _domain("if now < call.scheduled_time - JOIN_WINDOW:", "if False:"),
    ),
    _mutant(
        "join: the window closes at `scheduled_time`, for an ongoing call too",
        "join.again join.started-once",
        _domain(
            "if now < call.scheduled_time - JOIN_WINDOW:",
            "if not call.scheduled_time - JOIN_WINDOW <= now <= call.scheduled_time:",
        ),
    ),
    _mutant(
        "join: the window opens at `scheduled_time`",
        "join.window",
        _domain("if now < call.scheduled_time - JOIN_WINDOW:", "if now < call.scheduled_time:"),
    ),
    _mutant(
        "join: patients need no window",
        "join.window",
        _domain(
            "if now < call.scheduled_time - JOIN_WINDOW:",
            'if role == "doctor" and now < call.scheduled_time - JOIN_WINDOW:',
        ),
    ),
    _mutant(
        "join: doctors need no window",
        "join.window",
        _domain(
            "if now < call.scheduled_time - JOIN_WINDOW:",
            'if role == "patient" and now < call.scheduled_time - JOIN_WINDOW:',
        ),
    ),
    _mutant("join: too early is answered 403", "join.window", _answered(403, 'rule.id == "join.window"')),
    _mutant("join: too early is answered 409", "join.window", _answered(409, 'rule.id == "join.window"')),
    _mutant(
        "join: too early starts the call all the same",
        "join.window",
        _refused_but_done("join.window", f"status = 'ongoing', started_at = {_NOW}, updated_at = {_NOW}"),
    ),
    _mutant(
        "join: anybody joins",
        "join.participants-only",
        _domain(
            'role = role_of(actor, call, "join")', 'role: Role = "doctor" if actor.doctor_id else "patient"'
        ),
    ),
    _mutant(
        "join: any doctor joins",
        "join.participants-only",
        _domain(
            'role = role_of(actor, call, "join")',
            'role = "doctor" if actor.doctor_id else role_of(actor, call, "join")',
        ),
    ),
    _mutant(
        "join: any patient joins",
        "join.participants-only",
        _domain(
            'role = role_of(actor, call, "join")',
            'role = "patient" if actor.patient_id else role_of(actor, call, "join")',
        ),
    ),
    _mutant(
        "join: anybody joins an ongoing call",
        "join.participants-only",
        _domain(
            'role = role_of(actor, call, "join")',
            'role = "patient" if call.status == "ongoing" else role_of(actor, call, "join")',
        ),
    ),
    _mutant(
        "join: a stranger is refused and starts the call",
        "join.participants-only",
        _refused_but_done(
            "join.participants-only", f"status = 'ongoing', started_at = {_NOW}, updated_at = {_NOW}"
        ),
    ),
    _mutant(
        "join: the patient may not",
        "join.credentials join.again",
        _domain(
            '    status = _next_status("join", call)\n',
            '    if role == "patient":\n'
            '        raise RuleViolation("join.participants-only")\n'
            '    status = _next_status("join", call)\n',
        ),
    ),
    _mutant(
        "join: the patient may not be the first",
        "join.credentials join.again join.starts-call",
        _domain(
            '    status = _next_status("join", call)\n',
            '    if role == "patient" and call.status == "scheduled":\n'
            '        raise RuleViolation("join.window")\n'
            '    status = _next_status("join", call)\n',
        ),
    ),
    _mutant(
        "join: the second participant is refused",
        "join.again join.credentials",
        _domain(
            '    status = _next_status("join", call)\n',
            '    if call.status == "ongoing" and role not in call.present:\n'
            '        raise RuleViolation("join.window")\n'
            '    status = _next_status("join", call)\n',
        ),
    ),
    _mutant(
        "join: who has joined is refused",
        "join.again",
        _domain(
            '    status = _next_status("join", call)\n',
            '    if role in call.present:\n        raise RuleViolation("join.window")\n'
            '    status = _next_status("join", call)\n',
        ),
    ),
    *(
        _mutant(
            f"join: a {status} call {does}",
            f"join.not-{status}",
            _domain(f'"{status}": Refusal("join.not-{status}")', f'"{status}": "{following}"'),
        )
        for status, does, following in (
            ("cancelled", "is joined and ongoing", "ongoing"),
            ("cancelled", "is joined", "cancelled"),
            ("completed", "is joined and ongoing again", "ongoing"),
            ("completed", "is joined", "completed"),
        )
    ),
    _mutant(
        "join: each join moves `started_at`",
        "join.started-once",
        _domain(
            "    if role not in call.present:\n        absent = ",
            "    else:\n        call = call._replace(started_at=now)\n"
            "    if role not in call.present:\n        absent = ",
        ),
    ),
    _mutant(
        "join: the second participant's join moves `started_at`",
        "join.started-once",
        _domain(
            "    if role not in call.present:\n        absent = ",
            "    if role not in call.present:\n        call = call._replace(started_at=now)\n        absent = ",
        ),
    ),
    _mutant(
        "join: `started_at` is `scheduled_time`",
        "join.starts-call model.started-at",
        _domain(
            _STARTS, "call = call._replace(status=status, started_at=call.scheduled_time, updated_at=now)"
        ),
    ),
    _mutant(
        "join: `started_at` is `created_at`",
        "join.starts-call model.started-at",
        _domain(_STARTS, "call = call._replace(status=status, started_at=call.created_at, updated_at=now)"),
    ),
    _mutant(
        "join: `started_at` is not set",
        "join.starts-call model.started-at",
        _domain(_STARTS, "call = call._replace(status=status, updated_at=now)"),
    ),
    _mutant(
        "join: the call stays scheduled",
        "join.starts-call",
        _domain(_STARTS, "call = call._replace(started_at=now, updated_at=now)"),
    ),
    _mutant(
        "join: nothing of it is kept",
        "join.starts-call",
        _service("if transition.call is not call:", 'if transition.call is not call and action != "join":'),
    ),
    _mutant(
        "join: the call starts when both have joined",
        "join.starts-call",
        _domain(
            "    if call.status != status:\n", "    if call.status != status and call.present - {role}:\n"
        ),
    ),
    _mutant(
        "join: both have one uid",
        "join.uid-differs",
        _service(
            "call, uid = transition.call, actor.user_id", "call, uid = transition.call, transition.call.id"
        ),
    ),
    _mutant(
        "join: the uid is that of the doctor or the patient, which may be equal",
        "join.uid-differs",
        _service(
            "call, uid = transition.call, actor.user_id",
            "call, uid = transition.call, actor.doctor_id or actor.patient_id or 1",
        ),
    ),
    _mutant(
        "join: each join has another uid",
        "join.uid-stable events.participant-joined",
        _service(
            "call, uid = transition.call, actor.user_id",
            "call, uid = transition.call, __import__('secrets').randbelow(2**31) + 1",
        ),
    ),
    _mutant(
        "join: the uid is 0",
        "join.uid-differs model.schema",
        _service("call, uid = transition.call, actor.user_id", "call, uid = transition.call, 0"),
        _agora("if not 1 <= uid <= MAX_UID:", "if not 0 <= uid <= MAX_UID:"),
    ),
    _mutant("join: the uid is a text", "model.schema", _joined("uid=joined.uid", "uid=str(joined.uid)")),
    _mutant(
        "join: the token is for another channel",
        "join.token-channel",
        _service("channel=call.channel_name, uid=uid)", 'channel="consultation", uid=uid)'),
    ),
    _mutant(
        "join: the token is for another uid",
        "join.token-uid",
        _service("channel=call.channel_name, uid=uid)", "channel=call.channel_name, uid=uid + 1)"),
    ),
    _mutant(
        "join: the token is signed with another certificate",
        "join.token-signature",
        _agora(
            "AccessToken(project.app_id, project.app_certificate,",
            "AccessToken(project.app_id, project.app_certificate[::-1],",
        ),
    ),
    _mutant(
        "join: a token 007 is signed with another certificate",
        "join.token-signature",
        _agora(
            "project.app_certificate.encode(), sha256)", "project.app_certificate[::-1].encode(), sha256)"
        ),
        options=("--agora-token-version", "007"),
    ),
    _mutant(
        "join: the token is of another app id",
        "join.token-format",
        _agora("AccessToken(project.app_id,", "AccessToken(project.app_id[::-1],"),
    ),
    _mutant(
        "join: `app_id` is another",
        "join.app-id",
        _joined("app_id=service.app_id", "app_id=service.app_id[::-1]"),
    ),
    _mutant(
        "join: the token is garbage",
        "join.token-format",
        _joined("token=joined.minted.token", 'token="006" + "0123456789abcdef" * 8'),
    ),
    _mutant(
        "join: the token is empty",
        "join.token-format model.schema",
        _joined("token=joined.minted.token", 'token=""'),
    ),
    *(
        _mutant(
            f"join: the token {lets}",
            "join.token-privileges",
            _agora(
                "PUBLISHER = (JOIN_CHANNEL, PUBLISH_AUDIO, PUBLISH_VIDEO, PUBLISH_DATA)",
                f"PUBLISHER = ({privileges})",
            ),
        )
        for lets, privileges in (
            ("lets its holder listen alone", "JOIN_CHANNEL,"),
            ("lets nobody publish video", "JOIN_CHANNEL, PUBLISH_AUDIO, PUBLISH_DATA"),
            ("lets nobody publish audio", "JOIN_CHANNEL, PUBLISH_VIDEO, PUBLISH_DATA"),
            ("lets nobody join", "PUBLISH_AUDIO, PUBLISH_VIDEO, PUBLISH_DATA"),
        )
    ),
    *(
        _mutant(
            f"join: tokens{version} live {minutes} minutes",
            "join.token-lifetime",
            _agora("TOKEN_LIFETIME = timedelta(hours=1)", f"TOKEN_LIFETIME = timedelta(minutes={minutes})"),
            options=("--agora-token-version", "007") if version else (),
        )
        for version, minutes in (
            ("", 24 * 60),
            ("", 30),
            ("", 61),
            ("", 120),
            (" 007", 24 * 60),
            (" 007", 30),
        )
    ),
    _mutant(
        "join: the privileges live a day",
        "join.token-lifetime join.expiration-time",
        _agora(
            "dict.fromkeys(PUBLISHER, lapse), salt=salt, ts=lapse)",
            "dict.fromkeys(PUBLISHER, lapse + 82800), salt=salt, ts=lapse + 82800)",
        ),
    ),
    _mutant(
        "join: the privileges to publish live a day",
        "join.token-lifetime",
        _agora(
            "dict.fromkeys(PUBLISHER, lapse), salt=salt, ts=lapse)",
            "dict.fromkeys(PUBLISHER, lapse + 82800) | {JOIN_CHANNEL: lapse}, salt=salt, ts=lapse + 82800)",
        ),
    ),
    _mutant(
        "join: the privileges of a token 007 live half an hour",
        "join.token-lifetime join.expiration-time",
        _agora("dict.fromkeys(PUBLISHER, lifetime)", "dict.fromkeys(PUBLISHER, lifetime // 2)"),
        options=("--agora-token-version", "007"),
    ),
    _mutant(
        "join: the token lives a day, and its privileges an hour",
        "join.token-timestamp",
        _agora("salt=salt, ts=lapse)", "salt=salt, ts=lapse + 82800)"),
    ),
    _mutant(
        "join: `expiration_time` is an hour late",
        "join.expiration-time",
        _joined(
            "expiration_time=joined.minted.expires_at",
            'expiration_time=joined.minted.expires_at + __import__("datetime").timedelta(hours=1)',
        ),
    ),
    _mutant(
        "join: `expiration_time` is a minute late",
        "join.expiration-time",
        _joined(
            "expiration_time=joined.minted.expires_at",
            'expiration_time=joined.minted.expires_at + __import__("datetime").timedelta(minutes=1)',
        ),
    ),
    _mutant(
        "join: `expiration_time` is now",
        "join.expiration-time",
        _joined(
            "expiration_time=joined.minted.expires_at",
            'expiration_time=joined.minted.expires_at - __import__("datetime").timedelta(hours=1)',
        ),
    ),
    _mutant(
        "join: `expiration_time` is an hour after `scheduled_time`",
        "join.expiration-time",
        _joined(
            "expiration_time=joined.minted.expires_at",
            'expiration_time=joined.call.scheduled_time + __import__("datetime").timedelta(hours=1)',
        ),
    ),
    _mutant(
        "join: `expiration_time` has no offset",
        "join.expiration-time model.schema",
        _joined(
            "expiration_time=joined.minted.expires_at",
            "expiration_time=joined.minted.expires_at.replace(tzinfo=None)",
        ),
    ),
    _mutant(
        "join: `expiration_time` is a number",
        "join.expiration-time model.schema",
        _joined(
            "expiration_time=joined.minted.expires_at",
            "expiration_time=int(joined.minted.expires_at.timestamp())",
        ),
    ),
    _mutant(
        "join: `channel_name` is not the call's",
        "join.same-channel",
        _joined("channel_name=joined.call.channel_name", 'channel_name="consultation"'),
        _service("channel=call.channel_name, uid=uid)", 'channel="consultation", uid=uid)'),
    ),
    _mutant(
        "join: each participant has a channel",
        "join.same-channel",
        _joined(
            "channel_name=joined.call.channel_name", 'channel_name=f"{joined.call.channel_name}_{joined.uid}"'
        ),
        _service("channel=call.channel_name, uid=uid)", 'channel=f"{call.channel_name}_{uid}", uid=uid)'),
    ),
    _mutant(
        "join: 201 in place of 200",
        "model.schema join.credentials",
        _routes('Answer(credentials, headers=[(b"cache', 'Answer(credentials, status=201, headers=[(b"cache'),
    ),
    _mutant(
        "join: the answer is the call",
        "model.schema join.credentials",
        _routes("return Answer(credentials, headers", "return Answer(video_call(joined.call), headers"),
    ),
    _mutant(
        "join: a join and a cancel at once both succeed",
        "cancel.scheduled-only join.not-cancelled join.started-once",
        *_done_apart("join cancel", 0.05),
    ),
    # -- End ----------------------------------------------------------------------------------------
    _mutant("end: anybody ends", "end.participants-only", _domain('    role_of(actor, call, "end")\n', "")),
    _mutant(
        "end: any doctor ends",
        "end.participants-only",
        _domain(
            '    role_of(actor, call, "end")\n',
            '    if actor.doctor_id is None:\n        role_of(actor, call, "end")\n',
        ),
    ),
    _mutant(
        "end: any patient ends",
        "end.participants-only",
        _domain(
            '    role_of(actor, call, "end")\n',
            '    if actor.patient_id is None:\n        role_of(actor, call, "end")\n',
        ),
    ),
    _mutant(
        "end: a stranger is refused and ends the call",
        "end.participants-only",
        _refused_but_done(
            "end.participants-only", f"status = 'completed', ended_at = {_NOW}, updated_at = {_NOW}"
        ),
    ),
    _mutant(
        "end: a scheduled call is completed",
        "end.ongoing-only",
        _domain('"scheduled": Refusal("end.ongoing-only")', '"scheduled": "completed"'),
    ),
    _mutant(
        "end: a scheduled call is refused and cancelled",
        "end.ongoing-only",
        _refused_but_done("end.ongoing-only", f"status = 'cancelled', updated_at = {_NOW}"),
    ),
    _mutant(
        "end: a completed call is ended again",
        "end.ongoing-only",
        _domain('"completed": Refusal("end.ongoing-only")', '"completed": "completed"'),
    ),
    _mutant(
        "end: ending a completed call changes nothing and succeeds",
        "end.ongoing-only",
        _domain(
            '    status = _next_status("end", call)\n',
            '    if call.status == "completed":\n        return Transition(call, ())\n'
            '    status = _next_status("end", call)\n',
        ),
    ),
    _mutant(
        "end: a cancelled call is completed",
        "end.ongoing-only",
        _domain('"cancelled": Refusal("end.ongoing-only")', '"cancelled": "completed"'),
    ),
    _mutant(
        "end: what is not ongoing is answered 409",
        "end.ongoing-only",
        _answered(409, 'rule.id == "end.ongoing-only"'),
    ),
    _mutant(
        "end: what is not ongoing is answered 403",
        "end.ongoing-only",
        _answered(403, 'rule.id == "end.ongoing-only"'),
    ),
    _mutant(
        "end: `ended_at` is not set",
        "end.completes model.ended-at",
        _domain(_ENDS, "call._replace(status=status, updated_at=now, present=frozenset())"),
    ),
    _mutant(
        "end: `ended_at` is `started_at`",
        "end.completes model.ended-at",
        _domain(
            _ENDS,
            "call._replace(status=status, ended_at=call.started_at, updated_at=now, present=frozenset())",
        ),
    ),
    _mutant(
        "end: `ended_at` is half an hour after `scheduled_time`",
        "end.completes model.ended-at",
        _domain(
            _ENDS,
            "call._replace(\n        status=status, ended_at=call.scheduled_time + MIN_DISTANCE, updated_at=now, present=frozenset()\n    )",
        ),
    ),
    _mutant(
        "end: `started_at` is lost",
        "end.completes model.started-at",
        _domain(
            _ENDS,
            "call._replace(status=status, started_at=None, ended_at=now, updated_at=now, present=frozenset())",
        ),
    ),
    _mutant(
        "end: `started_at` moves",
        "join.started-once model.started-at end.completes",
        _domain(
            _ENDS,
            "call._replace(status=status, started_at=now, ended_at=now, updated_at=now, present=frozenset())",
        ),
    ),
    _mutant(
        "end: the status is `ended`",
        "model.status-values end.completes",
        _shown("status=call.status,", 'status="ended" if call.status == "completed" else call.status,'),
    ),
    _mutant(
        "end: the doctor alone may",
        "end.completes",
        _domain(
            '    role_of(actor, call, "end")\n',
            '    if role_of(actor, call, "end") != "doctor":\n        raise RuleViolation("end.participants-only")\n',
        ),
    ),
    _mutant(
        "end: the patient alone may",
        "end.completes",
        _domain(
            '    role_of(actor, call, "end")\n',
            '    if role_of(actor, call, "end") != "patient":\n        raise RuleViolation("end.participants-only")\n',
        ),
    ),
    _mutant(
        "end: nothing of it is kept",
        "end.completes get.returns-call",
        _service("if transition.call is not call:", 'if transition.call is not call and action != "end":'),
    ),
    _mutant(
        "end: the answer is the call as it was",
        "end.completes",
        _routes(
            "    call = await _service(request).end(request.user, _call_id(request))\n",
            "    call = await _service(request).end(request.user, _call_id(request))\n"
            '    call = call._replace(status="ongoing", ended_at=None)\n',
        ),
    ),
    # -- Cancel -------------------------------------------------------------------------------------
    _mutant(
        "cancel: anybody cancels",
        "cancel.participants-only",
        _domain('    role_of(actor, call, "cancel")\n', ""),
    ),
    _mutant(
        "cancel: any doctor cancels",
        "cancel.participants-only",
        _domain(
            '    role_of(actor, call, "cancel")\n',
            '    if actor.doctor_id is None:\n        role_of(actor, call, "cancel")\n',
        ),
    ),
    _mutant(
        "cancel: any patient cancels",
        "cancel.participants-only",
        _domain(
            '    role_of(actor, call, "cancel")\n',
            '    if actor.patient_id is None:\n        role_of(actor, call, "cancel")\n',
        ),
    ),
    _mutant(
        "cancel: a stranger is refused and cancels the call",
        "cancel.participants-only",
        _refused_but_done("cancel.participants-only", f"status = 'cancelled', updated_at = {_NOW}"),
    ),
    *(
        _mutant(
            f"cancel: a call that is {status} is cancelled",
            "cancel.scheduled-only",
            _domain(f'"{status}": Refusal("cancel.scheduled-only")', f'"{status}": "cancelled"'),
        )
        for status in ("ongoing", "completed", "cancelled")
    ),
    _mutant(
        "cancel: cancelling a cancelled call changes nothing and succeeds",
        "cancel.scheduled-only",
        _domain(
            '    status = _next_status("cancel", call)\n',
            '    if call.status == "cancelled":\n        return Transition(call, ())\n'
            '    status = _next_status("cancel", call)\n',
        ),
    ),
    _mutant(
        "cancel: an ongoing call is refused and completed",
        "cancel.scheduled-only",
        _refused_but_done(
            "cancel.scheduled-only",
            f"ended_at = CASE status WHEN 'ongoing' THEN {_NOW} ELSE ended_at END, "
            "status = CASE status WHEN 'ongoing' THEN 'completed' ELSE status END",
        ),
    ),
    _mutant(
        "cancel: what is not scheduled is answered 409",
        "cancel.scheduled-only",
        _answered(409, 'rule.id == "cancel.scheduled-only"'),
    ),
    _mutant(
        "cancel: the doctor alone may",
        "cancel.cancels",
        _domain(
            '    role_of(actor, call, "cancel")\n',
            '    if role_of(actor, call, "cancel") != "doctor":\n        raise RuleViolation("cancel.participants-only")\n',
        ),
    ),
    _mutant(
        "cancel: the patient alone may",
        "cancel.cancels",
        _domain(
            '    role_of(actor, call, "cancel")\n',
            '    if role_of(actor, call, "cancel") != "patient":\n        raise RuleViolation("cancel.participants-only")\n',
        ),
    ),
    _mutant(
        "cancel: `ended_at` is set",
        "cancel.cancels model.ended-at",
        _domain(_CANCELS, "call._replace(status=status, ended_at=now, updated_at=now), (Event"),
    ),
    _mutant(
        "cancel: `started_at` is set",
        "cancel.cancels model.started-at",
        _domain(_CANCELS, "call._replace(status=status, started_at=now, updated_at=now), (Event"),
    ),
    _mutant(
        "cancel: the call is deleted",
        "cancel.cancels get.returns-call",
        _service(
            '        return (await self._change(call_id, "cancel", lambda call, now: calls.cancel(call, actor, now))).call\n',
            '        call = (await self._change(call_id, "cancel", lambda call, now: calls.cancel(call, actor, now))).call\n'
            "        keys = f'DELETE FROM idempotency_keys WHERE call_id = {call.id}'\n"
            "        await self._store.write(lambda connection: connection.exec_driver_sql(keys))\n"
            "        sql = f'DELETE FROM calls WHERE id = {call.id}'\n"
            "        await self._store.write(lambda connection: connection.exec_driver_sql(sql))\n"
            "        return call\n",
        ),
    ),
    _mutant(
        "cancel: the status is `canceled`",
        "model.status-values cancel.cancels",
        _shown("status=call.status,", 'status="canceled" if call.status == "cancelled" else call.status,'),
    ),
    _mutant(
        "cancel: nothing of it is kept",
        "cancel.cancels get.returns-call",
        _service("if transition.call is not call:", 'if transition.call is not call and action != "cancel":'),
    ),
    _mutant(
        "cancel: 204 and no body",
        "model.schema cancel.cancels",
        _routes(
            "    call = await _service(request).cancel(request.user, _call_id(request))\n    return Answer(_shown(request, call))",
            "    await _service(request).cancel(request.user, _call_id(request))\n"
            "    answer = Answer(None, status=204)  # type: ignore[arg-type]\n"
            '    answer.body, answer.headers = b"", []\n'
            "    return answer",
        ),
    ),
    # -- The record ---------------------------------------------------------------------------------
    _mutant(
        "model: `updated_at` never moves",
        "model.updated-at",
        _shown("updated_at=call.updated_at,", "updated_at=call.created_at,"),
    ),
    *(
        _mutant(f"model: {action} leaves `updated_at`", "model.updated-at", _domain(old, new))
        for action, old, new in (
            ("a first join", _STARTS, "call = call._replace(status=status, started_at=now)"),
            ("an end", _ENDS, "call._replace(status=status, ended_at=now, present=frozenset())"),
            ("a cancel", _CANCELS, "call._replace(status=status), (Event"),
        )
    ),
    *(
        _mutant(
            f"model: what {rule} refuses moves `updated_at`",
            f"{rule} model.updated-at",
            _refused_but_done(rule, f"updated_at = {_NOW}"),
        )
        for rule in ("join.window", "join.participants-only", "end.ongoing-only", "cancel.scheduled-only")
    ),
    _mutant(
        "model: each reading moves `updated_at`",
        "model.updated-at",
        _shown(
            "from video_calls_server.domain import people\n",
            "from datetime import UTC, datetime\nfrom video_calls_server.domain import people\n",
        ),
        _shown("updated_at=call.updated_at,", "updated_at=datetime.now(UTC),"),
    ),
    _mutant(
        "model: `created_at` moves with each change",
        "model.created-at",
        _shown("created_at=call.created_at,", "created_at=call.updated_at,"),
    ),
    _mutant(
        "model: `created_at` is `scheduled_time`",
        "model.created-at",
        _shown("created_at=call.created_at,", "created_at=call.scheduled_time,"),
    ),
    _mutant(
        "model: each participant is described as the other",
        "model.details",
        _shown("user=_user(call.doctor.user)", "user=_user(call.patient.user)"),
        _shown(
            "PatientDetails(id=call.patient.id, user=_user(call.patient.user))",
            "PatientDetails(id=call.patient.id, user=_user(call.doctor.user))",
        ),
    ),
    _mutant(
        "model: doctors are described as their patients",
        "model.details",
        _shown("user=_user(call.doctor.user)", "user=_user(call.patient.user)"),
    ),
    _mutant(
        "model: all patients are described as one",
        "model.details",
        _shown(
            "PatientDetails(id=call.patient.id, user=_user(call.patient.user))",
            'PatientDetails(id=call.patient.id, user=User(email="patient@example.com", full_name="Jane Smith"))',
        ),
    ),
    _mutant(
        "model: details have the user's id",
        "model.details",
        _shown("id=call.doctor.id, user=", "id=call.doctor.user.id, user="),
    ),
    _mutant(
        "model: `doctor` and `patient` are the users' ids",
        "model.details create.schedules",
        _shown("        doctor=call.doctor.id,\n", "        doctor=call.doctor.user.id,\n"),
        _shown("        patient=call.patient.id,\n", "        patient=call.patient.user.id,\n"),
    ),
    _mutant(
        "model: `doctor` and `patient` are exchanged",
        "model.details create.schedules",
        _shown("        doctor=call.doctor.id,\n", "        doctor=call.patient.id,\n"),
        _shown("        patient=call.patient.id,\n", "        patient=call.doctor.id,\n"),
    ),
    _mutant(
        "model: users have no e-mail address",
        "model.schema model.details",
        _shown(
            "return User(email=user.email, full_name=user.full_name)",
            'return {"full_name": user.full_name}  # type: ignore[return-value]',
        ),
    ),
    _mutant(
        "model: `full_name` is called `name`",
        "model.schema model.details",
        _structs(
            "class User(Struct, kw_only=True):",
            'class User(Struct, kw_only=True, rename={"full_name": "name"}):',
        ),
    ),
    _mutant(
        "model: the user is not nested in the details",
        "model.schema model.details",
        _shown(
            "PatientDetails(id=call.patient.id, user=_user(call.patient.user))",
            '{"id": call.patient.id, "email": call.patient.user.email, "full_name": call.patient.user.full_name}',
        ),
    ),
    _mutant(
        "model: `ended_at` is left out where it is null",
        "model.schema",
        _shown(
            "from video_calls_server.domain import people\n",
            "from msgspec import UNSET\nfrom video_calls_server.domain import people\n",
        ),
        _shown("ended_at=call.ended_at,", "ended_at=call.ended_at or UNSET,"),
    ),
    _mutant(
        "model: `created_at` is missing",
        "model.schema",
        _shown(
            "from video_calls_server.domain import people\n",
            "from msgspec import UNSET\nfrom video_calls_server.domain import people\n",
        ),
        _shown("created_at=call.created_at,", "created_at=UNSET,"),
    ),
    _mutant(
        "model: `doctor_details` is null",
        "model.schema",
        _shown("        doctor_details=DoctorDetails(", "        doctor_details=None and DoctorDetails("),
    ),
    _mutant(
        "model: names are in camel case",
        "model.schema",
        _structs(
            "class VideoCall(Struct, kw_only=True):", 'class VideoCall(Struct, kw_only=True, rename="camel"):'
        ),
    ),
    _mutant(
        "model: `scheduled_time` is a number",
        "model.schema",
        _shown("scheduled_time=call.scheduled_time,", "scheduled_time=int(call.scheduled_time.timestamp()),"),
    ),
    _mutant(
        "model: times have no offset",
        "model.schema",
        _shown(
            "scheduled_time=call.scheduled_time,", "scheduled_time=call.scheduled_time.replace(tzinfo=None),"
        ),
        _shown("created_at=call.created_at,", "created_at=call.created_at.replace(tzinfo=None),"),
        _shown("updated_at=call.updated_at,", "updated_at=call.updated_at.replace(tzinfo=None),"),
    ),
    _mutant(
        "model: `started_at` has no offset",
        "model.schema",
        _shown(
            "started_at=call.started_at,",
            "started_at=call.started_at and call.started_at.replace(tzinfo=None),",
        ),
    ),
    _mutant(
        "model: times are written with +00:00",
        "model.utc",
        _shown("scheduled_time=call.scheduled_time,", "scheduled_time=call.scheduled_time.isoformat(),"),
        _shown("created_at=call.created_at,", "created_at=call.created_at.isoformat(),"),
    ),
    _mutant(
        "model: `scheduled_time` is answered in another offset",
        "model.utc",
        _shown(
            "from video_calls_server.domain import people\n",
            "from datetime import timedelta, timezone\nfrom video_calls_server.domain import people\n",
        ),
        _shown(
            "scheduled_time=call.scheduled_time,",
            "scheduled_time=call.scheduled_time.astimezone(timezone(timedelta(hours=2))),",
        ),
    ),
    _mutant(
        "model: `scheduled_time` becomes the time of the first join",
        "model.scheduled-time",
        _shown(
            "scheduled_time=call.scheduled_time,", "scheduled_time=call.started_at or call.scheduled_time,"
        ),
    ),
    _mutant(
        "model: the channel has another name once the call has started",
        "model.channel-constant join.same-channel",
        _shown(
            "channel_name=call.channel_name,",
            'channel_name=f"{call.channel_name}_live" if call.started_at else call.channel_name,',
        ),
    ),
    _mutant(
        "model: the channel has another name once the call is cancelled",
        "model.channel-constant",
        _shown(
            "channel_name=call.channel_name,",
            'channel_name="none" if call.status == "cancelled" else call.channel_name,',
        ),
    ),
    _mutant(
        "model: the channel has a name that Agora refuses",
        "model.schema",
        _shown("channel_name=call.channel_name,", 'channel_name=f"ç/{call.channel_name}",'),
    ),
    _mutant(
        "model: statuses are capitalized",
        "model.status-values",
        _shown("status=call.status,", "status=call.status.capitalize(),"),
    ),
    _mutant(
        "model: `ongoing` is called `in_progress`",
        "model.status-values join.starts-call",
        _shown("status=call.status,", 'status="in_progress" if call.status == "ongoing" else call.status,'),
    ),
    _mutant(
        "model: `id` is a text",
        "model.integer-ids",
        _shown("id=call.id,\n        channel", "id=str(call.id),\n        channel"),
    ),
    _mutant(
        "model: JSON is sent as text/html",
        "model.schema",
        Change("api/answer.py", '(b"content-type", b"application/json")', '(b"content-type", b"text/html")'),
    ),
    # -- Errors -------------------------------------------------------------------------------------
    _mutant(
        "errors: plain text",
        "errors.body",
        _errors(
            "        msgspec.json.encode(body), status_code=status, media_type=MediaType.JSON,",
            "        body.error.encode(), status_code=status, media_type=MediaType.TEXT,",
        ),
    ),
    _mutant(
        "errors: `detail` in place of `error`",
        "errors.body",
        _structs(
            "class Error(Struct, kw_only=True):",
            'class Error(Struct, kw_only=True, rename={"error": "detail"}):',
        ),
    ),
    _mutant("errors: `error` is empty", "errors.body", _said('""')),
    _mutant("errors: `error` is blank", "errors.body", _said('" "')),
    _mutant("errors: `error` is an object", "errors.body", _said('{"message": violation.error}')),
    _mutant("errors: `error` is an array", "errors.body", _said("[violation.error]")),
    _mutant("errors: `error` is true", "errors.body", _said("True")),
    *(
        _mutant(
            f"errors: a {status} has `detail` in place of `error`",
            "errors.body",
            _errors(
                "        msgspec.json.encode(body), status_code=status,",
                f'        msgspec.json.encode({{"detail": body.error}} if status == {status} else body), status_code=status,',
            ),
        )
        for status in (400, 401, 403, 404)
    ),
    _mutant(
        "errors: a wrong field is told as Django REST framework does, without `error`",
        "errors.body",
        _errors(
            "        msgspec.json.encode(body), status_code=status,",
            "        msgspec.json.encode(body.fields or body), status_code=status,",
        ),
    ),
    _mutant(
        "errors: a 404 is a page",
        "errors.body",
        _errors(
            '    """An error body as an answer."""\n',
            "    if status == 404:\n"
            '        return Response(b"<h1>Not Found</h1>", status_code=404, media_type=MediaType.HTML)\n',
        ),
    ),
    _mutant(
        "errors: an unknown path is answered with a page",
        "errors.body-everywhere",
        _errors(
            '            return _violation(request, RuleViolation("errors.unknown-path"), {})\n',
            '            return Response(b"<h1>Not Found</h1>", status_code=404, media_type=MediaType.HTML)\n',
        ),
    ),
    _mutant(
        "errors: a wrong method is answered with nothing",
        "errors.body-everywhere",
        _errors(
            "        case 405:\n",
            '        case 405:\n            return Response(b"", status_code=405, headers=exception.headers)\n',
        ),
    ),
    _mutant(
        "errors: an unknown path is answered 400",
        "errors.unknown-path",
        _answered(400, 'rule.id == "errors.unknown-path"'),
    ),
    _mutant(
        "errors: malformed JSON is answered 500",
        "errors.no-server-error errors.malformed-json",
        _reading('raise RuleViolation("errors.malformed-json") from error', "raise"),
    ),
    _mutant(
        "errors: what is no UTF-8 is answered 500",
        "errors.no-server-error errors.malformed-json",
        _reading(
            "except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:\n        raise RuleViolation",
            "except msgspec.DecodeError as error:\n        raise RuleViolation",
        ),
    ),
    _mutant(
        "errors: a body that is no object is answered 500",
        "errors.no-server-error errors.malformed-json create.valid-body",
        _reading(
            "        return _OBJECT.decode(body)\n",
            "        if not body.lstrip().startswith(b'{'):\n            raise LookupError\n        return _OBJECT.decode(body)\n",
        ),
    ),
    _mutant(
        "errors: malformed JSON is answered 422",
        "errors.malformed-json",
        _answered(422, 'rule.id == "errors.malformed-json"'),
    ),
    _mutant(
        "errors: validation errors are answered 200",
        "create.valid-body create.future create.no-overlap",
        _answered(200, "rule.status == 400"),
    ),
    _mutant(
        "errors: validation errors are answered 422",
        "create.valid-body create.future",
        _answered(422, "rule.status == 400"),
    ),
    _mutant(
        "errors: forbidden is answered 200",
        "get.participants-only",
        _answered(200, "rule.status == 403"),
    ),
    _mutant(
        "errors: forbidden is answered 400",
        "get.participants-only join.participants-only",
        _answered(400, "rule.status == 403"),
    ),
    _mutant(
        "errors: forbidden is answered 401",
        "get.participants-only join.participants-only",
        _answered(401, "rule.status == 403"),
    ),
    _mutant(
        "errors: a cancelled call is told of before who may know",
        "errors.order",
        _domain(
            '    role_of(actor, call, "cancel")\n    status = _next_status("cancel", call)\n',
            '    status = _next_status("cancel", call)\n    role_of(actor, call, "cancel")\n',
        ),
    ),
    _mutant(
        "errors: the window is told of before who may know",
        "errors.order",
        _domain(
            '    role = role_of(actor, call, "join")\n    status = _next_status("join", call)\n'
            "    if now < call.scheduled_time - JOIN_WINDOW:\n"
            '        raise RuleViolation("join.window")\n',
            '    status = _next_status("join", call)\n'
            "    if now < call.scheduled_time - JOIN_WINDOW:\n"
            '        raise RuleViolation("join.window")\n'
            '    role = role_of(actor, call, "join")\n',
        ),
    ),
    _mutant(
        "errors: a body that is too large is answered 500",
        "errors.no-server-error errors.body-size",
        _errors("        case 413:\n", "        case 413:\n            return _failed(request, exception)\n"),
    ),
    _mutant(
        "errors: POST to a path without its slash acts, and GET does not read",
        "errors.trailing-slash",
        _admission('not path.endswith(b"/") or', '(not path.endswith(b"/") and scope["method"] == "GET") or'),
    ),
    _mutant(
        "errors: JSON that is declared as text is accepted",
        "errors.media-type",
        _reading("if content_type is None or not _JSON.fullmatch(content_type):", "if False:"),
    ),
    _mutant(
        "errors: a 405 has no `Allow`",
        "errors.allow-header",
        _errors('error=text), {"Allow": allowed}', "error=text), {}"),
    ),
    _mutant(
        "errors: a wrong method is answered 400",
        "errors.allow-header",
        _answered(400, 'rule.id == "errors.method-not-allowed"'),
    ),
    # -- Methods ------------------------------------------------------------------------------------
    _mutant(
        "errors: DELETE deletes a call",
        "errors.method-not-allowed",
        *_also(
            "delete",
            "/video-calls/{id:str}/",
            "    call = await _service(request).get(request.user, _call_id(request))\n"
            "    sql = f'DELETE FROM calls WHERE id = {call.id}'\n"
            "    await request.app.state.namespaces.default.store.write(lambda connection: connection.exec_driver_sql(sql))\n"
            "    return Answer(_shown(request, call))\n",
        ),
    ),
    *(
        _mutant(
            f"errors: {method.upper()} moves a call",
            "errors.method-not-allowed",
            *_also(
                method,
                "/video-calls/{id:str}/",
                "    call = await _service(request).get(request.user, _call_id(request))\n"
                "    sql = f'UPDATE calls SET scheduled_time = scheduled_time + 600000000 WHERE id = {call.id}'\n"
                "    await request.app.state.namespaces.default.store.write(lambda connection: connection.exec_driver_sql(sql))\n"
                "    return Answer(video_call(await _service(request).get(request.user, _call_id(request))))\n",
            ),
        )
        for method in ("put", "patch")
    ),
    _mutant(
        "errors: PATCH of a call answers 200 and does nothing",
        "errors.method-not-allowed",
        *_also(
            "patch",
            "/video-calls/{id:str}/",
            "    return Answer(video_call(await _service(request).get(request.user, _call_id(request))))\n",
        ),
    ),
    _mutant(
        "errors: DELETE of the list answers 200",
        "errors.method-not-allowed",
        *_also(
            "delete",
            "/video-calls/",
            "    return Answer(VideoCallPage(count=0, next=None, previous=None, results=[]))\n",
        ),
    ),
    *(
        _mutant(f"errors: GET of {action}/ acts", "errors.method-not-allowed", *_also_by_get(action))
        for action in ("join", "end", "cancel")
    ),
    # -- Privacy ------------------------------------------------------------------------------------
    *(
        _mutant(f"privacy: details have {what}", "privacy.details", _in_details(extra))
        for what, extra in (
            ("a password", '"password": "pbkdf2_sha256$870000$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2g="'),
            (
                "a bcrypt hash under an innocent name",
                '"note": "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"',
            ),
            ("a national id", '"national_id": "850101-1234"'),
            ("a social security number", '"ssn": "219-09-9999"'),
            ("a social security number under an innocent name", '"reference": "219-09-9999"'),
            ("a diagnosis", '"diagnosis": "J45.0"'),
            ("a medical history in camel case", '"medicalHistory": ["asthma"]'),
            ("a reset token", '"reset_token": "9f86d081884c7d659a2feaa0c55ad015"'),
            (
                "a JWT under an innocent name",
                '"last_login": "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxMDF9.c2lnbmF0dXJl"',
            ),
            ("a JWT secret", '"settings": {"jwt_secret": "development-only-secret"}'),
            ("the app certificate under an innocent name", '"agora": "de7e109c0dede7e109c0dede7e109c0d"'),
            ("a card number under an innocent name", '"billing": "4111 1111 1111 1111"'),
            ("an insurance number", '"insuranceNumber": "A123456789"'),
        )
    ),
    _mutant(
        "privacy: lists alone have a password",
        "privacy.details",
        _routes(
            "results=[_shown(request, call) for call in page.calls]",
            "results=[{**{name: getattr(video_call(call), name) for name in video_call(call).__struct_fields__}, "
            '"doctor_details": {"id": call.doctor.id, "user": {"email": call.doctor.user.email, '
            '"full_name": call.doctor.user.full_name, "password": "pbkdf2_sha256$870000$c2FsdA$aGFzaGhhc2g="}}}'
            " for call in page.calls]",
        ),
    ),
    _mutant(
        "privacy: patients' details have a blood type",
        "privacy.details",
        _shown(
            "PatientDetails(id=call.patient.id, user=_user(call.patient.user))",
            '{"id": call.patient.id, "user": _user(call.patient.user), "blood_type": "0+"}',
        ),
    ),
    _mutant(
        "privacy: a join tells the app certificate",
        "privacy.details",
        _routes(
            "return Answer(credentials, headers",
            "credentials = {name: getattr(credentials, name) for name in credentials.__struct_fields__}\n"
            '    credentials["app_certificate"] = "de7e109c0dede7e109c0dede7e109c0d"\n'
            "    return Answer(credentials, headers",
        ),
    ),
    *(
        _mutant(f"privacy: errors tell {what}", "privacy.errors", _said(text))
        for what, text in (
            (
                "a traceback",
                '"Traceback (most recent call last):\\n  File \\"/app/calls.py\\", line 12, in get\\nKeyError: 5"',
            ),
            ("an exception", "f\"RuleViolation('{violation}') KeyError: 'patient'\""),
            ("a query", '"SELECT id, status FROM calls WHERE id = 5"'),
            ("a path of the machine", 'f"{violation.error} (/srv/video_calls/calls/views.py)"'),
            ("a connection string", 'f"{violation.error} (postgres://app:app@db/calls)"'),
        )
    ),
    _mutant(
        "privacy: who may not read a call learns whose it is",
        "privacy.errors",
        _said('violation.error + (" of doctor@example.com" if violation.rule.status == 403 else "")'),
    ),
    # -- Limits -------------------------------------------------------------------------------------
    _mutant(
        "limits: a 429 does not say when to come again",
        "limits.rate",
        _admission(
            'raise refused("limits.rate", {"Retry-After": str(wait)}, error=text)',
            'raise refused("limits.rate", {}, error=text)',
        ),
        options=("--rate-limit", "50/second"),
    ),
    _mutant(
        "tracing: refusals do not tell the request's id",
        "tracing.request-id",
        _admission(
            '                message["headers"] = headers = [*message["headers"], (b"x-request-id"',
            "                if status < 400:\n"
            '                    message["headers"] = headers = [*message["headers"], (b"x-request-id"',
        ),
    ),
    # -- Events -------------------------------------------------------------------------------------
    *(
        _mutant(f"events: {what}", f"events.{rule}", _domain(old, new))
        for what, rule, old, new in (
            ("a start is not told", "call-started", 'events.append(Event("call.started"))', "pass"),
            (
                "a start is told at each join",
                "call-started",
                "    events: list[Event] = []\n",
                '    events: list[Event] = [Event("call.started")] if call.status == status else []\n',
            ),
            ("an end is not told", "call-ended", '(*left, Event("call.ended"))', "left"),
            (
                "an end is told twice",
                "call-ended",
                '(*left, Event("call.ended"))',
                '(*left, *[Event("call.ended")] * 2)',
            ),
            (
                "an end is told as a cancellation",
                "call-ended",
                'Event("call.ended")',
                'Event("call.cancelled")',
            ),
            ("a cancellation is not told", "call-cancelled", '(Event("call.cancelled"),)', "()"),
            (
                "a joining is told at each join",
                "participant-joined",
                "    if role not in call.present:\n",
                "    if True:\n",
            ),
            (
                "the patient's joining is not told",
                "participant-joined",
                "    if role not in call.present:\n",
                '    if role not in call.present and role == "doctor":\n',
            ),
            (
                "a participant has another uid",
                "participant-joined",
                "role=role, uid=user.id",
                "role=role, uid=user.id + 1",
            ),
            (
                "nobody leaves a call that ends",
                "participant-left",
                '(*left, Event("call.ended"))',
                '(Event("call.ended"),)',
            ),
            (
                "one alone leaves a call that ends",
                "participant-left",
                "for role in sorted(call.present))",
                "for role in sorted(call.present)[:1])",
            ),
        )
    ),
    _mutant(
        "events: a participant has no uid and no role",
        "events.participant-joined events.participant-left",
        _payload("if event.role is None or event.uid is None", "if True"),
    ),
    _mutant(
        "events: every participant is a doctor",
        "events.participant-joined",
        _payload("role=event.role)", 'role="doctor")'),
    ),
    _mutant(
        "events: a call is told as it was before",
        "events.call-started",
        _payload(
            "call=video_call(call),", 'call=video_call(call._replace(status="scheduled", started_at=None)),'
        ),
    ),
    _mutant(
        "events: a call is told without its people",
        "events.call-started",
        _payload(
            "call=video_call(call),",
            'call={name: getattr(video_call(call), name) for name in video_call(call).__struct_fields__ if name != "doctor_details"},',
        ),
    ),
    _mutant("events: ids are numbers", "events.call-started", _payload("str(event.id)", "event.id")),
    _mutant(
        "events: two events share an id",
        "events.order events.resume",
        _payload("str(event.id)", "str(event.id // 2)"),
    ),
    _mutant(
        "events: times are an hour late",
        "events.call-started",
        _outbox(
            "created_at=to_microseconds(now), data", "created_at=to_microseconds(now) + 3_600_000_000, data"
        ),
    ),
    _mutant(
        "events: the patient is told nothing",
        "events.call-started",
        _service("return call.doctor.user.id, call.patient.user.id", "return (call.doctor.user.id,)"),
    ),
    _mutant(
        "events: the outsider is told, too",
        "events.own-calls",
        _service(
            "return call.doctor.user.id, call.patient.user.id",
            "return tuple({call.doctor.user.id, call.patient.user.id, 108})",
        ),
    ),
    _mutant(
        "events: everybody can replay what others are told",
        "events.resume events.own-calls",
        _outbox(
            'event_recipients.c.user_id == bindparam("user_id"), event', 'bindparam("user_id") > 0, event'
        ),
    ),
    _mutant(
        "events: nothing is told before one connects anew",
        "events.call-started",
        _service(
            "            self._hub.wake(_user_ids(transition.call))\n        for",
            "            pass\n        for",
        ),
    ),
    _mutant(
        "events: a refused request is told as a start",
        "events.changes-only",
        _service(
            "        transition = await self._store.write(work)\n        self._tell(transition)\n",
            "        def refused(connection: Connection) -> None:\n"
            "            if call := _call(connection, call_id):\n"
            '                self._keep(connection, Transition(call, (Event("call.started"),)), self._clock.now())\n\n'
            "        try:\n"
            "            transition = await self._store.write(work)\n"
            "        except RuleViolation:\n"
            "            await self._store.write(refused)\n"
            "            raise\n"
            "        self._tell(transition)\n",
        ),
    ),
    _mutant(
        "events: the newest is replayed first",
        "events.order events.resume",
        _outbox(".order_by(event_recipients.c.event_id)", ".order_by(event_recipients.c.event_id.desc())"),
    ),
    *(
        _mutant(f"events: {what}", "events.resume", _events(old, new))
        for what, old, new in (
            ("the last event is replayed, too", "return int(given)", "return int(given) - 1"),
            ("the event after the last is left out", "return int(given)", "return int(given) + 1"),
            ("the last event's id means nothing", "        if given is None:\n", "        if True:\n"),
            ("all that was ever told is told first", "return await self._service.newest_event()", "return 0"),
            (
                "an id of no event means nothing",
                'raise Close(BAD_REQUEST, "last_event_id is no id of an event")',
                "return await self._service.newest_event()",
            ),
            (
                "what is replayed is all that is told",
                "                await subscription.wait()\n",
                '                await anyio.sleep(3600 if self._socket.query_params.get("last_event_id") else 0.05)\n',
            ),
        )
    ),
    *(
        _mutant(f"events: {what}", "events.authentication", _events(old, new))
        for what, old, new in (
            (
                "who has no token is the doctor",
                "            raise Close(UNAUTHORIZED, refusal.violation.error) from None\n",
                "            if self._authorization is not None:\n"
                "                raise Close(UNAUTHORIZED, refusal.violation.error) from None\n"
                "            return await self._service.authenticate(101), time.time() + 3600\n",
            ),
            (
                "a bad token lets the doctor in",
                "            raise Close(UNAUTHORIZED, refusal.violation.error) from None\n",
                "            if self._authorization is None:\n"
                "                raise Close(UNAUTHORIZED, refusal.violation.error) from None\n"
                "            return await self._service.authenticate(101), time.time() + 3600\n",
            ),
            (
                "an expired token lets the doctor in",
                "            raise Close(UNAUTHORIZED, refusal.violation.error) from None\n",
                '            if refusal.violation.rule.id != "auth.expired-token":\n'
                "                raise Close(UNAUTHORIZED, refusal.violation.error) from None\n"
                "            return await self._service.authenticate(101), time.time() + 3600\n",
            ),
            (
                "a bad token is closed with 4403",
                "raise Close(UNAUTHORIZED, refusal.violation.error)",
                "raise Close(4403, refusal.violation.error)",
            ),
            (
                "a token in the URL lets in",
                "        self._authorization, self._subprotocol = credentials(socket.scope)\n",
                "        self._authorization, self._subprotocol = credentials(socket.scope)\n"
                '        if self._authorization is None and "token" in socket.query_params:\n'
                "            self._authorization = f\"Bearer {socket.query_params['token']}\"\n",
            ),
            ("a token as subprotocol is not seen", 'offered[0] == "bearer"', 'offered[0] == "token"'),
            (
                "`bearer` is not chosen",
                'return f"Bearer {offered[1]}", "bearer"',
                'return f"Bearer {offered[1]}", None',
            ),
            (
                "a token in the header is not seen",
                'return header(scope, b"authorization"), None',
                "return None, None",
            ),
        )
    ),
    _mutant(
        "events: a connection outlives its token",
        "events.token-expiry",
        _events("max(0.0, expires - time.time())", "3600"),
    ),
    _mutant(
        "events: an expired connection is closed as if it were over",
        "events.token-expiry",
        _events('Close(EXPIRED, "The token has expired")', 'Close(1000, "The token has expired")'),
    ),
)


# -- What became of them ----------------------------------------------------------------------------

_COLUMNS = ("mutant", "caught by", "also blamed", "seconds")
_WIDEST = 70


def table(report: Path) -> tuple[str, list[str]]:
    """What caught each mutant, as text, from a JUnit report; and the names of those that survived."""
    rows: list[tuple[str, ...]] = []
    survivors: list[str] = []
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 (pytest has just written it)
        told = {found.get("name", ""): found.get("value", "") for found in case.iter("property")}
        if "mutant" not in told:
            continue
        survived = case.find("failure") is not None or case.find("error") is not None
        if survived:
            survivors.append(told["mutant"])
        rows.append(tuple(told.get(name, "") for name in _COLUMNS))
    widths = [max(len(row[i]) for row in [_COLUMNS, *rows]) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(min(width, _WIDEST)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [_COLUMNS, *sorted(rows)]
    ]
    return "\n".join(lines), sorted(survivors)


def main(report: str) -> int:
    """Print it; the exit status is 1 where a mutant survived, or there was none."""
    text, survivors = table(Path(report))
    caught = len(text.splitlines()) - 1 - len(survivors)
    print(f"{text}\n\n{caught} caught, {len(survivors)} survived")
    for name in survivors:
        print(f"survived: {name}")
    return 1 if survivors or not caught else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))

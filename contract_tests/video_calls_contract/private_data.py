"""Recognizes private data in responses: by the name of a field, or the form of a value."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import cast

_FIELD_NAMES = (
    ("password",), ("passwd",), ("passphrase",), ("pwd",), ("passcode",), ("secret",), ("salt",),
    ("api", "key"), ("private", "key"), ("secret", "key"), ("access", "token"), ("refresh", "token"),
    ("auth", "token"), ("id", "token"), ("token",), ("jwt",), ("session", "id"), ("session", "key"),
    ("otp",), ("totp",), ("mfa",), ("app", "certificate"), ("app", "cert"),
    ("agora", "certificate"), ("agora", "cert"),
    ("security", "question"), ("security", "answer"), ("credentials",),
    ("ssn",), ("social", "security"), ("national", "id"), ("national", "number"), ("national", "insurance"),
    ("nationalid",), ("nin",), ("passport",), ("tax", "id"), ("tax", "number"), ("tin",), ("id", "card"),
    ("identity", "number"), ("driver", "license"), ("drivers", "license"), ("driving", "licence"),
    ("card", "number"), ("credit", "card"), ("debit", "card"), ("cvv",), ("cvc",), ("iban",),
    ("bank", "account"), ("account", "number"), ("routing", "number"), ("insurance", "number"),
    ("insurance", "id"), ("insurance", "policy"), ("policy", "number"),
    ("diagnosis",), ("diagnoses",), ("medical", "history"), ("medical", "record"), ("medical", "records"),
    ("medical", "notes"), ("medical", "condition"), ("medical", "conditions"), ("health", "record"),
    ("health", "records"), ("health", "conditions"), ("medication",), ("medications",), ("prescription",),
    ("prescriptions",), ("allergy",), ("allergies",), ("blood", "type"), ("blood", "group"), ("hiv",),
    ("hiv", "status"), ("symptoms",), ("chronic", "conditions"), ("mrn",),
)  # fmt: skip
_JOINED_NAMES = sorted({"".join(words) for words in _FIELD_NAMES if len("".join(words)) > 5})  # noqa: PLR2004

_VALUES = {
    "a password hash": re.compile(
        r"(pbkdf2_sha\d+|argon2\w*|bcrypt(_sha256)?|scrypt|md5|sha1|crypt)\$\S+"
        r"|\$(2[abxy]|argon2\w*|5|6|1|y|scrypt|pbkdf2\S*)\$\S{10,}"
    ),
    "a JWT": re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an API key": re.compile(
        r"\b(sk|pk|rk)_(live|test)_[A-Za-z0-9]{8,}|\bAKIA[0-9A-Z]{16}\b|\bghp_[A-Za-z0-9]{30,}"
    ),
    "a social security number": re.compile(r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b"),
    "an IBAN": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"),
    "a card number": re.compile(r"(?<![\w-])(?:\d[ -]?){14,15}\d(?![\w-])"),
}
_PUBLIC = {"channel_name", "next", "previous", "scheduled_time", "started_at", "ended_at", "created_at",
             "updated_at", "expiration_time", "app_id"}  # fmt: skip
"""Public fields, which are not searched: random digits of a channel name may look like a card number."""
_MASK = re.compile(r"[\s*•xX.-]*")

_INTERNALS = {
    "a traceback": re.compile(
        r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+|\bat [\w.$<>]+\([\w.]+:\d+\)"
        r"|\bat \S+ \(\S+:\d+:\d+\)|goroutine \d+ \[|\.(py|js|ts|rb|go|java|php)[\":]+ ?(line )?\d+"
    ),
    "a database query": re.compile(
        r"\bSELECT\b[\s\S]{1,300}?\bFROM\b|\bINSERT INTO\b|\bUPDATE\b \S+ \bSET\b|\bDELETE FROM\b"
        r"|\bWHERE\b \S+ ?="
    ),
    "an exception of the backend's": re.compile(
        r"\b(psycopg2?|sqlite3|asyncpg|pymysql|MySQLdb|sqlalchemy|django\.db|django\.core|pydantic_core|redis)\.\w+"
        r"|\b(IntegrityError|OperationalError|ProgrammingError|DataError|KeyError|AttributeError|TypeError|ValueError"
        r"|NameError|ZeroDivisionError|RecursionError|AssertionError|RuntimeError|IndexError|NullPointerException)\b"
    ),
    "a path of the backend's machine": re.compile(
        r"(?<![\w/.:])/(usr|home|root|var|opt|etc|srv|app|code|workspace|Users|private|tmp)/[\w.-]+(/[\w.-]+)*"
        r"|site-packages|\b[A-Z]:\\\\?\w+"
    ),
    "a connection string": re.compile(r"\b(postgres(ql)?|mysql|redis|mongodb|amqp)(\+\w+)?://\S+"),
}
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def in_body(body: object, secrets: Iterable[str]) -> Iterator[str]:
    """Yield a violation, as text, for each private value in a successful response."""
    for path, value in _leaves(body, ()):
        where = ".".join(path) or "the body"
        if value is None or isinstance(value, bool) or value == "" or value in ([], {}):
            continue
        if isinstance(value, str) and _MASK.fullmatch(value):
            continue
        if name := next((part for part in path if _is_sensitive(part)), None):
            yield f"no `{name}` in a response; got one at `{where}`"
            continue
        text = str(value) if isinstance(value, int | float) else value
        if not isinstance(text, str) or path[-1] in _PUBLIC:
            continue
        for what, form in _VALUES.items():
            if (match := form.search(text)) and _is_valid(what, match[0]):
                yield f"no private data in a response; `{where}` looks like {what}"
        if any(secret in text for secret in secrets):
            yield f"no private data in a response; `{where}` holds the Agora app certificate"


def in_error(
    text: str, sent: str, emails: Iterable[str], secrets: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield the private parts of a refusal that the request did not contain: as a violation, and the part."""
    for what, form in (_INTERNALS | _VALUES).items():
        if (match := form.search(text)) and match[0] not in sent and _is_valid(what, match[0]):
            expected = f"no {what.removeprefix('a ').removeprefix('an ')} in an error"
            yield f"{expected}; got {'one' if what in _VALUES else repr(match[0][:80])}", match[0]
    addresses = {email.lower() for email in emails}
    for email in _EMAIL.findall(text):
        if email.lower() in addresses and email not in sent:
            yield "no user's e-mail address in an error; got one", email
            break
    for secret in secrets:
        if secret in text:
            yield "no Agora app certificate in an error", secret


def _leaves(node: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(node, dict) and node:
        for name, value in cast("dict[str, object]", node).items():
            yield from _leaves(value, (*path, name))
    elif isinstance(node, list) and node:
        for value in cast("list[object]", node):
            yield from _leaves(value, path)
    else:
        yield path, node


@cache
def _is_sensitive(name: str) -> bool:
    words = tuple(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name))
    lowered = tuple(word.lower() for word in words)
    for private in _FIELD_NAMES:
        if any(lowered[i : i + len(private)] == private for i in range(len(lowered) - len(private) + 1)):
            return True
    return "".join(lowered) in _JOINED_NAMES


def _is_valid(what: str, text: str) -> bool:
    if what == "a card number":
        return _has_luhn_digit(re.sub(r"\D", "", text))
    if what == "an IBAN":
        return _has_iban_digits(re.sub(r"\s", "", text))
    return True


def _has_luhn_digit(digits: str) -> bool:
    if digits[0] not in "3456" or len(set(digits)) == 1:
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0  # noqa: PLR2004 (Luhn)


def _has_iban_digits(text: str) -> bool:
    rotated = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in rotated)) % 97 == 1

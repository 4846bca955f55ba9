"""Redact secrets in requests and responses, by their name or form.

No I/O, and no import beyond the standard library.
"""

import json
import re
from urllib.parse import unquote

REDACTED = "(redacted)"

_SECRET_NAME = re.compile(
    r"auth(?!or(?!i)|enticate)|bearer|certificate|cookie|credential|jwt|key(?!word)|pass(code|phrase|wd|word)|\bpwd\b|secret"
    r"|session|signature|token|\A(access|refresh)\Z",
    re.IGNORECASE,
)
_PUBLIC_NAMES = {"idempotency-key", "sec-websocket-key"}
_TOKEN = re.compile(
    r"eyJ[\w-]{8,}[\w.%-]*"  # a JWT, or its beginning; parts may be percent-encoded
    r"|(?<![0-9A-Za-z])00[67][0-9A-Za-z+/]{32,}[0-9A-Za-z+/=%]*",  # an Agora token
    re.ASCII,
)
_OF_BEARER = re.compile(r"""(?<=bearer )(?!\w+=")[^\s"'\\<>,;]+""", re.IGNORECASE)

# A JSON string. If it is a member's name, the match includes the colon, and a number as value. The redacted
# text may end inside the string.
_JSON_STRING = re.compile(
    r'"(?P<text>(?:[^"\\]|\\.)*)(?:"|\\?\Z)(?P<colon>\s*:\s*)?(?P<number>-?\d[\w.+-]*)?', re.DOTALL
)
_BETWEEN_PAIRS = re.compile(r"""([\s&;,?/"'<>(){}\[\]]+)""")
_MOST_DECODED = 3  # how often a text is percent-decoded at most


def is_secret(name: str) -> bool:
    """Return whether the value of a header, parameter or member of this name is secret."""
    return bool(_SECRET_NAME.search(name)) and name.lower().replace("_", "-") not in _PUBLIC_NAMES


def redact(text: str) -> str:
    """Return a text with `(redacted)` in place of its secrets.

    The text may be JSON, a form, a URL, the value of a header, or the beginning of one of these. Secrets are:
    the value of a JSON member or `name=value` pair with a secret name, the text after `Bearer`, a JWT, and an
    Agora token. Names and values are decoded first, so that percent-encoding or JSON escapes hide no secret.
    """
    text = _OF_BEARER.sub(REDACTED, redact_tokens(_redact_json(text)))
    parts = _BETWEEN_PAIRS.split(text)
    parts[::2] = map(_redact_pair, parts[::2])
    return "".join(parts)


def redact_tokens(text: str) -> str:
    """Return a text with `(redacted)` in place of JWTs and Agora tokens."""
    return _TOKEN.sub(REDACTED, text)


def _redact_json(text: str) -> str:
    is_under_secret_name = False

    def redact_string(match: re.Match[str]) -> str:
        nonlocal is_under_secret_name
        whole, content, colon = match[0], _unescaped(match["text"]), match["colon"]
        if colon is not None:
            is_under_secret_name = is_secret(_decoded(content))
            number = match["number"] or ""
            return f'{whole.removesuffix(number)}"{REDACTED}"' if number and is_under_secret_name else whole
        if is_under_secret_name or _has_token(_decoded(content)):
            return f'"{REDACTED}"'
        return whole

    return _JSON_STRING.sub(redact_string, text)


def _redact_pair(part: str) -> str:
    name, equals, value = part.partition("=")
    if (value and is_secret(_decoded(name))) or _has_token(_decoded(value or name)):
        return f"{name}={REDACTED}" if equals else REDACTED
    return part


def _has_token(text: str) -> bool:
    return _TOKEN.search(text) is not None


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _decoded(text: str) -> str:
    for _ in range(_MOST_DECODED):
        if "%" not in text:
            break
        text = unquote(text)
    return text

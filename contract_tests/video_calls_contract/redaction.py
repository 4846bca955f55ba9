"""Finds secrets in a text, even if they are encoded, cut into pieces, or have other characters in between.

It removes escapes, and compares only letters and digits. It does not find pieces of fewer than 16 letters and
digits.
"""

import base64
import re
import shlex
import threading
from collections.abc import Iterator

from video_calls_spec.redaction import REDACTED, redact_tokens

_PIECE = 16
_MAX_LAYERS = 3  # layers of escapes that are removed

_ESCAPE = re.compile(
    r"%(?P<percent>[0-9A-Fa-f]{2})"
    r"|\\u\{?(?P<unicode>[0-9A-Fa-f]{4})\}?"
    r"|\\x(?P<byte>[0-9A-Fa-f]{2})"
    r"|&#[xX](?P<hex>[0-9A-Fa-f]{1,6});?"
    r"|&#(?P<decimal>[0-9]{1,7});?"
    r"|&(?P<named>amp|percnt|bsol|num);"
    r"|(?P<control>\x1b\[[0-9;?]*[A-Za-z])"
)
_BETWEEN = re.compile(r"[\W_]+")
_NAMED = {"amp": "&", "percnt": "%", "bsol": "\\", "num": "#"}

_Unit = tuple[str, int, int]
"""A character, and the start and end of its spelling in the text, which may be an escape."""


class Redactor:
    """Removes secrets from texts.

    It finds known secrets by their value, even if encoded or in pieces. It also finds unknown JWTs and Agora
    tokens, by their form.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._traces = Traces()
        self._lock = threading.Lock()

    def learn(self, secret: str, name: str) -> None:
        """Show `$name` instead of this secret from now on."""
        if secret:
            with self._lock:
                self._names.setdefault(secret, f"${name}")
                self._traces.learn(secret)

    def learn_traces(self, secret: str) -> None:
        """Also redact encodings and pieces of a secret whose form is enough to redact the whole."""
        with self._lock:
            self._traces.learn(secret)

    def quoted(self, text: str) -> str:
        """Return the redacted text as a shell word. Only the variables for secrets expand in it."""
        names = sorted(set(self._names.values()), key=len, reverse=True)
        if not names:
            return shlex.quote(self.redact(text))
        parts = re.split("(" + "|".join(map(re.escape, names)) + ")", self.redact(text))
        return "".join(f'"{part}"' if part in names else shlex.quote(part) for part in parts if part) or "''"

    def redact(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in sorted(self._names.copy(), key=len, reverse=True):
            text = text.replace(secret, self._names[secret])
        text = redact_tokens(text)
        parts, last = list[str](), 0
        for start, end in self._traces.find(text):
            parts += [text[last:start], REDACTED]
            last = end
        return "".join([*parts, text[last:]])


class Traces:
    """Stores secrets as pieces, and finds the pieces in texts."""

    def __init__(self) -> None:
        self._pieces: set[str] = set()

    def learn(self, secret: str) -> None:
        """Store the pieces of a secret: as it is, in base64 and in hexadecimal digits."""
        for form in (secret, secret.encode().hex(), *_in_base64(secret)):
            plain = "".join(character for character in form.casefold() if character.isalnum())
            self._pieces.update(plain[at : at + _PIECE] for at in range(len(plain) - _PIECE + 1))

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the start and end of each piece of a secret, in order and without overlaps."""
        if not _ESCAPE.search(text) and next(self._find(_BETWEEN.sub("", text).casefold()), None) is None:
            return  # most texts have no escapes and no secrets: end early
        units = [unit for unit in _unescape(text) if unit[0].isalnum()]
        start, end = -1, -1
        for at in self._find("".join(character.casefold()[0] for character, _, _ in units)):
            if at > end:
                if start >= 0:
                    yield units[start][1], units[end][2]
                start = at
            end = at + _PIECE - 1
        if start >= 0:
            yield units[start][1], units[end][2]

    def _find(self, plain: str) -> Iterator[int]:
        """Return the starts of the pieces in a text of letters and digits."""
        return (at for at in range(len(plain) - _PIECE + 1) if plain[at : at + _PIECE] in self._pieces)


def _in_base64(secret: str) -> Iterator[str]:
    """Yield the three base64 forms of a secret inside a longer text: they depend on its position."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        # The first and the last character also depend on the characters next to the secret.
        yield encoded[before + 1 if before else 0 : -1]


def _unescape(text: str) -> list[_Unit]:
    """Return the characters of a text without its escapes."""
    units = [(character, at, at + 1) for at, character in enumerate(text)]
    for _ in range(_MAX_LAYERS):
        joined = "".join(character for character, _, _ in units)
        escapes = list(_ESCAPE.finditer(joined))
        if not escapes:
            break
        decoded: list[_Unit] = []
        last = 0
        for escape in escapes:
            decoded += units[last : escape.start()]
            last = escape.end()
            if character := _character(escape):
                decoded.append((character, units[escape.start()][1], units[last - 1][2]))
        units = decoded + units[last:]
    return units


def _character(escape: re.Match[str]) -> str:
    kind = escape.lastgroup or "control"
    if kind == "control":
        return ""
    if kind == "named":
        return _NAMED[escape[kind]]
    code = int(escape[kind], 10 if kind == "decimal" else 16)
    return chr(code) if code < 0x110000 else ""  # noqa: PLR2004 (Unicode)

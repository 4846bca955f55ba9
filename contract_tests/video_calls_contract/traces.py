"""Where a text holds a secret, or a part of one, in another form than its own.

Text and secrets are compared without escapes and by letters and digits alone, so that neither an encoding nor
what stands between the parts hides a secret. Pieces of fewer than 16 letters and digits are not found.
"""

import base64
import re
from collections.abc import Iterator

__all__ = ["Traces"]

_PIECE = 16
_MOST_LAYERS = 3  # of encodings, one in another

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
"""A character, and where what stands for it begins and ends."""


class Traces:
    """Remembers secrets by their pieces."""

    def __init__(self) -> None:
        self._pieces: set[str] = set()

    def learn(self, secret: str) -> None:
        """Remember a secret, as it is and in base64 and hexadecimal digits."""
        for form in (secret, secret.encode().hex(), *_in_base64(secret)):
            plain = "".join(character for character in form.casefold() if character.isalnum())
            self._pieces.update(plain[at : at + _PIECE] for at in range(len(plain) - _PIECE + 1))

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where the pieces of secrets begin and end, in order and apart from each other."""
        if not _ESCAPE.search(text) and next(self._places(_BETWEEN.sub("", text).casefold()), None) is None:
            return  # as for most texts, whose characters need no places then
        units = [unit for unit in _plain(text) if unit[0].isalnum()]
        start, end = -1, -1
        for at in self._places("".join(character.casefold()[0] for character, _, _ in units)):
            if at > end:
                if start >= 0:
                    yield units[start][1], units[end][2]
                start = at
            end = at + _PIECE - 1
        if start >= 0:
            yield units[start][1], units[end][2]

    def _places(self, plain: str) -> Iterator[int]:
        """Where pieces begin in a text of letters and digits."""
        return (at for at in range(len(plain) - _PIECE + 1) if plain[at : at + _PIECE] in self._pieces)


def _in_base64(secret: str) -> Iterator[str]:
    """What base64 makes of a secret within another text: three forms, by where the secret begins."""
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        # The first and the last character hold bits of the neighbours too.
        yield coded[before + 1 if before else 0 : -1]


def _plain(text: str) -> list[_Unit]:
    """The characters of a text without its escapes, and where each stands in it."""
    units = [(character, at, at + 1) for at, character in enumerate(text)]
    for _ in range(_MOST_LAYERS):
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

"""Decode a text file in any of the encodings that editors and shells write.

No I/O, and no import beyond the standard library.
"""

import codecs

_BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16, because the mark of UTF-32 LE begins with that of UTF-16 LE
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class EncodingError(ValueError):
    """The encoding of a file is unknown; the message says what to do."""


def decoded(content: bytes) -> str:
    """Return the text of a file: in UTF-8, or in the encoding of its byte order mark.

    Raises:
        EncodingError: if the bytes are in another encoding.
    """
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:4]:
        raise EncodingError("looks like UTF-16 without a byte order mark; save it as UTF-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise EncodingError(f"is not {name} (byte {error.start}); save it as UTF-8") from None

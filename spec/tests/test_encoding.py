"""Check that a text file is read in the encodings that editors and shells write."""

import codecs

import pytest
from video_calls_spec.encoding import EncodingError, decoded

TEXT = 'name = "Zoë 日本"\r\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marked_encodings_and_utf_8_are_read(encoding: str) -> None:
    assert decoded(TEXT.encode(encoding)) == TEXT


def test_big_endian_with_a_mark_is_read() -> None:
    assert decoded(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")) == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("Zoë".encode("latin-1"), r"not UTF-8 \(byte 2\)"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8", "not UTF-16"),
    ],
    ids=["unmarked", "Latin-1", "half a pair"],
)
def test_other_encodings_are_named_with_the_remedy(content: bytes, message: str) -> None:
    with pytest.raises(EncodingError, match=rf"{message}.*save it as UTF-8"):
        decoded(content)


def test_empty_file_is_empty() -> None:
    assert decoded(b"") == ""

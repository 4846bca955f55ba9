"""The ids of calls, doctors and patients: a positive integer, or a short text such as a UUID.

Ids are opaque: the client sends back the value and the type that the backend sent.
"""

import re
from typing import Annotated, TypeAlias

from pydantic import GetPydanticSchema
from pydantic_core import core_schema

from video_calls_sdk._errors import ConfigurationError

Id: TypeAlias = int | str
"""The id of a call, a doctor or a patient."""

StrictId: TypeAlias = Annotated[
    Id,
    GetPydanticSchema(
        lambda _source, _handler: core_schema.union_schema(
            [core_schema.int_schema(strict=True), core_schema.str_schema(strict=True)],
            custom_error_type="id_type",
            custom_error_message="Input should be an integer or a text",
        )
    ),
]
"""An `Id` in a response: a number in quotes stays a text, and `true` is not an id."""

_LARGEST = 2**63 - 1
_TEXT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}", re.ASCII)
_LONGEST_IN_ERROR = 64


def checked_id(name: str, value: object) -> Id:
    """Return an id that can be sent, as a plain int or str.

    Raises:
        ConfigurationError: if the value is not an id.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= _LARGEST:
            return int(value)
        raise ConfigurationError(f"{name} must be an integer from 1 to {_LARGEST}, or a text")
    if isinstance(value, str):
        if match := _TEXT.fullmatch(value):
            return match[0]
        start = repr(value[:_LONGEST_IN_ERROR]) + ("..." if len(value) > _LONGEST_IN_ERROR else "")
        raise ConfigurationError(
            f"{name} must be 1 to 64 letters, digits and `-._~` that do not begin with a dot, not {start}"
        )
    raise ConfigurationError(f"{name} must be an int or a str, not {type(value).__name__}")


def same_id(one: Id, other: Id) -> bool:
    """Return whether two ids are equal. For some backends, 7 and "7" are the same id."""
    return str(one) == str(other)

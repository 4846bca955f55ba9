"""The ids of calls, doctors and patients: a positive integer, or a short text such as a UUID.

They are opaque. A client sends back what the backend gave, in the type in which it was given.
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
"""An `Id` in an answer: a number in quotes stays a text, and `true` is no id."""

_LARGEST = 2**63 - 1
_TEXT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}", re.ASCII)
_LONGEST_SHOWN = 64


def checked_id(name: str, value: object) -> Id:
    """Return an id that can be sent, as a plain int or str.

    Raises:
        ConfigurationError: if the value is not an id. It must not become part of a path or a body.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= _LARGEST:
            return int(value)
        raise ConfigurationError(f"{name} must be an integer from 1 to {_LARGEST}, or a text")
    if isinstance(value, str):
        if found := _TEXT.fullmatch(value):
            return found[0]
        shown = repr(value[:_LONGEST_SHOWN]) + ("..." if len(value) > _LONGEST_SHOWN else "")
        raise ConfigurationError(
            f"{name} must be 1 to 64 letters, digits and `-._~` that do not begin with a dot, not {shown}"
        )
    raise ConfigurationError(f"{name} must be an int or a str, not {type(value).__name__}")


def same_id(one: Id, other: Id) -> bool:
    """Whether two ids name the same thing. A backend may take 7 for its text "7"."""
    return str(one) == str(other)

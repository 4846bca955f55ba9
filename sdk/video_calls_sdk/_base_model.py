"""The base class of the models: frozen, and open to fields that this version does not know."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from video_calls_spec.redaction import is_secret

from video_calls_sdk._errors import UnreadableFieldError
from video_calls_sdk._redaction import sanitize


class Model(BaseModel):
    """A model of the contract. Unknown fields are kept, in `model_extra` and as attributes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Return the fields without secrets, at any depth."""
        return (
            (name, sanitize(value))
            for name, value in super().__repr_args__()
            if name is None or not is_secret(name)
        )

    if not TYPE_CHECKING:  # because type checkers would accept every attribute name

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (fields have any type)
            if name in type(self).model_fields:
                raise UnreadableFieldError(
                    f"{type(self).__name__}.{name} cannot be read: the response has no such "
                    "field, or an invalid one; `model_extra` has what the backend sent"
                )
            return super().__getattr__(name)

"""What every model of the contract is: frozen, and open to fields that this version does not know."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict
from video_calls_spec.redaction import is_secret

from video_calls_sdk._errors import NaiveDatetimeError, UnreadableFieldError
from video_calls_sdk._redaction import shown


class Model(BaseModel):
    """A model of the contract. Unknown fields are kept, in `model_extra` and as attributes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Every field without secrets, at any depth."""
        return (
            (name, shown(value))
            for name, value in super().__repr_args__()
            if name is None or not is_secret(name)
        )

    if not TYPE_CHECKING:  # otherwise type checkers would accept every name

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (fields have any type)
            if name in type(self).model_fields:
                raise UnreadableFieldError(
                    f"{type(self).__name__}.{name} cannot be read: the answer lacks it, or departs from the "
                    "contract there; `model_extra` has what the backend sent"
                )
            return super().__getattr__(name)


class Credentials(Model):
    """What Agora credentials can tell of themselves."""

    token: str
    expiration_time: AwareDatetime

    def expires_in(self, now: datetime | None = None) -> timedelta:
        """How long the token is still good; negative once it has lapsed.

        Args:
            now: an aware time to reckon from, by default the current one.

        Raises:
            NaiveDatetimeError: `now` has no offset.
        """
        if now is not None and now.utcoffset() is None:
            raise NaiveDatetimeError("`now` has no time zone; give an aware datetime")
        return self.expiration_time - (now or datetime.now(UTC))

    @property
    def expired(self) -> bool:
        """Whether the token has lapsed."""
        return self.expires_in() <= timedelta(0)

"""Read the valid parts of a response that departs from the contract. No I/O.

A valid part becomes a field of the model. An invalid part is in `model_extra`, as the backend sent it, and
reading its field raises `UnreadableFieldError`. So each field that can be read has its declared type.
"""

import logging
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, TypeGuard, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

Model = TypeVar("Model", bound=BaseModel)

logger = logging.getLogger("video_calls_sdk")

_MOST_KINDS = 1000


def read(model: type[Model], data: Mapping[str, Any], operation: str) -> tuple[Model, tuple[str, ...]]:
    """Return the model of a response, and the places where the response departs from the contract.

    Log each kind of departure once in a process, as a warning.
    """
    departures: list[str] = []
    instance = _model(model, data, "", departures)
    for departure in departures:
        place, _, problem = departure.partition(": ")
        kind = ".".join("N" if part.isdigit() else part for part in place.split("."))
        _log(operation, f"{kind}: {problem}")
    return instance, tuple(departures)


@lru_cache(maxsize=_MOST_KINDS)
def _log(operation: str, departure: str) -> None:
    logger.warning("a response of %s departs from the contract: %s", operation, departure)


def _model(model: type[Model], data: Mapping[str, Any], place: str, departures: list[str]) -> Model:
    values: dict[str, Any] = {}
    unreadable: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name not in data:
            if field.is_required():
                departures.append(f"{place}{name}: missing")
            continue
        try:
            values[name] = _adapter(model, name).validate_python(data[name])
        except ValidationError as error:
            inner, at = _model_of(field.annotation), f"{place}{name}."
            if inner is not None and is_object(data[name]):
                values[name] = _model(inner, data[name], at, departures)
            elif inner is not None and isinstance(data[name], list) and get_origin(field.annotation) is list:
                values[name] = _items(inner, data[name], at, departures)
            else:
                unreadable[name] = data[name]
                departures.append(f"{place}{name}: {error.errors()[0]['msg']}")
    others = {name: value for name, value in data.items() if name not in model.model_fields}
    instance = model.model_construct(**values)
    if instance.model_extra is not None:  # always, because the models have extra="allow"
        instance.model_extra.update(others | unreadable)
    return instance


def _items(model: type[Model], items: list[Any], place: str, departures: list[str]) -> list[Model]:
    """Return the items of a list that are objects."""
    models: list[Model] = []
    for number, item in enumerate(items):
        if is_object(item):
            models.append(_model(model, item, f"{place}{number}.", departures))
        else:
            departures.append(f"{place}{number}: not an object, so it was left out")
    return models


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a JSON value is an object."""
    return isinstance(value, dict)


@cache
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    """Return the validator of one field."""
    return TypeAdapter(model.model_fields[name].rebuild_annotation())


def _model_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 (annotations have no common type)
    """Return the model in a field's annotation, which may be a list of it or optional."""
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None

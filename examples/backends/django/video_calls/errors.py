"""Errors: give each refusal of the framework the form of the document."""

from typing import Any

from rest_framework.response import Response
from rest_framework.views import exception_handler


def one_error(error: Exception, context: dict[str, Any]) -> Response | None:
    response = exception_handler(error, context)
    if response is not None:
        response.data = {"error": " ".join(texts(response.data))}
    return response


def texts(detail: object) -> list[str]:
    if isinstance(detail, dict):
        messages = ((text, name) for name, part in detail.items() for text in texts(part))
        return [
            text if name in ("detail", "non_field_errors") else f"{name}: {text}" for text, name in messages
        ]
    if isinstance(detail, list):
        return [text for part in detail for text in texts(part)]
    return [str(detail)]

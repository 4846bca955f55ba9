"""The SDK's tests start the real server as the server's own tests do."""

from conftest import pytest_make_parametrize_id, serve

__all__ = ["pytest_make_parametrize_id", "serve"]

"""The suite's tests have short ids and start processes that can be interrupted, as the server's tests do."""

from conftest import pytest_make_parametrize_id

__all__ = ["pytest_make_parametrize_id"]

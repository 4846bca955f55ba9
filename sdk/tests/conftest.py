"""The SDK's tests start the real server as the server's own tests do."""

from conftest import fresh_server, plain_server, pytest_make_parametrize_id, serve

__all__ = ["fresh_server", "plain_server", "pytest_make_parametrize_id", "serve"]

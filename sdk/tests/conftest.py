"""The SDK's tests start the real server as the server's own tests do."""

from conftest import serve

__all__ = ["serve"]

"""The ASGI extension with which the application drops the connection of a request. It imports no server."""

DROP_EXTENSION = "video_calls.drop"
"""The key of the extension in a scope.

The value holds two functions: `abort` discards data that is not sent yet, `close` sends it first. After the
call, the application waits for the disconnect message.
"""

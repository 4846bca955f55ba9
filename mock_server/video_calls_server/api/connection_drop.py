"""The ASGI extension that lets the application drop a request's connection. It imports no ASGI server."""

DROP_EXTENSION = "video_calls.drop"
"""The key of the extension in a scope.

The value holds two functions: `abort` discards data that is not sent yet, `close` sends it first. After the
call, the application waits for the disconnect message.
"""

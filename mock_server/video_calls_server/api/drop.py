"""How an application drops the connection of a request; importing this does not import a server."""

DROP = "video_calls.drop"
"""The extension of a scope by which an application drops the connection of a request.

It holds two functions: `abort` forgets what is not sent yet, `close` sends it first. The application then
waits for the disconnect that it will receive.
"""

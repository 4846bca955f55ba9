"""Pass a function as the token: the client calls it again after a 401.

Here the first token has already expired, as in a program that has run for a while.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video python examples/refresh_token.py
"""

import subprocess
from collections.abc import Iterator

from video_calls_sdk import VideoCallsClient


def tokens() -> Iterator[str]:
    for lifetime in ("-1h", "15m"):
        command = ["video-calls-server", "token", "doctor@example.com", "--expires-in", lifetime]
        yield subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print("asked for a token")


with VideoCallsClient(token=tokens().__next__) as client:
    print(f"{client.calls.list().count} calls")

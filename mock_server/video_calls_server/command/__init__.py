"""The console script. If the packages of the server are missing, it says how to install them."""

import sys


def run() -> None:
    """Run the command, or print how to install the packages that it needs."""
    try:
        from video_calls_server.__main__ import run as run_command
    except ModuleNotFoundError as error:
        print(
            f"video-calls-server: {error.name} is not installed; "
            'install the server with: pip install "video-calls[server]"',
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    run_command()

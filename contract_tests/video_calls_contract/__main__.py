"""Start the command. If the extra `contract` is not installed, print how to install it."""

import sys


def run() -> None:
    """Run the command `video-calls-contract`."""
    try:
        from video_calls_contract.command import run as run_command
    except ModuleNotFoundError as error:
        print(
            f"video-calls-contract: {error.name} is not installed; "
            'install the suite with: pip install "video-calls[contract]"',
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    run_command()


if __name__ == "__main__":
    run()

"""Test clients that other generators make from `openapi.yaml`, against the reference server.

These are openapi-typescript with openapi-fetch under `tsc --strict`, and openapi-python-client under `mypy
--strict`. A warning of a generator is an error, because its client is incomplete. `nox -s clients` runs
this; it needs npm.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from video_calls_contract.reference_server import reference_server
from video_calls_spec import openapi_path

HERE = Path(__file__).resolve().parent


def run(*words: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; if it fails, print it and exit."""
    process = subprocess.run(
        words,
        env=os.environ | (env or {}),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if process.returncode:
        raise SystemExit(f"{process.stdout}\n{words[0]} ended with {process.returncode}")
    return process.stdout


def generated(*words: str | Path) -> None:
    """Run a generator; fail if it warns."""
    printed = run(*words, env={"NO_COLOR": "1"})
    if any(sign in printed.lower() for sign in ("warn", "⚠", "skipp", "unsupported")):
        raise SystemExit(f"{printed}\n{words[0]} warns")


def typescript() -> tuple[str, ...]:
    """Build the client of openapi-typescript and openapi-fetch."""
    for name in ("package.json", "tsconfig.json", "lifecycle.ts"):
        shutil.copy(HERE / name, name)
    run("npm", "install", "--no-package-lock", "--no-audit", "--no-fund")
    tools = Path("node_modules/.bin")
    generated(tools / "openapi-typescript", openapi_path(), "--output", "schema.d.ts")
    run(tools / "tsc")
    return "node", "lifecycle.js"


def python() -> tuple[str, ...]:
    """Build the client of openapi-python-client."""
    shutil.copy(HERE / "lifecycle.py", "lifecycle.py")
    command = ("openapi-python-client", "generate", "--fail-on-warning", "--meta", "none")
    generated(*command, "--path", openapi_path(), "--output-path", "video_calls_api_client")
    run(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "lifecycle.py")
    return sys.executable, "lifecycle.py"


def main() -> None:
    """Run each client against servers with both types of ids."""
    clients: tuple[Callable[[], tuple[str, ...]], ...] = (typescript, python)
    for client in clients:
        with tempfile.TemporaryDirectory() as directory:
            os.chdir(directory)
            command = client()
            for form in ("integer", "uuid"):
                with reference_server("--ids", form) as config:
                    doctor, patient = (config.identities[name] for name in ("doctor", "patient"))
                    people = {
                        "BASE_URL": config.base_url,
                        "DOCTOR": json.dumps(doctor.doctor),
                        "PATIENT": json.dumps(patient.patient),
                        "DOCTOR_TOKEN": str(doctor.token),
                        "PATIENT_TOKEN": str(patient.token),
                    }
                    run(*command, env=people)
                print(f"{client.__name__}: passed with ids of type {form}")
            os.chdir(HERE)


if __name__ == "__main__":
    main()

"""Other programs on the same contract: Prism's mock of it, and the client of openapi-python-client.

Both are installed in a temporary directory. If that fails, the rows of that program say "not present".
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import video_calls_spec
import yaml
from load import Program
from table import progress

PRISM_PACKAGE = "@stoplight/prism-cli@5"
GENERATOR = "openapi-python-client==0.29.*"
PACKAGE = "video_calls_api_client"  # the package that the generator writes
INSTALL_LIMIT = 240  # seconds

PRISM = "Prism"
GENERATED_CLIENT = "openapi-python-client"


def install_prism(directory: Path) -> Program | None:
    """Install Prism by npm and return its command; None if that fails."""
    quiet = ("--no-audit", "--no-fund", "--loglevel", "error")
    if not succeeds("npm", "install", "--prefix", str(directory), *quiet, PRISM_PACKAGE):
        return None
    base = "/video-calls/"
    # Silent, because the bare application logs nothing either.
    words = (str(directory / "node_modules/.bin/prism"), "mock", "--verboseLevel", "silent")
    return Program(words, base, f"{base}1/")


def prism_document(directory: Path, page: Mapping[str, Any]) -> str:
    """Write the contract for Prism, with this page as the only example of a list; return its path."""
    contract = yaml.safe_load(video_calls_spec.openapi_path().read_text(encoding="utf-8"))
    answer = contract["paths"]["/video-calls/"]["get"]["responses"]["200"]["content"]["application/json"]
    answer.pop("examples", None)  # so that the page is the only example
    answer["example"] = page
    path = directory / "openapi.json"
    path.write_text(json.dumps(contract), encoding="utf-8")
    return str(path)


def generate_client(directory: Path) -> Path | None:
    """Return a directory with the generated client and what it imports besides httpx; None if that fails."""
    generator, client = directory / "generator", directory / "client"
    if not succeeds(sys.executable, "-m", "pip", "install", "-q", "--target", str(generator), GENERATOR):
        return None
    client.mkdir()
    options = ("--meta", "none", "--path", str(video_calls_spec.openapi_path()))
    command = (sys.executable, "-m", "openapi_python_client", "generate", *options)
    if not succeeds(*command, "--output-path", str(client / PACKAGE), PYTHONPATH=str(generator)):
        return None
    for package in ("attr", "attrs"):
        (client / package).symlink_to(generator / package)
    return client


def succeeds(*command: str, **environment: str) -> bool:
    """Run a command and return whether it succeeded; print its output if it did not."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    variables = os.environ | {"PATH": path} | environment
    try:
        process = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=INSTALL_LIMIT, env=variables
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        progress(str(error))
        return False
    if process.returncode:
        progress(f"{process.stdout}{process.stderr}{command[0]} exited with status {process.returncode}")
    return process.returncode == 0

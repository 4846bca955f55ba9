"""What else can be made of the same contract: Prism's mock of it, and the client of openapi-python-client.

Neither is needed. Each is looked for where it may be and, if wanted, installed beside the run; without it the
rows that need it say that it is not present.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import video_calls_spec
import yaml
from load import Program
from table import progress

PRISM = "@stoplight/prism-cli@5"
GENERATOR = "openapi-python-client==0.29.*"
PACKAGE = "video_calls_api_client"  # of the generated client
INSTALL_LIMIT = 240  # seconds

BESIDE_PRISM = "Prism"
BESIDE_CLIENT = "openapi-python-client"


def find_prism(directory: Path, *, install: bool) -> Program | None:
    """Prism in this directory or on the PATH; else, if wanted, installed in the directory by npm."""
    local = directory / "node_modules/.bin/prism"
    if not local.exists():
        found, npm = shutil.which("prism"), shutil.which("npm")
        if found is not None:
            local = Path(found)
        elif not install or npm is None:
            return None
        else:
            progress(f"npm installs {PRISM}")
            quiet = ("--no-audit", "--no-fund", "--loglevel", "error")
            if not _done([npm, "install", "--prefix", str(directory), *quiet, PRISM]):
                return None
    base = "/video-calls/"
    # Silent, as the bare application, which logs nothing.
    return Program((str(local.absolute()), "mock", "--verboseLevel", "silent"), base, f"{base}1/")


def prism_document(directory: Path, page: Mapping[str, Any]) -> str:
    """The contract for Prism: as it is, but with this page as the one example of a list."""
    contract = yaml.safe_load(video_calls_spec.openapi_path().read_text(encoding="utf-8"))
    answer = contract["paths"]["/video-calls/"]["get"]["responses"]["200"]["content"]["application/json"]
    answer.pop("examples", None)  # which Prism passes over here
    answer["example"] = page
    path = directory / "openapi.json"
    path.write_text(json.dumps(contract), encoding="utf-8")
    return str(path)


def find_client(directory: Path, *, install: bool) -> Path | None:
    """A directory with the generated client and what it imports beside httpx; None without the generator.

    The generator is that of this environment or, if wanted, of a new one.
    """
    python = sys.executable
    if find_spec("openapi_python_client") is None:
        if not install:
            return None
        progress(f"pip installs {GENERATOR}")
        venv.create(directory / "environment", with_pip=True)
        python = str(directory / "environment/bin/python")
        if not _done([python, "-m", "pip", "install", "--quiet", GENERATOR]):
            return None
    client = directory / "client"
    client.mkdir()
    options = ("--meta", "none", "--path", str(video_calls_spec.openapi_path()))
    command = (python, "-m", "openapi_python_client", "generate", *options)
    if not _done([*command, "--output-path", str(client / PACKAGE)], path=str(Path(python).parent)):
        return None
    show = "import attr, attrs; print(*attr.__path__, *attrs.__path__, sep='\\n')"
    imported = subprocess.run([python, "-c", show], check=True, capture_output=True, text=True)
    for package in map(Path, imported.stdout.splitlines()):
        (client / package.name).symlink_to(package)
    return client


def _done(command: list[str], path: str = "") -> bool:
    """Whether a command succeeded; what it said where it did not is shown."""
    environment = os.environ | {"PATH": os.pathsep.join(filter(None, (path, os.environ["PATH"])))}
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT, env=environment
        )
    except subprocess.CalledProcessError as error:
        progress(f"{error.stdout}{error.stderr}{command[0]} ended with {error.returncode}")
    except (subprocess.TimeoutExpired, OSError) as error:
        progress(str(error))
    else:
        return True
    return False

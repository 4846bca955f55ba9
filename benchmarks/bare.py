"""The baseline of the server: the same paths on plain Litestar with default settings, with constant answers.

The environment variable `BARE_ANSWERS` names a JSON file with the answers.
"""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from litestar import Litestar, get, post
from msgspec import Struct

_answers = json.loads(Path(os.environ["BARE_ANSWERS"]).read_bytes())


class NewCall(Struct):
    """The body of a POST."""

    doctor: int
    patient: int
    scheduled_time: datetime


@get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@get("/api/v1/video/video-calls/{call_id:int}/")
async def get_one(call_id: int) -> dict[str, Any]:  # noqa: ARG001 (read from the path, as any such route does)
    return _answers["one"]


@get("/api/v1/video/video-calls/")
async def get_list() -> dict[str, Any]:
    return _answers["list"]


@post("/api/v1/video/video-calls/")
async def create(data: NewCall) -> dict[str, Any]:  # noqa: ARG001 (decoded and checked, as any such route does)
    return _answers["one"]


app = Litestar([healthz, get_one, get_list, create])

"""What a transition tells the call's participants ("Websocket Events" of the document)."""

from dataclasses import dataclass
from typing import Literal

from video_calls_server.domain.people import Role

EventType = Literal["call.started", "call.ended", "call.cancelled", "participant.joined", "participant.left"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a call; `role` and `uid` are those of the participant, where it has one."""

    type: EventType
    role: Role | None = None
    uid: int | None = None

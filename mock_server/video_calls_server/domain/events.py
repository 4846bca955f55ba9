"""The events that a transition sends to the participants of a call ("Websocket Events")."""

from dataclasses import dataclass
from typing import Literal

from video_calls_server.domain.people import Role

EventType = Literal["call.started", "call.ended", "call.cancelled", "participant.joined", "participant.left"]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a call. In a `participant.*` event, `role` and `uid` name the participant."""

    type: EventType
    role: Role | None = None
    uid: int | None = None

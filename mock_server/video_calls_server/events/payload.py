"""Events as the contract's `webhooks` write them.

What an event tells is fixed when it happens, and kept as JSON; its id is known once it is kept.
"""

from datetime import datetime

import msgspec

from video_calls_server._structs import EventData, Participant
from video_calls_server.api.ids import INTEGERS, Ids
from video_calls_server.api.representation import video_call, with_ids
from video_calls_server.domain.calls import Call
from video_calls_server.domain.events import Event
from video_calls_server.store.events import StoredEvent

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(EventData)


class _Message(msgspec.Struct):
    id: str
    type: str
    created_at: datetime
    data: msgspec.Raw


def event_data(event: Event, call: Call) -> str:
    """The `data` of an event, with the call as the event left it; ids as the store has them."""
    participant = (
        msgspec.UNSET
        if event.role is None or event.uid is None
        else Participant(uid=event.uid, role=event.role)
    )
    return _ENCODER.encode(EventData(call=video_call(call), participant=participant)).decode()


def message(event: StoredEvent, ids: Ids) -> str:
    """The text of the frame that tells of an event."""
    data = msgspec.Raw(event.data.encode())
    if ids is not INTEGERS:
        written = _DECODER.decode(data)
        written.call = with_ids(written.call, ids)
        data = msgspec.Raw(_ENCODER.encode(written))
    return _ENCODER.encode(_Message(str(event.id), event.type, event.created_at, data)).decode()

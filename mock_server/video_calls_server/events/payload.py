"""The JSON of events, as the contract's `webhooks` define it.

`event_data` writes the `data` of an event when the event happens, and the outbox stores it. `message` adds
the id that the outbox assigned.
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
    """Return the `data` of an event as JSON: the call after the event, with the ids of the store."""
    participant = (
        msgspec.UNSET
        if event.role is None or event.uid is None
        else Participant(uid=event.uid, role=event.role)
    )
    return _ENCODER.encode(EventData(call=video_call(call), participant=participant)).decode()


def message(event: StoredEvent, ids: Ids) -> str:
    """Return the text of the WebSocket frame for an event, with ids in the configured form."""
    data = msgspec.Raw(event.data.encode())
    if ids is not INTEGERS:
        content = _DECODER.decode(data)
        content.call = with_ids(content.call, ids)
        data = msgspec.Raw(_ENCODER.encode(content))
    return _ENCODER.encode(_Message(str(event.id), event.type, event.created_at, data)).decode()

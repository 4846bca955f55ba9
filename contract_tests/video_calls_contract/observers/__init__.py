"""Rules that every exchange of a run is held to, whatever test it belongs to.

An observer is asked about each exchange. It answers with the complaints it has, and with None where the
exchange has nothing to do with its rule. What it finds is reported by `rules/test_everywhere.py`.

What a call was when it was first seen is remembered, so that a field which must not move is seen to move.
Whether a record makes sense is asked of calls of this run alone: staging systems hold data of all kinds.
"""

from video_calls_contract.observers import credentials, record, refusals
from video_calls_contract.observers.registry import (
    LENIENCE,
    MOST_FINDINGS,
    OBSERVED,
    Finding,
    Observer,
    Observers,
    Recent,
    Verdict,
)

__all__ = [
    "LENIENCE",
    "MOST_FINDINGS",
    "OBSERVED",
    "Finding",
    "Observer",
    "Observers",
    "Recent",
    "Verdict",
    "credentials",
    "record",
    "refusals",
]

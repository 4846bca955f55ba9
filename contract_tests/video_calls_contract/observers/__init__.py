"""Observers check rules that concern every exchange of a run, whichever test it belongs to.

An observer returns what it finds in an exchange, or None if its rule does not concern the exchange.
`rules/test_everywhere.py` reports the findings at the end.

Observers remember how a call was at first, so that they see a change of a field that must not change. They
check only the calls of this run, because a staging system may hold inconsistent data.
"""

from video_calls_contract.observers import call_fields, errors, join_response

__all__ = ["call_fields", "errors", "join_response"]

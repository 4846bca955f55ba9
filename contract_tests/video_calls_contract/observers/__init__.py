"""Observers: each checks one rule in every exchange of a run, whichever test sent the request.

An observer is a function that returns the violations in an exchange, or None if its rule does not concern the
exchange. `rules/test_everywhere.py` reports the findings at the end.

Observers remember the first response about a call, to notice changes of fields that must not change. They
check only the calls of this run, because a staging system may have inconsistent data.
"""

from video_calls_contract.observers import call_fields, errors, join_response

__all__ = ["call_fields", "errors", "join_response"]

"""The id of the request that is being served, for the log lines of whatever serves it."""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")

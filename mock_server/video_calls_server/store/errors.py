"""The errors that a store raises."""


class StoreError(Exception):
    """The database cannot be used as configured. The message says why and what to do."""


class OverlapError(Exception):
    """The database refuses a change because two open calls of one user would overlap."""


class UnavailableError(Exception):
    """The database, or another service that the server depends on, did not respond. A retry may succeed.

    No change was made. The exception is a database that fails during a commit: the change may be there.
    """

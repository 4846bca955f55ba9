"""How anything that the server depends on says that it is away for now."""


class UnavailableError(Exception):
    """Something that the server needs did not answer; a later try may succeed.

    Nothing was changed, unless a database ended while it committed: then nobody knows.
    """

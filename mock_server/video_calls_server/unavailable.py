"""How anything that the server depends on says that it is away for now."""


class UnavailableError(Exception):
    """Something that the server needs did not answer, and nothing was changed; a later try may succeed."""

"""The contract, tested with traffic that others send: through a proxy, or from recordings.

Nothing here sends a request of its own, except one at the start that finds the API.
"""

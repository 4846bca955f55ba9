"""HTTP: parsing requests, authenticating callers, and sending responses.

The only rules decided here are those about HTTP itself: tokens, paths, media types and sizes.
"""

"""HTTP: parsing requests, authenticating callers, and sending responses.

This package decides only the rules about HTTP itself: tokens, paths, media types and sizes.
"""

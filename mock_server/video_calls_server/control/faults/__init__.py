"""Faults: what they are, which requests they hit, and the middleware that applies them."""

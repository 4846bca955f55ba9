"""Faults: what they are, which requests they act on, and the middleware that applies them."""

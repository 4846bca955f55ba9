"""HTTP: reading requests, answering them, and who is asking.

No rule of the catalogue is decided here, except those about HTTP itself: tokens, paths, media types, sizes.
"""

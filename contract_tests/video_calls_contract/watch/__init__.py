"""Checks the traffic of other clients: live through a proxy, or from recordings.

The suite sends no requests of its own, except that `target.py` looks for the API at the start.
"""

"""Checks the traffic of other clients by the contract: live through a proxy, or from recordings.

Only `target.py` sends requests, which find the API at the start.
"""

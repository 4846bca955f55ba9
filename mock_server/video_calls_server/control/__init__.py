"""What only the reference server has: namespaces, a clock to set, faults, snapshots and a request log.

This package decides no rule. Without it (`--no-control`) the API is the same.
"""

"""What only the reference server has: namespaces, faults, snapshots, a request log and a clock to set.

This package decides no rule. Without it (`--no-control`), the API behaves the same.
"""

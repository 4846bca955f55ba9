"""What only a reference server has: namespaces, a clock to set, faults, state to replace, a request log.

Nothing of it decides a rule, and without it (`--no-control`) the API is the same.
"""

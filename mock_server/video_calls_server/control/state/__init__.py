"""The state of a namespace: its document, how it is loaded, snapshots, the initial state and sample calls."""

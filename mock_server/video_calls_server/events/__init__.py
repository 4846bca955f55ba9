"""Real-time events: who is woken to be told of them, and how one is written."""

"""Real-time events: waking the connections that follow them, and writing them as JSON."""

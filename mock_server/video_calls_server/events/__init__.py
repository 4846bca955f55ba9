"""Real-time events: who is told, how a connection follows, and how an event is written."""

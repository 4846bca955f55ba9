"""What a video call is and what may happen to it. Pure: no framework, no database, no clock, no I/O."""

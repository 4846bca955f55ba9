"""The rules of video calls, as pure functions: no framework, no database, no clock, no I/O."""

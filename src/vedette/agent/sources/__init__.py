"""Raw facts, one kernel or operating system interface a file. A source knows nothing of events."""

"""Raw facts, one kernel or operating system interface a file. A source knows nothing of events."""


class Unavailable(Exception):
    """This machine cannot offer a source; the text says why and what would help. A normal outcome."""

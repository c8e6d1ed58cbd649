"""Raw facts, one kernel or operating system interface a file. A source knows nothing of events."""


class Unavailable(Exception):
    """This machine cannot offer a source; the text says why and what would help. A normal outcome."""

    def __init__(self, reason: str, *, remedy: str = "") -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{reason} ({remedy})" if remedy else reason)


class Overrun(Exception):
    """Messages came faster than they were read, and some are lost. The present state has to be asked for."""

"""What the parent of a process ran, as far as it was seen: for Sigma's ParentImage and ParentCommandLine.

An event names its parent by process id alone, and stands for all executions of one command line: of these the
id of the first is known. So a parent is known if it was the first to run its line since the agent's last
report, or runs for longer than that, as services and shells do. A rule that needs the parent is quiet about
the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vedette.hub.detect.taxonomy import PARENT_IMAGE, PARENT_LINE, Observed

PROCESSES = 50_000
"""Processes that are remembered, the last seen: 300 bytes each, and what a thousand devices run in hours."""


class _Ran(NamedTuple):
    """What a process executed, and when at first."""

    at: float
    image: str
    line: str


class Parents:
    """Remembers what processes ran. For one thread; what was seen before the hub started is not known."""

    def __init__(self) -> None:
        self._ran: dict[tuple[str, int], _Ran] = {}

    def told(self, events: Sequence[Observed]) -> list[Observed]:
        """The events, and with those of processes what their parents ran, where that is known."""
        for event in events:
            self._note(event)
        while len(self._ran) > PROCESSES:
            del self._ran[next(iter(self._ran))]
        return [self._with_parent(event) for event in events]

    def _note(self, event: Observed) -> None:
        details = event.details
        process = details.get("ProcessId")
        if event.name not in _NAMES or details.get("EventType", "EXEC") != "EXEC" or not process:
            return
        line = details.get("Commandline") or details.get("CommandLine") or ""
        self._ran.pop((event.device, process), None)
        self._ran[event.device, process] = _Ran(event.first, details.get("Executable") or "", line)

    def _with_parent(self, event: Observed) -> Observed:
        parent = self._ran.get((event.device, event.details.get("ParentProcessId") or 0))
        if event.name not in _NAMES or parent is None or parent.at > event.first:
            return event  # an id that was used again since is another process
        known = {PARENT_IMAGE: parent.image, PARENT_LINE: parent.line}
        return event._replace(details={**event.details, **known})


_NAMES = ("Process", "ProcessCreate")

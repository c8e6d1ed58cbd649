"""What a process with many connections asks of the system and of the interpreter."""

from __future__ import annotations

import gc
import resource

YOUNG_OBJECTS = 20_000
"""Objects made between two searches for cycles among the youngest. The interpreter's own 700 come together
while a hundred messages wait for one commit: it would search all the time and find
nothing (docs/scale.md)."""


def allow_sockets() -> None:
    """Have as many sockets as the system allows this process; most shells and services begin with 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def spare_collections() -> None:
    """Leave what is there now out of all later searches for cycles, and search less often.

    For the moment when a process has been composed: most of its objects then stay for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])

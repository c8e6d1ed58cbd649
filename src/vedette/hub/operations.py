"""What is done with devices at the hub, or tried, as events: connects, twin updates, methods, messages.

Equal operations become one event with a hit count, stored through the intake like any message (`recorder`),
under the device's name; under the hub's where the device is not known. So whoever tries to get in can add a
bounded number of rows, however often he tries and whatever he calls himself.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from vedette.wire.events import HubOperation
from vedette.wire.iothub import Identity

HUB = Identity("$hub")
"""Whom operations are put down to that concern no registered device."""

MAX_KINDS = 1_000
"""Different operations counted in one interval: 2,000 rows a minute. What exceeds them is counted without its
device and address, which leaves as many kinds as there are reasons."""

MANY = "*"
"""Stands for the identity and the address of what exceeded MAX_KINDS."""

Counted = Counter[tuple[Identity, HubOperation]]


class Operations:
    """Operations, counted until they are taken. For one event loop."""

    def __init__(self) -> None:
        self._counted: Counted = Counter()

    def note(self, who: Identity, operation: HubOperation) -> None:
        """Count one. who: the registered device or module, or HUB."""
        key = who, operation
        if key not in self._counted and len(self._counted) >= MAX_KINDS:
            key = HUB, msgspec.structs.replace(operation, remote_address=MANY, identity=MANY)
        self._counted[key] += 1

    def take(self) -> Counted:
        """What was counted since the last call."""
        taken, self._counted = self._counted, Counter()
        return taken

"""What a device's page was asked for, and the address that asks for something else. Pure."""

from __future__ import annotations

import msgspec

from vedette.hub.console.parts import device_at
from vedette.hub.console.questions import quoted

PAGE = 50
"""Rows a page."""


class Asked(msgspec.Struct, frozen=True):
    """A device, and of it: a tab, a text to look for, a choice (of a kind or a verdict), a page from 1."""

    device_id: str
    tab: str = ""
    q: str = ""
    choice: str = ""
    page: int = 1

    @property
    def where(self) -> str:
        """The condition on rows of the lake: this device's."""
        return f"DeviceId = {quoted(self.device_id)}"

    @property
    def limits(self) -> str:
        """The rows of this page and one more, which tells whether there is a next one."""
        return f"LIMIT {PAGE + 1} OFFSET {(self.page - 1) * PAGE}"

    def at(self, *, tab: str | None = None, **changed: str | int) -> str:
        """The address with something changed: another tab begins anew, anything else at the first page."""
        if tab is not None:
            return device_at(self.device_id, tab=tab)
        kept: dict[str, str | int] = {"tab": self.tab, "q": self.q, "choice": self.choice}
        return device_at(self.device_id, **{**kept, **changed})

"""Our own form: every field of an alert or recommendation under its name, times in ISO 8601, UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from vedette.hub.detect.alerts import Alert
from vedette.wire.declare import utc_text

if TYPE_CHECKING:
    from vedette.hub.formats import Notable

_TIMES = ("start", "end", "created", "updated", "first", "discovered", "changed", "resolved", "evaluated")


def finding(one: Notable) -> dict[str, Any]:
    """An alert or recommendation; `kind` says which."""
    document: dict[str, Any] = msgspec.to_builtins(one)
    document.pop("changes", None)  # who decided what stays in the hub
    for name in _TIMES:
        if document.get(name) is not None:
            document[name] = utc_text(document[name])
    return {"kind": "alert" if isinstance(one, Alert) else "recommendation", **document}

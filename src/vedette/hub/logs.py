"""Logs as JSON, one object a line, for whatever collects them."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from vedette.wire.events import utc_text


class JsonLines(logging.Formatter):
    """time, level, logger, message; exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; line ends within it are escaped by JSON."""
        line: dict[str, Any] = {
            "time": utc_text(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def use_json() -> None:
    """Have all that is logged from now on written so."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines())

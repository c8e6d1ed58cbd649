"""Log lines that neither a broken disk nor a fleet of strangers can turn into a flood."""

from __future__ import annotations

import logging
import time

WARNINGS_A_MINUTE = 60
"""Warnings about clients that are written; the rest is counted in the next one."""


class Fault:
    """Something of ours that may break: one error when it does, one line when it works again."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self.broken = False

    def breaks(self, error: BaseException) -> None:
        """It failed. Only the first time is written."""
        if not self.broken:
            self.broken = True
            self._log.error("%s fails", self._what, exc_info=error)

    def works(self) -> None:
        """It did its work."""
        if self.broken:
            self.broken = False
            self._log.info("%s works again", self._what)


class Warnings:
    """Warnings that clients cause, so many a minute."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._minute = 0
        self._written = 0
        self._left_out = 0

    def write(self, text: str, *args: object) -> None:
        """Write one, or count it for the next."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._written = minute, 0
        if self._written >= WARNINGS_A_MINUTE:
            self._left_out += 1
            return
        self._written += 1
        if self._left_out:
            self._log.warning("%d warnings about clients were left out", self._left_out)
            self._left_out = 0
        self._log.warning(text, *args)

"""How often somebody may try a password or a key. Pure: the caller brings the time."""

from __future__ import annotations

from collections.abc import Iterable

FREE_ATTEMPTS = 5
"""Failures that cost nothing: people mistype."""

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0
"""Each further failure doubles the pause, up to a quarter of an hour: 100 guesses a day."""

REMEMBERED_S = 3600.0
"""After this without a failure, all is forgotten."""

MAX_KEYS = 10_000
"""Names and addresses remembered; then the one that failed longest ago is forgotten: about 2 MB."""


class TooManyAttempts(Exception):
    """Nothing is looked at before so many seconds have passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many attempts; try again in {seconds:.0f} s")
        self.seconds = seconds


class Attempts:
    """Failures by key (a user name, an address)."""

    def __init__(self) -> None:
        self._failed: dict[str, tuple[int, float]] = {}

    def pause(self, key: str, now: float) -> float:
        """Seconds until the next attempt is allowed; 0 if it is."""
        count, at = self._failed.get(key, (0, 0.0))
        if count < FREE_ATTEMPTS or now - at > REMEMBERED_S:
            return 0.0
        pause = min(FIRST_PAUSE_S * 2.0 ** min(count - FREE_ATTEMPTS, 10), LONGEST_PAUSE_S)
        return max(0.0, at + pause - now)

    def begin(self, keys: Iterable[str], now: float) -> None:
        """Count an attempt as failed until it has succeeded: those at the same time count each other.

        Raises TooManyAttempts.
        """
        keys = tuple(keys)
        if pause := max(self.pause(key, now) for key in keys):
            raise TooManyAttempts(pause)
        for key in keys:
            self.failed(key, now)

    def failed(self, key: str, now: float) -> None:
        """Count a failure."""
        count, at = self._failed.pop(key, (0, now))
        self._failed[key] = (1 if now - at > REMEMBERED_S else count + 1, now)
        if len(self._failed) > MAX_KEYS:
            del self._failed[next(iter(self._failed))]

    def succeeded(self, key: str) -> None:
        """Forget the failures of a key."""
        self._failed.pop(key, None)

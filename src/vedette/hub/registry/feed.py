"""Changes as they come: how a gateway learns what the console, the command line or another process wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine

from vedette.hub.registry.records import CHANGES_PAGE, Change, ChangesLost
from vedette.hub.registry.schema import BEGIN, NONE


class ChangeFeed:
    """Changes as they come, for one reader. Costs one PRAGMA where nothing was written, or a query.

    Not safe for several threads at a time.
    """

    def __init__(
        self, engine: Engine, changes: Callable[[int], Sequence[Change]], last_change: Callable[[], int]
    ) -> None:
        self._changes = changes
        self._last_change = last_change
        # SQLite counts, for each connection, the commits of all others: so this one does nothing else.
        self._watching: Connection | None = None
        if engine.dialect.name == "sqlite":
            self._watching = engine.execution_options(**{BEGIN: NONE}).connect()
        self._stirred = self._stir()
        self._seq = last_change()

    def _stir(self) -> object:
        """A value that is another one after any commit; elsewhere than on SQLite, always."""
        if self._watching is None:
            return object()
        return self._watching.exec_driver_sql("PRAGMA data_version").scalar_one()

    def poll(self) -> Sequence[Change]:
        """Changes since the last call, or the first of them: call again soon.

        Raises ChangesLost if the log was trimmed meanwhile, and goes on from now then.
        """
        stirred = self._stir()
        if stirred == self._stirred:
            return ()
        try:
            changes = self._changes(self._seq)
        except ChangesLost:
            self._seq = self._last_change()
            raise
        if len(changes) < CHANGES_PAGE:
            self._stirred = stirred
        if changes:
            self._seq = changes[-1].seq
        return changes

    def close(self) -> None:
        """Give the connection back."""
        if self._watching is not None:
            self._watching.close()

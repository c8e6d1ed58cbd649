"""How long a search of the registry may take: whoever asks for too much is told, and holds nobody up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from vedette.hub.registry.query import QueryError

SEARCH_S = 10.0
"""A hundred thousand twins take a second or two at most for a condition that people write."""

STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock: well below a millisecond."""

CANCELED = "57014"
"""PostgreSQL's `query_canceled`."""


@contextmanager
def limited(session: Session) -> Iterator[None]:
    """Let the statements within take SEARCH_S together (on PostgreSQL: each). Raises QueryError."""
    try:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text(f"SET LOCAL statement_timeout = {SEARCH_S * 1_000:.0f}"))
            yield
        else:
            with _watched(session):
                yield
    except DBAPIError as error:
        if CANCELED in str(error.orig) or str(error.orig) == "interrupted":
            raise QueryError(f"query: took longer than {SEARCH_S:g} s; narrow it down") from None
        raise


@contextmanager
def _watched(session: Session) -> Iterator[None]:
    deadline = time.monotonic() + SEARCH_S
    connection = session.connection().connection.driver_connection
    assert connection is not None
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)

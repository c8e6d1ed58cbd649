"""Rows that may be there already: inserted, replaced or added to by one statement, on either database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from vedette.hub.registry.schema import Base


def insert_new(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet."""
    if rows:
        insert = _insert(session)(table).on_conflict_do_nothing()
        session.execute(insert, list(rows))


def upsert(
    session: Session, table: type[Base], row: Mapping[str, Any], update: Mapping[str, Any] | None = None
) -> None:
    """Insert a row, or set the columns of `update` (default: all of the row) in the one that is there."""
    insert = _insert(session)(table).values(**row)
    session.execute(insert.on_conflict_do_update(index_elements=_keys(table), set_=dict(update or row)))


def upsert_newer(
    session: Session,
    table: type[Base],
    rows: Sequence[Mapping[str, Any]],
    newer: str,
    *,
    kept: Sequence[str] = (),
    or_same: bool = True,
) -> None:
    """Insert rows, or replace those that are there and older by the column `newer`; but keep these columns.

    or_same: replace those of the same age, too.
    """
    if not rows:
        return
    insert = _insert(session)(table)
    columns = {name: insert.excluded[name] for name in rows[0] if name not in (*_keys(table), *kept)}
    coming, there = insert.excluded[newer], table.__table__.c[newer]
    session.execute(
        insert.on_conflict_do_update(
            index_elements=_keys(table),
            set_=columns,
            where=coming >= there if or_same else coming > there,
        ),
        list(rows),
    )


def upsert_sums(
    session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]], sums: Sequence[str]
) -> None:
    """Insert rows, or add the columns `sums` to those of the rows that are there."""
    if rows:
        insert, known = _insert(session)(table), table.__table__.c
        added = {name: known[name] + insert.excluded[name] for name in sums}
        session.execute(insert.on_conflict_do_update(index_elements=_keys(table), set_=added), list(rows))


def _keys(table: type[Base]) -> list[str]:
    return [column.name for column in table.__table__.primary_key]


def _insert(session: Session) -> Any:
    dialect = session.get_bind().dialect.name
    return postgresql.insert if dialect == "postgresql" else sqlite.insert

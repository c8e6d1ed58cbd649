"""The lists of a hub: imported, listed, removed, and read back. Every call is its own transactions."""

from __future__ import annotations

import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, TypeVar

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from vedette.hub.detect.schema import Database
from vedette.hub.errors import DomainError
from vedette.hub.intel.indicators import Indicator, Refused, indicator
from vedette.hub.intel.lookup import covering
from vedette.hub.intel.schema import IntelListRow, IntelPartRow

Contents = Literal["indicators", "advisories", "lifecycles"]

PART_ENTRIES = 10_000
"""Entries of a part: some 100 KB, written in 10 ms."""

PARTS_AT_ONCE = 500
"""Parts by key that one transaction writes: about as long."""

MAX_INDICATORS = 2_000_000
"""Indicators of one list: 120 MB in memory each million, which detection holds. The largest public feeds
have some hundred thousand."""

MAX_REASONS = 50
"""Reasons that are kept apart; the rest is one."""

ABANDONED_S = 24 * 3600.0
"""Age at which parts that no list names are those of an import that did not end."""

LEVEL = 1
"""zlib's fastest: texts shrink to a third, and 100 MB take a second."""

T = TypeVar("T")


class IntelList(msgspec.Struct, frozen=True, kw_only=True):
    """A list as it is shown. refused: reason → entries that could not be used."""

    name: str
    kind: str
    source: str
    imported: float
    entries: int
    refused: dict[str, int]


class Hit(msgspec.Struct, frozen=True):
    """An indicator that matches a value, and the list it is on."""

    list: str
    indicator: Indicator


class IntelError(DomainError, ValueError):
    """A list cannot be imported, or there is none of that name; the text says why."""


class Tally:
    """Entries on their way into a list: refused ones are counted by reason, repeated ones left out."""

    def __init__(self, limit: int) -> None:
        self.taken = 0
        self._limit = limit
        self._reasons: Counter[str] = Counter()

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count what cannot be used."""
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            reason = "other reasons"
        self._reasons[reason] += count

    def take(self) -> bool:
        """Count an entry; False if it is beyond the limit."""
        if self.taken >= self._limit:
            self.refuse(f"beyond the first {self._limit}")
            return False
        self.taken += 1
        return True

    @property
    def refused(self) -> dict[str, int]:
        """Reason → entries, the most frequent first."""
        return dict(self._reasons.most_common())


class Intel:
    """The lists in a registry's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_indicators(
        self,
        name: str,
        source: str,
        entries: Iterable[Indicator | Refused],
        told: Callable[[int], None] = lambda taken: None,
    ) -> IntelList:
        """Make these the indicators of a list, in place of what it had. Raises IntelError if there are none.

        told: told now and then how many have been taken.
        """
        tally = Tally(MAX_INDICATORS)
        with self.revision() as revision:
            for number, part in enumerate(batches(_distinct(entries, tally), PART_ENTRIES)):
                self.write(revision, {f"{number:06}": packed(part)})
                told(tally.taken)
            return self.publish(name, "indicators", source, revision, tally)

    @contextmanager
    def revision(self) -> Iterator[str]:
        """A name for the parts of an import, which are dropped if it ends in an error."""
        revision = uuid.uuid4().hex
        try:
            yield revision
        except BaseException:
            with self._database.write.begin() as session:
                _drop(session, revision)
            raise

    def write(self, revision: str, parts: dict[str, bytes]) -> None:
        """Write parts of a list that is being imported."""
        now = time.time()
        for some in batches(parts.items(), PARTS_AT_ONCE):
            with self._database.write.begin() as session:
                session.add_all(
                    IntelPartRow(revision=revision, key=key, written=now, data=data) for key, data in some
                )

    def publish(self, name: str, kind: Contents, source: str, revision: str, tally: Tally) -> IntelList:
        """Make a revision the list. Raises IntelError if it holds nothing."""
        if not tally.taken:
            why = ", ".join(f"{reason} ({count})" for reason, count in tally.refused.items())
            raise IntelError(f"{source}: nothing to import{': ' if why else ''}{why}")
        made = IntelList(
            name=name,
            kind=kind,
            source=source,
            imported=time.time(),
            entries=tally.taken,
            refused=tally.refused,
        )
        row = msgspec.structs.asdict(made) | {
            "revision": revision,
            "refused": msgspec.json.encode(made.refused).decode(),
        }
        with self._database.write.begin() as session:
            if before := session.get(IntelListRow, name):
                _drop(session, before.revision)
            session.merge(IntelListRow(**row))
            _sweep(session)
        return made

    def remove(self, name: str) -> None:
        """Forget a list. Raises IntelError if there is none of that name."""
        with self._database.write.begin() as session:
            row = session.get(IntelListRow, name)
            if row is None:
                raise IntelError(f"{name}: no such list")
            _drop(session, row.revision)
            session.delete(row)

    def lists(self) -> Sequence[IntelList]:
        """All lists by name."""
        with self._database.read.begin() as session:
            return [_shown(row) for row in session.scalars(select(IntelListRow).order_by(IntelListRow.name))]

    def get(self, name: str) -> IntelList:
        """A list. Raises IntelError if there is none of that name."""
        with self._database.read.begin() as session:
            row = session.get(IntelListRow, name)
            if row is None:
                raise IntelError(f"{name}: no such list")
            return _shown(row)

    def indicators(self, name: str = "") -> Iterator[tuple[str, Indicator]]:
        """The indicators of a list, or of all, each with the name of its list."""
        with self._database.read.begin() as session:
            yield from listed(session, name)

    def check(self, value: str) -> Sequence[Hit]:
        """What is known about a value: indicators that match it, expired ones included. Raises IntelError."""
        try:
            wanted = set(covering(indicator(value)))
        except Refused as refused:
            raise IntelError(f"{value[:80]}: {refused}") from None
        return [Hit(name, one) for name, one in self.indicators() if (one.kind, one.value) in wanted]


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of so many items; the last may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def listed(session: Session, name: str = "") -> Iterator[tuple[str, Indicator]]:
    """Indicators with the names of their lists; see `Intel.indicators`."""
    lists = select(IntelListRow.name, IntelListRow.revision).where(IntelListRow.kind == "indicators")
    lists = lists.where(IntelListRow.name == name) if name else lists
    for known, revision in session.execute(lists.order_by(IntelListRow.name)).all():
        parts = select(IntelPartRow.data).where(IntelPartRow.revision == revision).order_by(IntelPartRow.key)
        for data in session.scalars(parts.execution_options(yield_per=1)):
            for one in unpacked(data, list[Indicator]):
                yield known, one


def revisions(session: Session, kind: Contents) -> tuple[str, ...]:
    """What stands for the present state of all lists of a kind: other lists, other revisions."""
    rows = select(IntelListRow.revision).where(IntelListRow.kind == kind)
    return tuple(session.scalars(rows.order_by(IntelListRow.revision)))


def packed(value: Any) -> bytes:
    """A value as it is stored."""
    return zlib.compress(msgspec.json.encode(value), LEVEL)


def unpacked(data: bytes, kind: type[T]) -> T:
    """A value that was stored."""
    return msgspec.json.decode(zlib.decompress(data), type=kind)


def _distinct(entries: Iterable[Indicator | Refused], tally: Tally) -> Iterator[Indicator]:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        if isinstance(entry, Refused):
            tally.refuse(str(entry))
        elif (key := (entry.kind, entry.value)) in seen:
            tally.refuse("listed twice")
        elif tally.take():
            seen.add(key)
            yield entry


def _drop(session: Session, revision: str) -> None:
    session.execute(delete(IntelPartRow).where(IntelPartRow.revision == revision))


def _sweep(session: Session) -> None:
    """Drop parts that no list names, unless an import may still be at them."""
    named = select(IntelListRow.revision)
    session.execute(
        delete(IntelPartRow).where(
            IntelPartRow.revision.not_in(named), IntelPartRow.written < time.time() - ABANDONED_S
        )
    )


def _shown(row: IntelListRow) -> IntelList:
    columns = {name: getattr(row, name) for name in IntelList.__struct_fields__}
    return IntelList(**columns | {"refused": msgspec.json.decode(row.refused)})

"""The registry as lists and counts of devices: searched, sorted and paged by the database."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.orm import Session, sessionmaker

from vedette.hub.registry import Twin
from vedette.hub.registry.profiles import ProfileRow
from vedette.hub.registry.rows import twin_of
from vedette.hub.registry.schema import IdentityRow, TwinRow

NEW_S = 24 * 3600.0
"""A device counts as new on its first day."""

MAX_PAGE = 200
"""Devices of one page."""

LONG_S = 0.1
REST = 20
"""A count that takes longer than LONG_S serves for REST times as long: 100,000 devices take half a second."""

State: TypeAlias = Literal["", "online", "silent", "never", "new"]
Order: TypeAlias = Literal["device", "seen", "created"]


class Entry(msgspec.Struct, frozen=True):
    """A device, its modules' connections and activity included. seen, created: Unix seconds."""

    device_id: str
    enabled: bool
    online: bool
    seen: float | None
    created: float

    @property
    def state(self) -> str:
        """In one word."""
        if not self.enabled:
            return "disabled"
        return "online" if self.online else "silent" if self.seen else "never seen"


class Totals(msgspec.Struct, frozen=True):
    """How many devices there are, by state."""

    devices: int
    online: int
    silent: int
    never: int
    new: int

    def of(self, state: State) -> int:
        """The number of those in a state."""
        return int(getattr(self, state or "devices"))


class Roll:
    """All devices, a page at a time."""

    def __init__(self, read: sessionmaker[Session]) -> None:
        self._read = read
        self._counted: Totals | None = None
        self._counted_until = 0.0

    def page(
        self,
        search: str = "",
        state: State = "",
        *,
        offset: int = 0,
        limit: int = 50,
        order: Order = "device",
        descending: bool = False,
    ) -> tuple[Sequence[Entry], int]:
        """A page of devices whose id contains a text, and how many there are of them."""
        limit, offset = min(limit, MAX_PAGE), max(0, offset)
        if not state and order == "device":
            return self._by_name(search, offset, limit, descending=descending)
        devices = _devices(search, state).subquery()
        column = devices.c[{"device": "device_id", "seen": "seen", "created": "created"}[order]]
        sorted_by = column.desc().nulls_last() if descending else column.asc().nulls_last()
        rows = select(devices).order_by(sorted_by, devices.c.device_id)
        with self._read.begin() as session:
            found = [Entry(*_plain(row)) for row in session.execute(rows.offset(offset).limit(limit))]
            if search:
                return found, session.scalar(select(func.count()).select_from(devices)) or 0
        return found, self.totals().of(state)

    def _by_name(
        self, search: str, offset: int, limit: int, *, descending: bool
    ) -> tuple[Sequence[Entry], int]:
        """The same without looking at every device: the primary key alone tells names and their number."""
        named = select(IdentityRow.device_id).where(IdentityRow.module_id == "")
        if search:
            named = named.where(_contains(search))
        order = IdentityRow.device_id.desc() if descending else IdentityRow.device_id
        with self._read.begin() as session:
            total = session.scalar(select(func.count()).select_from(named.subquery())) or 0
            ids = session.scalars(named.order_by(order).offset(offset).limit(limit)).all()
        return self.entries(ids), total

    def entries(self, device_ids: Sequence[str]) -> Sequence[Entry]:
        """These devices, in this order; those that are not there are passed over."""
        rows = _devices("", "").where(IdentityRow.device_id.in_(device_ids[:MAX_PAGE]))
        with self._read.begin() as session:
            found = {row.device_id: Entry(*_plain(row)) for row in session.execute(rows)}
        return [found[device_id] for device_id in device_ids if device_id in found]

    def tags(self, device_ids: Sequence[str]) -> Mapping[str, dict[str, Any]]:
        """Their tags; those without any are left out."""
        rows = select(ProfileRow.device_id, ProfileRow.tags).where(
            ProfileRow.device_id.in_(device_ids[:MAX_PAGE]),
            ProfileRow.module_id == "",
            ProfileRow.tags != "{}",
        )
        with self._read.begin() as session:
            return {device_id: msgspec.json.decode(tags) for device_id, tags in session.execute(rows)}

    def twins(self, device_ids: Sequence[str]) -> Mapping[str, Sequence[Twin]]:
        """The twins of these devices and of their modules, in one query; a device's own comes first."""
        rows = select(TwinRow).where(TwinRow.device_id.in_(device_ids))
        found: dict[str, list[Twin]] = {}
        with self._read.begin() as session:
            for row in session.scalars(rows.order_by(TwinRow.device_id, TwinRow.module_id)):
                found.setdefault(row.device_id, []).append(twin_of(row))
        return found

    def totals(self) -> Totals:
        """How many devices there are; of a fleet that takes long to count, as of a short while ago."""
        begun = time.monotonic()
        if self._counted is None or begun > self._counted_until:
            self._counted = self._count()
            cost = time.monotonic() - begun
            self._counted_until = begun + (cost * REST if cost > LONG_S else 0.0)
        return self._counted

    def _count(self) -> Totals:
        devices = _devices("", "").subquery()
        seen, online = devices.c.seen.is_not(None), devices.c.online > 0

        def number(condition: Any) -> Any:
            return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

        new = devices.c.created > time.time() - NEW_S
        sums = select(func.count(), *map(number, (online, seen & ~online, ~seen & ~online, new)))
        with self._read.begin() as session:
            return Totals(*session.execute(sums.select_from(devices)).one())


def _plain(row: Sequence[Any]) -> tuple[str, bool, bool, float | None, float]:
    device_id, enabled, online, seen, created = row
    return device_id, bool(enabled), bool(online), seen, created


def _devices(search: str, state: State) -> Select[*tuple[Any, ...]]:
    """One row a device: the connection and the activity of its modules count as its own."""
    online = func.max(case((IdentityRow.gateway != "", 1), else_=0)).label("online")
    seen = func.max(IdentityRow.last_activity).label("seen")
    created = func.min(IdentityRow.created).label("created")
    own = func.max(case(((IdentityRow.module_id == "") & IdentityRow.enabled, 1), else_=0)).label("enabled")
    rows: Select[*tuple[Any, ...]] = select(IdentityRow.device_id, own, online, seen, created).group_by(
        IdentityRow.device_id
    )
    if search:
        rows = rows.where(_contains(search))
    if state == "online":
        rows = rows.having(online > 0)
    elif state == "silent":
        rows = rows.having(online == 0, seen.is_not(None))
    elif state == "never":
        rows = rows.having(online == 0, seen.is_(None))
    elif state == "new":
        rows = rows.having(created > time.time() - NEW_S)
    return rows


def _contains(text: str) -> ColumnElement[bool]:
    """The device's id contains a text, in whatever case."""
    return func.lower(IdentityRow.device_id).contains(text.lower(), autoescape=True)

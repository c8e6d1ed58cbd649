"""Messages become rows: decode, validate, drop duplicates, and wait until the lake has them.

What cannot be read goes to the dead letters with its reason and is acknowledged: sending it again would not
help, and nothing may stop the stream. When `submit` returns, the message survives power loss.
"""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.hub.lake.errors import CommitFailed
from vedette.hub.lake.seen import UNREADABLE, Seen, key_of, recall
from vedette.hub.lake.tables import DEAD_LETTERS, RAW_EVENTS, DeadLetter, RawEvent, open_table, utc
from vedette.wire.events import EventType, Payload, pascal, type_of, utc_text
from vedette.wire.iothub import Identity, encode_properties
from vedette.wire.message import INTERFACE_ID, Message, MessageError, WireEvent, decode

if TYPE_CHECKING:
    from vedette.hub.lake.commit import Commits, GroupCommit

log = logging.getLogger(__name__)

MESSAGE_ID = "$.mid"
INTERFACE = "$.ifid"
MESSAGE_TYPE = "mti"

DEAD_BODY_BYTES = 16_384
"""Bytes kept of what could not be read: enough to see what it is."""

MESSAGE_ID_CHARS = 128
"""Longest message id of the real service; a longer one is replaced by its digest."""

ROW_BYTES = 1_024
"""What a row takes while it waits, beyond the body that it came from."""

CLOSE_S = 10.0
"""How long a stopping hub waits for what has been submitted. Only a disk that fails takes so long; the
devices still have those messages."""

_MTI = re.compile(r"\d+\.\d+-(?P<encoding>\d+)-(?P<source>\d+)-\d+")
_SOURCES = {"0": "RTOS", "1": "Linux"}
_encoder = msgspec.json.Encoder()


class Inbound(msgspec.Struct, frozen=True):
    """A device-to-cloud message as the gateway received it.

    properties: the decoded property bag of its topic (`$.mid`, `$.ifid`, `mti`, …).
    received: Unix seconds.
    """

    identity: Identity
    properties: dict[str, str]
    body: bytes
    received: float


class Rows(msgspec.Struct, frozen=True):
    """What one message turns into."""

    events: list[RawEvent]
    dead: DeadLetter | None = None


class Counters(msgspec.Struct):
    """What the intake did since it started. `commits` and `dead_commits` tell of storage."""

    messages: int = 0
    events: int = 0
    duplicates: int = 0
    dead_letters: int = 0


def message_id(inbound: Inbound) -> str:
    """The id that the sender gave, else a digest of properties and body.

    Devices that give none (RTOS, the classic agent) send the same bytes again when they repeat a message,
    and no two of their messages are the same: each holds event ids and times.
    """
    given = inbound.properties.get(MESSAGE_ID, "")
    if 0 < len(given) <= MESSAGE_ID_CHARS:
        return given
    digest = blake2b(inbound.body, digest_size=16)
    digest.update(encode_properties(sorted(inbound.properties.items())).encode())
    return digest.hexdigest()


def rows_of(inbound: Inbound, mid: str) -> Rows:
    """Read a message. Never raises on what a device sent."""
    try:
        source = _source(inbound.properties)
        message = decode(inbound.body)
    except MessageError as error:
        return Rows([], _dead_letter(inbound, mid, str(error), inbound.body))
    events: list[RawEvent] = []
    unreadable: list[tuple[int, WireEvent, str]] = []
    for index, event in enumerate(message.events):
        try:
            events.append(_raw_event(inbound, mid, message, index, event, source))
        except MessageError as error:
            unreadable.append((index, event, str(error)))
    if not unreadable:
        return Rows(events)
    index, event, reason = unreadable[0]
    body = _encoder.encode(event)
    return Rows(events, _dead_letter(inbound, mid, reason, body, index=index, events=len(unreadable)))


def _source(properties: dict[str, str]) -> str:
    """Who made the message. Raises MessageError if it is not one that can be read."""
    mti = properties.get(MESSAGE_TYPE)
    if properties.get(INTERFACE) != INTERFACE_ID and mti is None:
        raise MessageError("not a security message: neither `$.ifid` nor `mti` says so")
    if mti is None:
        return ""
    match = _MTI.fullmatch(mti)
    if match is None:
        raise MessageError(f"mti: {mti[:64]!r} is not <major>.<minor>-<encoding>-<source>-<type>")
    if match["encoding"] != "0":
        raise MessageError(f"mti: encoding {match['encoding'][:8]} cannot be read, only 0 (JSON)")
    return _SOURCES.get(match["source"], "")


def _dead_letter(
    inbound: Inbound, mid: str, reason: str, body: bytes, *, index: int = -1, events: int = 0
) -> DeadLetter:
    received = utc(inbound.received)
    identity = inbound.identity
    return DeadLetter(
        TimeGenerated=received,
        DeviceId=identity.device_id,
        ModuleId=identity.module_id,
        MessageId=mid,
        EventIndex=index,
        Events=events,
        Reason=reason,
        Body=body[:DEAD_BODY_BYTES],
        EventDate=received.date(),
    )


def _raw_event(
    inbound: Inbound, mid: str, message: Message, index: int, event: WireEvent, source: str
) -> RawEvent:
    """One row. Raises MessageError naming the field that is wrong."""
    payload = event.decode()
    declared = type_of(payload)
    received = utc(inbound.received)
    identity = inbound.identity
    first_seen = _timestamp(event.timestamp)
    end = _seconds("time", event.time)
    start = _seconds("collection_interval", event.time - event.collection_interval)
    return RawEvent(
        AgentVersion=message.security_module_version,
        DeviceId=identity.device_id,
        ModuleId=identity.module_id,
        AssociatedResourceId="",
        AzureSubscriptionId="",
        EventDetails=_details(declared, payload, event, identity, first_seen, source),
        IoTRawEventId=key_of(identity.device_id, identity.module_id, f"{mid}\0{index}").hex(),
        IsEmpty=False,
        RawEventCategory=declared.category,
        RawEventName=declared.name,
        RawEventType=declared.kind,
        TimeGenerated=received,
        TimeStamp=first_seen,
        HitCount=event.hit_count,
        WindowStart=start,
        WindowEnd=end,
        MessageId=mid,
        EventIndex=index,
        EventDate=received.date(),
    )


def _timestamp(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MessageError(f"timestamp: {text[:64]!r} is not ISO 8601") from None


def _seconds(field: str, value: int) -> datetime:
    try:
        return utc(value)
    except ValueError as error:
        raise MessageError(f"{field}: {error}") from None


def _details(
    declared: EventType,
    payload: Payload,
    event: WireEvent,
    identity: Identity,
    first_seen: datetime,
    source: str,
) -> str:
    """EventDetails: compact JSON with exactly the declared keys in the declared order, null where unknown.

    Order and compactness are a contract: parsers exist that cut this text by position.
    """
    known: dict[str, Any] = {
        "AzureResourceId": "",
        "DeviceId": identity.device_id,
        "MessageSource": source,
        "OriginalEventId": event.id,
        "EventId": event.id,
        "HitCount": event.hit_count,
        "TimestampUTC": utc_text(first_seen.timestamp()),
        "ExtendedProperties": {},
    }
    known.update(_pascal_keys(payload))
    return _encoder.encode({key: known.get(key) for key in declared.details}).decode()


def _pascal_keys(value: Any) -> Any:
    """A payload as plain values, with the field names that EventDetails uses."""
    if isinstance(value, msgspec.Struct):
        return {key: _pascal_keys(getattr(value, field)) for field, key in _keys(type(value))}
    if isinstance(value, tuple | list):
        return [_pascal_keys(item) for item in value]
    return value


@cache
def _keys(struct: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    """(field, EventDetails key) of a structure; there are as many as are declared."""
    return tuple((field, pascal(field)) for field in struct.__struct_fields__)


class Intake:
    """Where messages enter the lake. `start` before the first `submit`; `close` stores what waits."""

    def __init__(self, lake: Path) -> None:
        self.counters = Counters()
        self._lake = lake
        self._seen = Seen()
        self._arriving: dict[bytes, asyncio.Task[None]] = {}
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lake-writer")
        self._events: GroupCommit
        self._dead: GroupCommit

    @property
    def fault(self) -> str:
        """Why nothing can be stored at the moment; empty while all is well."""
        return self._events.state.failing or self._dead.state.failing

    @property
    def commits(self) -> Commits:
        """State of the event table: commits, failures, duration of the latest, why it fails."""
        return self._events.state

    @property
    def dead_commits(self) -> Commits:
        """The same for the dead letters."""
        return self._dead.state

    async def start(self) -> None:
        """Open the lake, mend it if needed, and recall what it holds. Raises OSError, DeltaError."""
        from vedette.hub.lake.commit import GroupCommit, TableWriter

        loop = asyncio.get_running_loop()

        def opened() -> tuple[TableWriter, TableWriter]:
            for table in (RAW_EVENTS, DEAD_LETTERS):
                open_table(self._lake, table)
            self._seen = recall(self._lake, datetime.now(UTC).date())
            return TableWriter(self._lake, RAW_EVENTS), TableWriter(self._lake, DEAD_LETTERS)

        events, dead = await loop.run_in_executor(self._thread, opened)
        self._events = GroupCommit(events, self._thread)
        self._dead = GroupCommit(dead, self._thread)

    async def submit(self, inbound: Inbound) -> None:
        """Return when the message is durable: only then may it be acknowledged.

        Raises CommitFailed if it could not be stored; the device will send it again. Waits while the lake
        is behind. Cancelling the call does not withdraw the message.
        """
        if self._closed:
            raise CommitFailed("the hub is stopping")
        mid = message_id(inbound)
        key = key_of(inbound.identity.device_id, inbound.identity.module_id, mid)
        self.counters.messages += 1
        if key in self._seen:
            self.counters.duplicates += 1
            return
        arriving = self._arriving.get(key)
        if arriving is None:
            arriving = self._arriving[key] = asyncio.create_task(self._store(inbound, mid, key))
            arriving.add_done_callback(_retrieve)
        else:
            self.counters.duplicates += 1
        await asyncio.shield(arriving)

    async def close(self) -> None:
        """Store what has been submitted, refuse what comes, stop the writer thread."""
        self._closed = True
        if self._arriving:
            await asyncio.wait(self._arriving.values(), timeout=CLOSE_S)
        await self._events.close()
        await self._dead.close()
        self._thread.shutdown()

    async def _store(self, inbound: Inbound, mid: str, key: bytes) -> None:
        try:
            rows = rows_of(inbound, mid)
            if rows.dead is not None:
                await self._bury(rows.dead)
            if rows.events:
                size = len(inbound.body) + ROW_BYTES * len(rows.events)
                await self._events.put(rows.events, size)
                self.counters.events += len(rows.events)
            self._seen.add(key)
        finally:
            del self._arriving[key]

    async def _bury(self, dead: DeadLetter) -> None:
        """Store a dead letter once, even if the message's readable events failed to be stored after it."""
        key = key_of(dead.DeviceId, dead.ModuleId, dead.MessageId, UNREADABLE)
        if key not in self._seen:
            await self._dead.put([dead], len(dead.Body) + ROW_BYTES)
            self._seen.add(key)
            self.counters.dead_letters += 1
            log.debug("dead letter of %s/%s: %s", dead.DeviceId, dead.ModuleId, dead.Reason)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Mark an error as seen: the sender may have gone away with its connection."""
    if not task.cancelled():
        task.exception()

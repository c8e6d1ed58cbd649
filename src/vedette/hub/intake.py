"""Messages become rows: decode, validate, drop duplicates, and wait until the lake has them.

What cannot be read goes to the dead letters with its reason and is acknowledged: sending it again would not
help, and nothing may stop the stream. When `submit` returns, the message survives power loss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.hub.decode import Decoded, Reading, Unreadable, decode
from vedette.hub.lake.errors import CommitFailed
from vedette.hub.lake.seen import UNREADABLE, Seen, key_of, recall
from vedette.hub.lake.storage import Where
from vedette.hub.lake.tables import DEAD_LETTERS, RAW_EVENTS, DeadLetter, RawEvent, open_table, utc
from vedette.hub.tail import Tail
from vedette.hub.traces import span
from vedette.wire.events import BY_HUB, utc_text
from vedette.wire.iothub import Identity, encode_properties
from vedette.wire.message import MessageError

if TYPE_CHECKING:
    from vedette.hub.lake.commit import Commits, GroupCommit

log = logging.getLogger(__name__)

MESSAGE_ID = "$.mid"

DEAD_BODY_BYTES = 16_384
"""Bytes kept of what could not be read: enough to see what it is."""

MESSAGE_ID_CHARS = 128
"""Longest message id of the real service; a longer one is replaced by its digest."""

ROW_BYTES = 1_024
"""What a row takes while it waits, beyond the body that it came from."""

CLOSE_S = 10.0
"""How long a stopping hub waits for what has been submitted. Only a disk that fails takes so long; the
devices still have those messages."""

NOT_THE_HUB = "payload_type: is an event that only the hub makes"

_encoder = msgspec.json.Encoder()


class Inbound(msgspec.Struct, frozen=True):
    """A device-to-cloud message as the gateway received it.

    properties: the decoded property bag of its topic (`$.mid`, `$.ifid`, `mti`, …).
    received: Unix seconds. by_hub: the hub itself made it.
    """

    identity: Identity
    properties: dict[str, str]
    body: bytes
    received: float
    by_hub: bool = False


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
        decoded = decode(inbound.properties, inbound.body)
    except MessageError as error:
        return Rows([], _dead_letter(inbound, mid, Unreadable(-1, str(error), inbound.body), events=0))
    unreadable = list(decoded.unreadable)
    events: list[RawEvent] = []
    for reading in decoded.readings:
        if reading.name in BY_HUB and not inbound.by_hub:
            unreadable.append(Unreadable(reading.index, NOT_THE_HUB, inbound.body))
            continue
        try:
            events.append(_raw_event(inbound, mid, decoded, reading))
        except RecursionError:  # parsed within the limit, and our own call stack is deeper
            unreadable.append(Unreadable(reading.index, "payload: nested too deeply", inbound.body))
    if not unreadable:
        return Rows(events)
    return Rows(events, _dead_letter(inbound, mid, unreadable[0], events=len(unreadable)))


def _dead_letter(inbound: Inbound, mid: str, unreadable: Unreadable, *, events: int) -> DeadLetter:
    received = utc(inbound.received)
    identity = inbound.identity
    return DeadLetter(
        TimeGenerated=received,
        DeviceId=identity.device_id,
        ModuleId=identity.module_id,
        MessageId=mid,
        EventIndex=unreadable.index,
        Events=events,
        Reason=unreadable.reason,
        Body=unreadable.body[:DEAD_BODY_BYTES],
        EventDate=received.date(),
    )


def _raw_event(inbound: Inbound, mid: str, decoded: Decoded, reading: Reading) -> RawEvent:
    received = utc(inbound.received)
    identity = inbound.identity
    return RawEvent(
        AgentVersion=decoded.agent_version,
        DeviceId=identity.device_id,
        ModuleId=identity.module_id,
        AssociatedResourceId="",
        AzureSubscriptionId="",
        EventDetails=_details(reading, identity, decoded.source),
        IoTRawEventId=key_of(identity.device_id, identity.module_id, f"{mid}\0{reading.index}").hex(),
        IsEmpty=reading.empty,
        RawEventCategory=reading.category,
        RawEventName=reading.name,
        RawEventType=reading.kind,
        TimeGenerated=received,
        TimeStamp=reading.first_seen,
        HitCount=reading.hits,
        WindowStart=reading.window_start,
        WindowEnd=reading.window_end,
        MessageId=mid,
        EventIndex=reading.index,
        EventDate=received.date(),
    )


def _details(reading: Reading, identity: Identity, source: str) -> str:
    """EventDetails: compact JSON with exactly the reading's keys in their order, null where unknown.

    Order and compactness are a contract: parsers exist that cut this text by position.
    """
    known: dict[str, Any] = {
        "AzureResourceId": "",
        "DeviceId": identity.device_id,
        "MessageSource": source,
        "OriginalEventId": reading.id,
        "EventId": reading.id,
        "HitCount": reading.hits,
        "TimestampUTC": utc_text(reading.first_seen.timestamp()),
        "ExtendedProperties": {},
    }
    known.update(reading.facts)
    return _encoder.encode({key: known.get(key) for key in reading.keys}).decode()


class Intake:
    """Where messages enter the lake. `start` before the first `submit`; `close` stores what waits."""

    def __init__(self, lake: Where) -> None:
        self.counters = Counters()
        self.tail = Tail()
        self._lake = lake
        self._seen = Seen()
        self._arriving: dict[bytes, asyncio.Future[Any]] = {}
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
            writers = TableWriter(self._lake, RAW_EVENTS), TableWriter(self._lake, DEAD_LETTERS)
            # After the writers: what others commit from here on, these look into.
            self._seen = recall(self._lake, datetime.now(UTC).date())
            return writers

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
            arriving = self._begin(inbound, mid, key)
        else:
            self.counters.duplicates += 1
        with span("commit"):
            await asyncio.shield(arriving)

    async def close(self) -> None:
        """Store what has been submitted, refuse what comes, stop the writer thread."""
        self._closed = True
        self.tail.close()
        if self._arriving:
            await asyncio.wait(self._arriving.values(), timeout=CLOSE_S)
        await self._events.close()
        await self._dead.close()
        self._thread.shutdown()

    def _begin(self, inbound: Inbound, mid: str, key: bytes) -> asyncio.Future[Any]:
        """Have a message stored; done when it is. Nearly all go into the next batch without a task."""
        with span("decode") as spent:
            rows = rows_of(inbound, mid)
            spent.set_attributes({"message.id": mid, "message.events": len(rows.events)})
        size = len(inbound.body) + ROW_BYTES * len(rows.events)
        direct = rows.events and rows.dead is None
        outcome: asyncio.Future[Any] | None = self._events.offer(rows.events, size) if direct else None
        if outcome is None:
            outcome = asyncio.create_task(self._store(rows, size))
        self._arriving[key] = outcome
        outcome.add_done_callback(partial(self._arrived, key, rows.events))
        return outcome

    def _arrived(self, key: bytes, events: Sequence[RawEvent], outcome: asyncio.Future[bool]) -> None:
        """A message is durable, or could not be stored: its sender, if still there, is told of that."""
        del self._arriving[key]
        if outcome.cancelled() or outcome.exception():
            return
        self._seen.add(key)
        if outcome.result():
            self.counters.events += len(events)
            self.tail.publish(events)
        else:
            self.counters.duplicates += 1

    async def _store(self, rows: Rows, size: int) -> bool:
        """Store a message that has a dead letter, or nothing at all, or comes while the lake is behind."""
        if rows.dead is not None:
            await self._bury(rows.dead)
        return not rows.events or await self._events.put(rows.events, size)

    async def _bury(self, dead: DeadLetter) -> None:
        """Store a dead letter once, even if the message's readable events failed to be stored after it."""
        key = key_of(dead.DeviceId, dead.ModuleId, dead.MessageId, UNREADABLE)
        if key not in self._seen:
            stored = await self._dead.put([dead], len(dead.Body) + ROW_BYTES)
            self.counters.dead_letters += stored
            self._seen.add(key)
            log.debug("dead letter of %s/%s: %s", dead.DeviceId, dead.ModuleId, dead.Reason)

"""One client's transport as a stream of packets, with bounded buffers both ways. Knows nothing of devices.

Reading is by demand: `receive` hands out one packet at a time, and while nobody asks, at most
READ_AHEAD_BYTES and one read of the transport are kept; then the socket is left alone, and TCP makes the
client wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from cryptography import x509

from vedette.hub.gateway.door import Knock
from vedette.wire.mqtt import Receiver, encode
from vedette.wire.packets import Packet

READ_AHEAD_BYTES = 65_536
"""Undecoded bytes kept while the session is busy: two hundred small messages."""

WRITE_HIGH_BYTES = 65_536
"""Unsent bytes at which `drain` begins to wait: one answer with a whole twin."""

WRITE_MAX_BYTES = 1_048_576
"""Unsent bytes at which a client that does not read is cut off: thirty whole-twin changes."""


class Link(asyncio.Protocol):
    """The protocol object of one connection. `opened` is called with it when TLS stands.

    knock: its place at the door, given up when it is let in. peer: who it is, for log lines. address: where
    it comes from. client_id: as its CONNECT says, empty before. reason: why it ends, empty until then. ended:
    set when it is gone.
    """

    def __init__(self, opened: Callable[[Link], None], knock: Knock) -> None:
        self.knock = knock
        self.peer = "?"
        self.address = ""
        self.client_id = ""
        self.reason = ""
        self.ended = asyncio.Event()
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._receiver = Receiver()
        self._wanted: asyncio.Future[None] | None = None
        self._reading = True
        self._writable = asyncio.Event()
        self._writable.set()
        self._silence: float | None = None
        self._heard = 0.0
        self._silence_timer: asyncio.TimerHandle | None = None
        self._life_timer: asyncio.TimerHandle | None = None

    async def receive(self) -> Packet | None:
        """The next packet; None when there will be no more. Raises Violation. Only one caller at a time."""
        while not self.reason:
            packet = self._receiver.next_packet()
            if packet is not None or self.ended.is_set():
                return packet
            self._resume()
            self._wanted = self._loop.create_future()
            await self._wanted
        return None

    def send(self, *packets: Packet) -> None:
        """Write packets; nothing happens after the end. Cuts a client off that lets too much pile up."""
        if self.ended.is_set() or self._transport.is_closing():
            return
        self._transport.write(b"".join(map(encode, packets)))
        if self._transport.get_write_buffer_size() > WRITE_MAX_BYTES:
            self.abort("client does not read")

    async def drain(self) -> None:
        """Wait until most of what was sent has left, or the connection has ended."""
        await self._writable.wait()

    def limit_silence(self, seconds: float) -> None:
        """From now on, cut the connection when nothing is heard for so long."""
        self._silence = seconds
        self._heard = self._loop.time()
        if self._silence_timer:
            self._silence_timer.cancel()
        self._silence_timer = self._loop.call_later(seconds, self._check_silence)

    def limit_life(self, seconds: float, reason: str) -> None:
        """Close the connection after so long."""
        self._life_timer = self._loop.call_later(seconds, self.close, reason)

    @property
    def certificates(self) -> Sequence[x509.Certificate]:
        """What the client showed in the TLS handshake, its own certificate first; nobody has judged them."""
        found: Sequence[x509.Certificate] = self._transport.get_extra_info("certificates", ())
        return found

    @property
    def tls(self) -> str:
        """Version and cipher suite of the connection; empty where TLS ends elsewhere."""
        return str(self._transport.get_extra_info("tls", ""))

    def stop(self, reason: str) -> None:
        """Hand out no more packets; what is sent still goes out. The first reason given stays."""
        self.reason = self.reason or reason
        self._wake()

    def close(self, reason: str) -> None:
        """Stop, and close when what was sent has left."""
        self.stop(reason)
        if not self.ended.is_set():
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Stop, and close at once."""
        self.stop(reason)
        if not self.ended.is_set():
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self.peer = peer_text(transport)
        self.address = address_of(transport)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._heard = self._loop.time()
        if self.reason:
            return
        self._receiver.feed(data)
        if not self._wake() and self._reading and self._receiver.buffered >= READ_AHEAD_BYTES:
            self._reading = False
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. What had arrived before is still handed out."""
        self.ended.set()
        self.knock.leave()
        for timer in (self._silence_timer, self._life_timer):
            if timer:
                timer.cancel()
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.set()

    def _resume(self) -> None:
        if not self._reading:
            self._reading = True
            self._heard = self._loop.time()
            self._transport.resume_reading()

    def _wake(self) -> bool:
        """Let `receive` go on; False if nobody waits in it."""
        wanted, self._wanted = self._wanted, None
        if wanted is None or wanted.done():
            return False
        wanted.set_result(None)
        return True

    def _check_silence(self) -> None:
        assert self._silence is not None
        # A client that we do not listen to is not silent.
        heard = self._heard if self._reading else self._loop.time()
        left = heard + self._silence - self._loop.time()
        if left <= 0:
            self.abort("client is silent")
        else:
            self._silence_timer = self._loop.call_later(left, self._check_silence)


def address_of(transport: asyncio.BaseTransport) -> str:
    """The peer's address without its port; empty if it has gone already."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""


def peer_text(transport: asyncio.BaseTransport) -> str:
    """The peer's address for a log line."""
    name = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "?"

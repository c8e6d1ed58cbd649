"""One connection to a hub: paho-mqtt on the event loop. Decides nothing; `agent.uplink` does.

paho speaks MQTT 3.1.1. The event loop watches its socket and calls it, so that all of this happens on one
thread. The only other thread, `uplink-connect`, lives for one name lookup, TCP connect and TLS handshake:
paho does these blocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from vedette.agent.session import ANSWER_S, FILTERS, Window
from vedette.wire.iothub import KEEPALIVE_S

CONNECT_S = 20.0
"""Bound of the TCP connect and of each step of the TLS handshake: a slow line, a slow processor."""

MAX_PACKET = 262_144
"""Longest packet accepted. A twin with both halves full is 64 KB; paho itself would take 256 MB."""

CREDENTIALS_REFUSED = ("Client identifier not valid", "Bad user name or password", "Not authorized")
"""CONNACK 2, 4 and 5, as paho names them."""


class Ended(Exception):
    """A connection, or the attempt to make one, is over. The text says why; it holds no secret.

    kind: `unreachable`, `certificate`, `refused` (these credentials), `unavailable` (says the hub) or `lost`.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Link:
    """A connection of one identity, from `open` to `close`; not to be used again.

    stirred: called when something happened that the owner should look at. received: called with topic and
    body of each message.

    window: what is in flight. acknowledged: rows that the hub has taken, for the owner to clear.
    since: when the hub accepted the connection (the loop's clock), None until then.
    """

    def __init__(
        self, client_id: str, *, stirred: Callable[[], None], received: Callable[[str, bytes], None]
    ) -> None:
        self.window = Window()
        self.acknowledged: list[int] = []
        self.since: float | None = None
        self.subscribed = False
        self._stirred = stirred
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._answered = asyncio.Event()
        self._answer_due = float("inf")
        self._end: Ended | None = None
        self._closed = False
        self._watched: Any = None
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._client.on_socket_close = self._on_socket_close

    async def open(self, address: str, port: int, *, user: str, password: str, ca_file: Path | None) -> None:
        """Connect and subscribe. Returns when the hub has accepted the connection. Raises Ended."""
        self._client.username_pw_set(user, password)
        try:
            await _in_thread("uplink-connect", lambda: self._connect(address, port, ca_file))
        except ssl.SSLCertVerificationError as error:
            trusted = f"CA file {ca_file}" if ca_file else "the system's CAs"
            why = f"certificate not accepted ({error.verify_message}); trusted: {trusted}"
            raise Ended("certificate", why) from None
        except (OSError, ValueError) as error:
            raise Ended("unreachable", str(error)) from None
        self._watch()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), ANSWER_S)
        if self._end:
            raise self._end
        if self.since is None:
            raise Ended("lost", "no answer to CONNECT")
        self._answer_due = self.since + ANSWER_S
        self._client.subscribe([(text, 1) for text in FILTERS])
        self._watch()

    def publish(self, topic: str, body: bytes, *, qos: int) -> int:
        """Send a message; its packet id. Raises Ended."""
        info = self._client.publish(topic, body, qos)
        self._watch()
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._end or Ended("lost", "connection lost")
        return info.mid

    def tick(self, now: float) -> None:
        """Keep the connection alive. Raises Ended if it is over, or is to be given up."""
        self._client.loop_misc()
        self._watch()
        if self._end:
            raise self._end
        if now >= self._answer_due:
            raise Ended("lost", "no answer to SUBSCRIBE")
        if now >= self.window.stalled_at():
            raise Ended("lost", "connection without acknowledgements")

    def deadline(self) -> float:
        """When `tick` would give the connection up."""
        return min(self._answer_due, self.window.stalled_at())

    def close(self) -> None:
        """Say goodbye if that can be done at once, and release the socket."""
        self._closed = True
        self._client.on_disconnect = None
        if (sock := self._client.socket()) is not None:
            self._client.disconnect()
            self._unwatch()
            sock.close()

    def _connect(self, address: str, port: int, ca_file: Path | None) -> None:
        """Blocking: runs on the thread."""
        self._client.context = _context(ca_file)
        self._client.connect(address, port, KEEPALIVE_S)
        if self._closed and (sock := self._client.socket()) is not None:
            sock.close()

    def _watch(self) -> None:
        """Have the loop watch paho's socket: for reading always, for writing while something waits."""
        sock = self._client.socket()
        if sock is None:
            return
        if self._watched is None:
            self._watched = sock
            self._loop.add_reader(sock, self._readable)
        if self._client.want_write():
            self._loop.add_writer(sock, self._writable)
        else:
            self._loop.remove_writer(sock)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            self._loop.remove_writer(self._watched)
            self._watched = None

    def _readable(self) -> None:
        try:
            self._client.loop_read()
            # TLS may have decrypted more than one packet: the socket will not become readable for the rest.
            while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
                self._client.loop_read()
        except UnicodeDecodeError:  # paho leaves this one to us [MQTT-1.5.3-1]
            self._finish(Ended("lost", "the hub sent a topic that is not UTF-8"))
        self._watch()

    def _writable(self) -> None:
        self._client.loop_write()
        self._watch()

    def _finish(self, end: Ended) -> None:
        """The first reason stays."""
        self._end = self._end or end
        self._answered.set()
        self._stirred()

    # paho's callbacks: on the loop's thread, from inside a call of ours. They only take note.

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if not code.is_failure:
            self.since = self._loop.time()
            self._answered.set()
        elif code.getName() in CREDENTIALS_REFUSED:
            self._finish(Ended("refused", f"refused by the hub: {code}"))
        else:
            self._finish(Ended("unavailable", f"refused by the hub: {code}"))

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
        self._answer_due = float("inf")
        if any(code.is_failure for code in codes):
            self._finish(Ended("unavailable", "the hub refuses the subscriptions to the twin"))
        self.subscribed = True
        self._stirred()

    def _on_publish(self, _client: Any, _data: Any, mid: int, _code: Any, _properties: Any) -> None:
        if (row := self.window.acknowledged(mid, self._loop.time())) is not None:
            self.acknowledged.append(row)
            self._stirred()

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._received(message.topic, bytes(message.payload))
        self._stirred()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self._finish(Ended("lost", f"connection lost ({code})"))

    def _on_socket_close(self, _client: Any, _data: Any, _sock: Any) -> None:
        self._unwatch()


class _Client(mqtt.Client):
    """paho's client, with a bound on what it reads, and without its leak of sockets whose handshake fails."""

    context: ssl.SSLContext

    def _create_socket(self) -> ssl.SSLSocket:
        plain = socket.create_connection((self.host, self.port), timeout=CONNECT_S)
        try:
            return self.context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > MAX_PACKET:
            raise ConnectionError(f"a packet of {bufsize} bytes")
        return super()._sock_recv(bufsize)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later, trusting one file or the system's authorities. Raises OSError naming the file."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl does not say which file
        raise OSError(f"CA file {ca_file}: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _in_thread(name: str, work: Callable[[], None]) -> None:
    """Run blocking work on a thread of its own. If this is cancelled the thread ends by itself, unheard."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  handed to whoever waits
            outcome: Exception | None = error
        else:
            outcome = None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(finish, outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    await done

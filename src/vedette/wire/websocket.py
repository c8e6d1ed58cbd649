"""WebSocket (RFC 6455), the client's part that carries MQTT. No socket, no clock, no thread.

Theory. After one HTTP request and its answer both sides send frames: a header of 2 to 10 bytes, then a
payload, which a client masks with four random bytes. MQTT packets may lie across frames in any way
[MQTT-6.0.0-4], so the payload of data frames is one stream of bytes: it is handed on as it comes, and only
headers and control frames (at most 125 bytes) are ever kept.

Left out on purpose: compression (nothing here repeats itself enough) and text frames (MQTT forbids them).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from enum import Enum

from vedette.wire.mqtt import Violation

PATH = "/$iothub/websocket"
"""Where the Azure IoT Hub dialect serves MQTT."""

PORT = 443

MAX_ANSWER_BYTES = 8_192
"""Of the answer to our request, with all its headers: what common servers send themselves at most."""

MAX_CONTROL_BYTES = 125
"""Payload of a control frame [RFC 6455 5.5]."""

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_FIN, _MASKED = 0x80, 0x80


class State(Enum):
    """What the next byte belongs to."""

    ANSWER = "answer"
    HEADER = "header"
    DATA = "data"
    CONTROL = "control"
    CLOSED = "closed"


class Client:
    """One connection's frames. key: the 16 random bytes that the server's answer must prove to have seen."""

    def __init__(self, host: str, *, path: str = PATH, key: bytes | None = None) -> None:
        self.state = State.ANSWER
        self._host = host
        self._path = path
        self._key = base64.b64encode(key or secrets.token_bytes(16)).decode()
        self._buffer = bytearray()
        self._left = 0
        self._opcode = 0
        self._fragmented = False

    @property
    def open(self) -> bool:
        """True from the server's consent to the end."""
        return self.state not in (State.ANSWER, State.CLOSED)

    def greeting(self) -> bytes:
        """The request that opens the connection."""
        lines = (
            f"GET {self._path} HTTP/1.1",
            f"Host: {self._host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self._key}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: mqtt",
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode()

    def frame(self, payload: bytes, opcode: int = _BINARY) -> bytes:
        """A payload as one frame to send."""
        size = len(payload)
        if size < 126:
            head = bytes((_FIN | opcode, _MASKED | size))
        elif size < 65_536:
            head = bytes((_FIN | opcode, _MASKED | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((_FIN | opcode, _MASKED | 127)) + size.to_bytes(8, "big")
        mask = secrets.token_bytes(4)
        return head + mask + masked(payload, mask)

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Take bytes from the server: what they carry, and what is to be sent back. Raises Violation."""
        self._buffer += data
        carried, back = bytearray(), bytearray()
        while self._step(carried, back):
            pass
        return bytes(carried), bytes(back)

    def _step(self, carried: bytearray, back: bytearray) -> bool:
        """One transition; False if it needs more bytes than there are."""
        if self.state is State.ANSWER:
            return self._read_answer()
        if self.state is State.HEADER:
            return self._read_header()
        if self.state is State.DATA:
            return self._read_data(carried)
        if self.state is State.CONTROL:
            return self._read_control(back)
        self._buffer.clear()
        return False

    def _read_answer(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 and len(self._buffer) <= MAX_ANSWER_BYTES:
            return False
        if not 0 <= end <= MAX_ANSWER_BYTES:
            raise Violation("WebSocket: answer longer than allowed")
        status, *lines = self._take(end + 4).decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (li.partition(":") for li in lines)
        }
        self._judge_answer(status, headers)
        self.state = State.HEADER
        return True

    def _judge_answer(self, status: str, headers: dict[str, str]) -> None:
        protocol, _, rest = status.partition(" ")
        if protocol != "HTTP/1.1" or rest[:3] != "101":
            code = rest[:3] if rest[:3].isdigit() else "no"
            raise Violation(f"WebSocket: refused with status {code}")
        digest = hashlib.sha1((self._key + _GUID).encode(), usedforsecurity=False).digest()
        if headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
            raise Violation("WebSocket: the answer is not to our request")
        if headers.get("sec-websocket-protocol") != "mqtt" or "sec-websocket-extensions" in headers:
            raise Violation("WebSocket: the answer is not for MQTT without extensions")

    def _read_header(self) -> bool:
        if len(self._buffer) < 2:
            return False
        first, second = self._buffer[:2]
        more = {126: 2, 127: 8}.get(second, 0)
        if second & _MASKED:
            raise Violation("WebSocket: a server's frame is masked")
        if len(self._buffer) < 2 + more:
            return False
        head = self._take(2 + more)
        self._left = int.from_bytes(head[2:], "big") if more else second
        self._opcode = first & 0x0F
        self._judge_frame(final=bool(first & _FIN), reserved=first & 0x70)
        self.state = State.CONTROL if self._opcode >= _CLOSE else State.DATA
        return True

    def _judge_frame(self, *, final: bool, reserved: int) -> None:
        """A message is a binary frame and others that continue it; control frames stand alone."""
        if reserved or self._opcode not in (_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG):
            raise Violation("WebSocket: frame of a kind that was not agreed on")
        if self._opcode >= _CLOSE:
            if not final or self._left > MAX_CONTROL_BYTES:
                raise Violation("WebSocket: control frame is cut or too long")
            return
        if self._fragmented != (self._opcode == _CONTINUATION):
            raise Violation("WebSocket: fragments out of order")
        self._fragmented = not final

    def _read_data(self, carried: bytearray) -> bool:
        taken = self._take(min(self._left, len(self._buffer)))
        carried += taken
        self._left -= len(taken)
        if self._left:
            return False
        self.state = State.HEADER
        return True

    def _read_control(self, back: bytearray) -> bool:
        if len(self._buffer) < self._left:
            return False
        payload = self._take(self._left)
        self.state = State.HEADER
        if self._opcode == _PING:
            back += self.frame(payload, _PONG)
        elif self._opcode == _CLOSE:
            back += self.frame(payload[:2], _CLOSE)
            self.state = State.CLOSED
        return True

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def masked(payload: bytes, mask: bytes) -> bytes:
    """A payload under its mask; the same again takes it off. One operation on whole numbers: no loop."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")

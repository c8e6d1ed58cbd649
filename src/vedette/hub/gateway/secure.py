"""TLS for devices, which may show a certificate that no authority vouches for.

Python's ssl module ends the handshake over such a certificate, though the hub can judge it only afterwards,
when CONNECT has named the device whose thumbprint it has to be. So TLS is OpenSSL's through pyOpenSSL, whose
verification takes a callback of ours, between memory buffers: this transport stands between a TCP transport
and a Link. See docs/decisions/003-device-tls.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from OpenSSL import SSL

from vedette.hub.gateway.door import Knock
from vedette.hub.gateway.link import Link, address_of

HANDSHAKE_TIMEOUT_S = 30.0
"""An RTOS client takes several seconds for the arithmetic alone."""

SHUTDOWN_TIMEOUT_S = 5.0
"""How long a closing connection may take to send its last bytes."""

RECORD_BYTES = 16_384
"""Largest TLS record: all that one read can yield."""

FLUSH_BYTES = 2 * RECORD_BYTES
"""Taken from TLS at a time: a record with what TLS adds to it fits in."""

MAX_CHAIN = 8
"""Certificates of a client that are kept: its own and those that lead to an authority."""

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL:!SHA1"
"""For TLS 1.2: forward secrecy in any case; CBC with SHA-256 is there for RTOS clients."""


def device_context(certificate: str, key: str) -> SSL.Context:
    """TLS 1.2 and later with the given PEM files; a client certificate is asked for, and not judged here."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 34 KB less for each idle connection
    context.set_cipher_list(CIPHERS)
    context.use_certificate_chain_file(certificate)
    context.use_privatekey_file(key)
    context.check_privatekey()
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"vedette")  # OpenSSL resumes nothing without one
    context.set_verify(SSL.VERIFY_PEER, _take_any)
    return context


def _take_any(connection: SSL.Connection, certificate: Any, error: int, depth: int, ok: int) -> bool:
    """Possession of the key is proven by the handshake; whose it may be is judged at CONNECT."""
    return depth < MAX_CHAIN


class SecureTransport(asyncio.Transport, asyncio.Protocol):
    """One connection: a protocol below, towards TCP, and a transport above, towards the Link."""

    def __init__(
        self, context: SSL.Context, knock: Callable[[str], Knock | None], link: Callable[[Knock], Link]
    ) -> None:
        super().__init__()
        self._ask_for_place = knock
        self._knock: Knock | None = None
        self._make_link = link
        self._link: Link | None = None
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    # towards TCP

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._tcp = cast("asyncio.Transport", transport)
        self._knock = self._ask_for_place(address_of(transport))
        if self._knock is None:
            self._tcp.abort()
            return
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT_S, self._tcp.abort)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._tls.bio_write(data)
            if self._link is None:
                self._tls.do_handshake()
                self._opened()
            while not self._closing:
                self._pass_on(self._tls.recv(RECORD_BYTES))
        except SSL.WantReadError:
            if self._link is None:  # later only `write` has something to send
                self._flush()
        except SSL.ZeroReturnError:
            self.close()
        except SSL.Error:
            self._flush()  # the alert that tells the client why
            self._tcp.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._closing = True
        if self._timer:
            self._timer.cancel()
        if self._knock:
            self._knock.leave()
        if self._link:
            self._link.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._link:
            self._link.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._link:
            self._link.resume_writing()

    def _opened(self) -> None:
        assert self._timer is not None
        assert self._knock is not None
        self._timer.cancel()
        self._flush()
        self._link = self._make_link(self._knock)
        self._link.connection_made(self)

    def _pass_on(self, data: bytes) -> None:
        assert self._link is not None
        self._link.data_received(data)

    def _flush(self) -> None:
        """Give TCP what TLS has made ready."""
        with suppress(SSL.WantReadError):  # it has nothing more
            more = True
            while more:
                data = self._tls.bio_read(FLUSH_BYTES)
                self._tcp.write(data)
                more = len(data) == FLUSH_BYTES

    # towards the Link

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """See asyncio.WriteTransport."""
        if self._closing:
            return
        with memoryview(data) as view:
            at = 0
            while at < len(view):
                at += self._tls.send(bytes(view[at : at + RECORD_BYTES]))
        self._flush()

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport."""
        return self._tcp.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport."""
        self._tcp.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._tcp.resume_reading()

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self._closing

    def close(self) -> None:
        """Close when what was written has left, or it takes too long."""
        if self._closing:
            return
        self._closing = True
        with suppress(SSL.Error):  # it is broken already
            self._tls.shutdown()
        self._flush()
        self._timer = self._loop.call_later(SHUTDOWN_TIMEOUT_S, self._tcp.abort)
        self._tcp.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._tcp.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`certificates`: the client's own and those it sent with it; `tls`: version and cipher suite.

        All else is TCP's.
        """
        if name == "tls":
            return f"{self._tls.get_protocol_version_name()} {self._tls.get_cipher_name() or ''}".strip()
        if name == "certificates":
            own = self._tls.get_peer_certificate(as_cryptography=True)
            # On this side OpenSSL's chain begins behind the peer's own.
            return [own, *(self._tls.get_peer_cert_chain(as_cryptography=True) or [])] if own else []
        return self._tcp.get_extra_info(name, default)

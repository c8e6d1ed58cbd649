"""E-mail to a real SMTP server: in TLS before anything is said, or not at all."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from notify_support import authority

from vedette.hub.notify.message import Message
from vedette.hub.notify.notifier import deliver
from vedette.hub.notify.routes import Route
from vedette.hub.notify.ways import Undelivered
from vedette.hub.tls import Pki, server_context

MESSAGE = Message("0123abcd", "High: a shell on d1\r\nBcc: evil@example.net", "High", "Text with ✓\nand more")


class Box:
    """What a server took."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - its name
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(letter, EmailMessage)
        letter["X-To"] = ",".join(envelope.rcpt_tos)
        self.letters.append(letter)
        return "250 taken"


def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    given = isinstance(data, LoginPassword) and (data.login, data.password) == (b"hub", b"hunter2")
    return AuthResult(success=given, handled=False)


@asynccontextmanager
async def post(tls: ssl.SSLContext | None) -> AsyncIterator[tuple[Box, int]]:
    """A server; with `tls` it offers STARTTLS and then asks for a password."""
    box, safe = Box(), tls is not None
    options = {"require_starttls": safe, "auth_required": safe, "authenticator": check, "tls_context": tls}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, loop=loop, **options), "127.0.0.1", 0)
    try:
        yield box, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def route(scheme: str, port: int, **options: object) -> Route:
    url = f"{scheme}://hub@localhost:{port}?from=hub@example.net&to=duty@example.net,boss@example.net"
    return Route(name="r", url=url, **options)


async def test_a_letter_arrives_over_starttls_after_a_sign_in(pki: Pki):
    """To all recipients, with an id that is the message's, and no header of an attacker's."""
    async with post(server_context(pki.certificate, pki.key)) as (box, port):
        await deliver(route("smtp", port, secret="hunter2", authority=authority(pki)), MESSAGE)
        [letter] = box.letters
    assert letter["Subject"] == "[vedette] High: a shell on d1  Bcc: evil@example.net"
    assert letter["Message-ID"] == "<0123abcd@vedette.example.net>"
    assert letter["X-To"] == "duty@example.net,boss@example.net"
    assert letter["Bcc"] is None
    assert letter.get_content().splitlines() == ["Text with ✓", "and more"]


async def test_a_server_without_starttls_gets_nothing():
    """Nobody in between can take the protection away."""
    async with post(None) as (box, port):
        with pytest.raises(Undelivered, match="no STARTTLS") as failed:
            await deliver(route("smtp", port, secret="hunter2"), MESSAGE)
        assert failed.value.final
        assert box.letters == []
        await deliver(route("smtp+plain", port), MESSAGE)
        assert len(box.letters) == 1


async def test_a_wrong_password_or_certificate_is_told_without_it(pki: Pki):
    """It may be put right, so it is tried again."""
    async with post(server_context(pki.certificate, pki.key)) as (box, port):
        with pytest.raises(Undelivered, match="refuses the sign-in") as failed:
            await deliver(route("smtp", port, secret="wrong-one", authority=authority(pki)), MESSAGE)
        assert "wrong-one" not in failed.value.reason
        assert not failed.value.final
        with pytest.raises(Undelivered, match=r"TLS: .*certificate"):
            await deliver(route("smtp", port, secret="hunter2"), MESSAGE)
        assert box.letters == []

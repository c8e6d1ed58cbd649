"""E-mail over SMTP: TLS from the start (smtps), by STARTTLS (smtp), or not at all (smtp+plain).

A server that offers no STARTTLS gets nothing: nobody in between can take the protection away.
"""

from __future__ import annotations

import asyncio
import smtplib
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate

from vedette.hub.notify.message import Message
from vedette.hub.notify.routes import Route
from vedette.hub.notify.ways import TIMEOUT_S, Undelivered, tls_context

PHASE_S = TIMEOUT_S / 3
"""For one step of the dialogue."""


async def send(route: Route, message: Message, now: float) -> None:
    """Raises Undelivered, OSError."""
    await asyncio.to_thread(_send, route, letter(route, message, now))


def letter(route: Route, message: Message, now: float) -> EmailMessage:
    """A message as a letter. Its Message-ID is the same for every attempt: servers drop what they have."""
    mail = EmailMessage()
    target = route.target
    name, _, domain = target.sender.rpartition("@")
    mail["From"] = Address("Vedette", name, domain)
    mail["To"] = ", ".join(target.recipients)
    mail["Subject"] = "".join(c if c.isprintable() else " " for c in f"[vedette] {message.title}")
    mail["Date"] = formatdate(now)
    mail["Message-ID"] = f"<{message.id}@vedette.{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.body)
    return mail


def _send(route: Route, mail: EmailMessage) -> None:
    target = route.target
    try:
        with _open(route) as server:
            if target.kind.tls == "start":
                server.starttls(context=tls_context(route.authority))
            if route.secret:
                server.login(target.user, route.secret)
            server.send_message(mail)
    except smtplib.SMTPNotSupportedError:
        raise Undelivered("the server offers no STARTTLS or no sign-in", final=True) from None
    except smtplib.SMTPAuthenticationError as error:
        raise Undelivered(f"the server refuses the sign-in ({error.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _ in error.recipients.values()}
        raise Undelivered("the server refuses every recipient", final=min(codes) >= 500) from None
    except smtplib.SMTPResponseException as error:
        raise Undelivered(f"the server answers {error.smtp_code}", final=error.smtp_code >= 500) from None
    except smtplib.SMTPException as error:
        raise Undelivered(f"the server's answer cannot be used ({type(error).__name__})") from None


def _open(route: Route) -> smtplib.SMTP:
    target = route.target
    if target.kind.tls == "always":
        context = tls_context(route.authority)
        return smtplib.SMTP_SSL(target.host, target.port, timeout=PHASE_S, context=context)
    return smtplib.SMTP(target.host, target.port, timeout=PHASE_S)

"""API tokens: what a person or a program shows to use the hub's own API, and what it may do.

A token is `vdt_<id>_<secret>`. The registry keeps the secret's SHA-256 only; the secret has 256 random bits,
so there is nothing to guess and a slow hash would add nothing. Roles are those of the console's users: with
a token, a VIEWER sees devices, twins, alerts and recommendations; an ANALYST also queries events, exports and
follows them; an OPERATOR also changes devices and twins; an ADMIN also tokens, and sees the audit log.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from vedette.hub.registry.audit import AuditEntry, entries
from vedette.hub.registry.records import AlreadyExists, RegistryError, UnknownIdentity
from vedette.hub.registry.schema import TokenRow
from vedette.hub.registry.users import SESSION_S, Role, Users

__all__ = ["Grant", "Role", "Tokens"]

ID_BYTES = 8
SECRET_BYTES = 32
MAX_TOKENS = 10_000
"""Tokens of one hub: people and programs, not devices."""

_TOKEN = re.compile(r"vdt_(?P<id>[0-9a-f]{16})_(?P<secret>[A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_NOBODY = hashlib.sha256(b"").hexdigest()


class Grant(msgspec.Struct, frozen=True):
    """A token without its secret. created, expires: Unix seconds; expires None: never.

    id: empty for the session of a user, who has signed in.
    """

    id: str
    name: str
    role: Role
    created: float
    expires: float | None


class Tokens:
    """The tokens of a hub, and the log of what their holders changed. Every call is one transaction."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write
        self._users = Users(read, write)

    def add(self, name: str, role: Role, *, expires: float | None = None) -> tuple[Grant, str]:
        """A new token; its text is shown this once. Raises AlreadyExists, RegistryError, ValueError."""
        if not _NAME.fullmatch(name):
            raise ValueError("name: 1 to 64 of letters, digits and ._@-, a letter or digit first")
        token_id, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        with self._write.begin() as session:
            names = set(session.scalars(select(TokenRow.name)))
            if name in names:
                raise AlreadyExists(f"{name}: there is a token of this name")
            if len(names) >= MAX_TOKENS:
                raise RegistryError(f"tokens: {MAX_TOKENS} are allowed; remove some")
            row = TokenRow(
                token_id=token_id,
                name=name,
                role=role,
                digest=_digest(secret),
                created=time.time(),
                expires=expires,
            )
            session.add(row)
            return _grant(row), f"vdt_{token_id}_{secret}"

    def list(self) -> Sequence[Grant]:
        """All tokens by name."""
        with self._read.begin() as session:
            return [_grant(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.name))]

    def remove(self, name: str) -> None:
        """Make a token worthless. Raises UnknownIdentity if there is none of this name."""
        with self._write.begin() as session:
            row = session.scalar(select(TokenRow).where(TokenRow.name == name))
            if row is None:
                raise UnknownIdentity(f"{name}: no such token")
            session.delete(row)

    def check(self, text: str, now: float) -> Grant | None:
        """Whose token this is, or whose session; None if it is nobody's or has expired.

        A user who still has to choose a password has none. All wrong tokens take equally long.
        """
        match = _TOKEN.fullmatch(text)
        if match is None:
            return self._of_session(text)
        with self._read.begin() as session:
            row = session.get(TokenRow, match["id"])
            right = hmac.compare_digest(row.digest if row else _NOBODY, _digest(match["secret"]))
            if row is None or not right or (row.expires is not None and now >= row.expires):
                return None
            return _grant(row)

    def _of_session(self, text: str) -> Grant | None:
        found = self._users.signed_in(text)
        if found is None or found[0].must_change:
            return None
        user, begun = found
        return Grant("", user.name, user.role, begun, begun + SESSION_S)

    def audit(self, limit: int = 100, before: int | None = None) -> Sequence[AuditEntry]:
        """The newest changes, or the newest of those before a number."""
        with self._read.begin() as session:
            return entries(session, limit, before)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _grant(row: TokenRow) -> Grant:
    return Grant(row.token_id, row.name, Role(row.role), row.created, row.expires)

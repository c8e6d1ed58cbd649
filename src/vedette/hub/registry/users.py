"""People who sign in to the console: their roles, their passwords, their sessions.

Passwords are kept as scrypt digests and session tokens as SHA-256: the database tells neither. Every call is
one transaction and blocks; those that look at a password take tens of milliseconds of computing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Sequence
from enum import IntEnum

import msgspec
from sqlalchemy import ForeignKey, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.attempts import Attempts
from vedette.hub.registry.records import AlreadyExists, RegistryError
from vedette.hub.registry.schema import Base

FIRST_USER = "admin"

MIN_PASSWORD = 12
"""Characters; a longer one is worth more than one of many kinds (NIST SP 800-63B)."""

MAX_PASSWORD = 256
"""Characters: what scrypt is given to digest is bounded."""

SESSION_S = 12 * 3600.0
"""A working day, after which one signs in again."""

MAX_SESSIONS = 16
"""Of one user; the oldest ends when there is one more."""

_SCRYPT = {"n": 2**14, "r": 8, "p": 5}
"""16 MB and about 200 ms on a small core: OWASP's figures for the least memory that it still accepts."""

MAX_NAME = 64
"""Characters."""

_NAME = re.compile(rf"[a-zA-Z0-9][a-zA-Z0-9._@-]{{0,{MAX_NAME - 1}}}")


class Role(IntEnum):
    """What a user may do; each role may do what those before it may.

    VIEWER looks, ANALYST also decides about alerts, OPERATOR also changes devices, ADMIN also users.
    """

    VIEWER = 1
    ANALYST = 2
    OPERATOR = 3
    ADMIN = 4


class UserRow(Base):
    """A user. salt, digest: of the password. must_change: the password is one that was given out."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[int]
    salt: Mapped[bytes]
    digest: Mapped[bytes]
    must_change: Mapped[bool]
    created: Mapped[float]


class SessionRow(Base):
    """A browser that is signed in. token: SHA-256 of its cookie."""

    __tablename__ = "user_sessions"

    token: Mapped[bytes] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"), index=True)
    begun: Mapped[float]


class User(msgspec.Struct, frozen=True):
    """Who is signed in."""

    name: str
    role: Role
    must_change: bool


class Users:
    """The users of a hub."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write
        self._attempts, self._counting = Attempts(), threading.Lock()

    def ensure_admin(self) -> str | None:
        """Make the first user; its one-time password, None if there are users already."""
        password = secrets.token_urlsafe(12)
        row = _new(FIRST_USER, password, Role.ADMIN)
        with self._write.begin() as session:
            if session.scalar(select(UserRow.name).limit(1)) is not None:
                return None
            session.add(row)
        return password

    def add(self, name: str, role: Role) -> str:
        """Make a user; its one-time password. Raises AlreadyExists, RegistryError."""
        if not _NAME.fullmatch(name):
            raise RegistryError(f"user name: {name[:MAX_NAME]!r}: letters, digits and ._@- are allowed")
        password = secrets.token_urlsafe(12)
        row = _new(name, password, role)
        with self._write.begin() as session:
            if session.get(UserRow, name):
                raise AlreadyExists(f"{name}: there is a user of this name")
            session.add(row)
        return password

    def list(self) -> Sequence[User]:
        """All users by name."""
        with self._read.begin() as session:
            return [_user(row) for row in session.scalars(select(UserRow).order_by(UserRow.name))]

    def remove(self, name: str) -> None:
        """Remove a user, whose sessions end. Raises RegistryError if no admin would be left."""
        with self._write.begin() as session:
            admins = set(session.scalars(select(UserRow.name).where(UserRow.role == Role.ADMIN)))
            if admins == {name}:
                raise RegistryError(f"{name}: is the last admin")
            row = session.get(UserRow, name)
            if row is None:
                raise RegistryError(f"{name}: no such user")
            session.delete(row)

    def sign_in(self, name: str, password: str, address: str) -> User | None:
        """The same as `verify`, for somebody at an address. Raises TooManyAttempts.

        Every door of the hub leads here, so that an attempt at one counts at all of them.
        """
        keys = (f"user {name[:MAX_NAME]}", f"address {address}")
        with self._counting:
            self._attempts.begin(keys, time.monotonic())
        user = self.verify(name[:MAX_NAME], password)
        with self._counting:
            for key in keys if user else ():
                self._attempts.succeeded(key)
        return user

    def verify(self, name: str, password: str) -> User | None:
        """The user whose password this is. An unknown name takes as long as a wrong password."""
        with self._read.begin() as session:
            row = session.get(UserRow, name)
            salt, expected = (row.salt, row.digest) if row else (b"", b"")
            user = _user(row) if row else None
        matches = hmac.compare_digest(_digest(password, salt), expected)
        return user if matches else None

    def set_password(self, name: str, password: str) -> None:
        """Give a user a password of its own choice; its sessions end. Raises RegistryError."""
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise RegistryError(f"password: {MIN_PASSWORD} to {MAX_PASSWORD} characters are needed")
        salt = secrets.token_bytes(16)
        digest = _digest(password, salt)
        with self._write.begin() as session:
            row = session.get(UserRow, name)
            if row is None:
                raise RegistryError(f"{name}: no such user")
            row.salt, row.digest, row.must_change = salt, digest, False
            session.execute(delete(SessionRow).where(SessionRow.user == name))

    def open_session(self, user: User) -> str:
        """Sign in: a token for the browser to keep."""
        token = secrets.token_urlsafe(32)
        with self._write.begin() as session:
            session.execute(delete(SessionRow).where(SessionRow.begun < time.time() - SESSION_S))
            newest_first = select(SessionRow).where(SessionRow.user == user.name)
            for old in session.scalars(
                newest_first.order_by(SessionRow.begun.desc()).offset(MAX_SESSIONS - 1)
            ):
                session.delete(old)
            session.add(SessionRow(token=_fingerprint(token), user=user.name, begun=time.time()))
        return token

    def session(self, token: str) -> User | None:
        """Who holds a token; None if it is unknown or too old."""
        found = self.signed_in(token)
        return found[0] if found else None

    def signed_in(self, token: str) -> tuple[User, float] | None:
        """The same, and since when (Unix seconds)."""
        with self._read.begin() as session:
            row = session.get(SessionRow, _fingerprint(token))
            if row is None or row.begun < time.time() - SESSION_S:
                return None
            return _user(session.get_one(UserRow, row.user)), row.begun

    def close_session(self, token: str) -> None:
        """Sign out."""
        with self._write.begin() as session:
            session.execute(delete(SessionRow).where(SessionRow.token == _fingerprint(token)))


def _new(name: str, password: str, role: Role) -> UserRow:
    salt = secrets.token_bytes(16)
    return UserRow(
        name=name,
        role=role,
        salt=salt,
        digest=_digest(password, salt),
        must_change=True,
        created=time.time(),
    )


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password[:MAX_PASSWORD].encode(errors="replace"), salt=salt, **_SCRYPT)


def _fingerprint(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _user(row: UserRow) -> User:
    return User(row.name, Role(row.role), row.must_change)

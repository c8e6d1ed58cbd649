"""Keys at rest: sealed with AES-256-GCM under a key that lives in a file beside the database, not in it.

Whoever gets a copy of the database alone (a backup, a disk, a database server's administrator) learns no
device's key. Whoever gets both, does: keep them apart in backups.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Dialect, String
from sqlalchemy.types import TypeDecorator

from vedette.hub.registry.records import RegistryError

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random for each value: safe for 2³² values under one key (NIST SP 800-38D), a registry has millions."""

PREFIX = "sealed:"
"""Marks a sealed value; a key in base64 has no colon."""

PROBE = "vedette"
"""A text that is sealed once in each registry, to tell whether a key file fits."""

_ON_DIALECT = "vedette_vault"


class Vault:
    """Seals and opens texts. Its repr shows nothing."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def load(cls, path: Path, *, create: bool) -> Vault:
        """From a key file (0600), made if it is not there and `create`. Raises RegistryError."""
        try:
            return cls(_checked(path.read_bytes(), path))
        except FileNotFoundError:
            if not create:
                raise RegistryError(
                    f"{path}: the registry's keys are sealed with this file, and it is missing; bring it back"
                ) from None
        key = base64.b64encode(secrets.token_bytes(KEY_BYTES))
        _write_private(path, key + b"\n")
        return cls(_checked(key, path))

    def seal(self, text: str) -> str:
        """The sealed form; another one each time."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return PREFIX + base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), None)).decode()

    def open(self, sealed: str) -> str:
        """The text again. Raises RegistryError if another key sealed it, or nobody."""
        try:
            raw = base64.b64decode(sealed.removeprefix(PREFIX), validate=True)
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], None).decode()
        except (InvalidTag, ValueError):
            raise RegistryError("registry: a key was sealed with another key file, or is damaged") from None

    def attach(self, dialect: Dialect) -> None:
        """Let columns of type `Sealed` use this vault on an engine: types know their dialect only."""
        setattr(dialect, _ON_DIALECT, self)


def vault_of(dialect: Dialect) -> Vault:
    """The vault that was attached."""
    vault: Vault = getattr(dialect, _ON_DIALECT)
    return vault


class Sealed(TypeDecorator[str]):
    """A text column that is sealed in the database and plain in the program. It cannot be searched."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """On its way to the database."""
        return None if value is None else vault_of(dialect).seal(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        """On its way back."""
        return None if value is None else vault_of(dialect).open(value)


def _checked(text: bytes, path: Path) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise RegistryError(f"{path}: not a key file ({KEY_BYTES} bytes in base64 are needed)")
    return key


def _write_private(path: Path, content: bytes) -> None:
    """A new file, on the disk when this returns: what it seals is worth nothing without it."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

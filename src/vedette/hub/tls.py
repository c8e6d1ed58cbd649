"""The hub's private certificate authority, its server certificate, and TLS as the gateway speaks it."""

from __future__ import annotations

import asyncio.sslproto
import fcntl
import ipaddress
import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_KEY_BITS = 3072
SERVER_KEY_BITS = 2048
"""RSA for both: RTOS clients offer ECDHE-RSA only and may not know ECDSA signatures. The authority lives on
after 2030, when 2048 bits are no longer recommended (NIST SP 800-57)."""

CA_DAYS = 3650
"""Devices pin the authority: replacing it means visiting every device."""

SERVER_DAYS = 397
"""The longest that common clients accept for a server certificate."""

RENEWAL_DAYS = 30
"""A server certificate is replaced when it has less than this left."""

CLOCK_SKEW = timedelta(days=1)
"""Certificates begin this much earlier: a device without a battery-backed clock is often behind."""

TLS_BUFFER_BYTES = 16_384
"""Largest TLS record: all that one read can yield."""


class PkiError(Exception):
    """The certificates on disk cannot be used; the text says which and what helps."""


class Pki(msgspec.Struct, frozen=True):
    """Paths of PEM files: `ca` for devices to pin, `certificate` and `key` for the server."""

    ca: str
    certificate: str
    key: str


class _Pair(msgspec.Struct, frozen=True):
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


def ensure_pki(directory: Path, names: Iterable[str], *, now: datetime | None = None) -> Pki:
    """Make an authority and a server certificate for these host names and addresses, or keep what is there.

    The authority stays for ever; the server certificate is renewed when it runs out, when `names` change,
    and when its files do not belong together. Raises PkiError if the authority has expired or is damaged.
    """
    now = now or datetime.now(UTC)
    wanted = sorted({name.lower() for name in names})
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki = Pki(*(str(directory / name) for name in ("ca.pem", "server.pem", "server-key.pem")))
    with _locked(directory):
        authority = _authority(Path(pki.ca), directory / "ca-key.pem", now)
        if not _serves(pki, authority.certificate, wanted, now):
            _store(_server(authority, wanted, now), Path(pki.certificate), Path(pki.key))
    return pki


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and later with the given PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(certificate, key)
    return context


def bound_tls_buffers() -> None:
    """Have asyncio's TLS keep a read buffer of one record for each connection instead of 256 KiB.

    1,000 connections take 289 MB as asyncio comes and 43 MB with this; uvloop (28 MB) does not need it.
    """
    asyncio.sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes from making certificates at the same time."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _authority(certificate: Path, key: Path, now: datetime) -> _Pair:
    if not certificate.exists() and not key.exists():
        _store(_new_authority(now), certificate, key)
    try:
        pair = _load(certificate, key)
    except (OSError, ValueError, TypeError) as error:
        raise PkiError(f"{certificate}: the authority cannot be read ({type(error).__name__})") from None
    if pair.certificate.not_valid_after_utc <= now:
        raise PkiError(f"{certificate}: the authority has expired; move it away and give devices the new one")
    return pair


def _serves(pki: Pki, authority: x509.Certificate, names: list[str], now: datetime) -> bool:
    """True if the server certificate can stay."""
    try:
        pair = _load(Path(pki.certificate), Path(pki.key))
        pair.certificate.verify_directly_issued_by(authority)
        alternative = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    limit = min(now + timedelta(days=RENEWAL_DAYS), authority.not_valid_after_utc)
    return alternative == _alternative(names) and pair.certificate.not_valid_after_utc >= limit


def _load(certificate: Path, key: Path) -> _Pair:
    """Read a pair. Raises OSError, ValueError or TypeError if it is none."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    if not isinstance(private, rsa.RSAPrivateKey) or private.public_key() != loaded.public_key():
        raise ValueError("certificate and key do not belong together")
    return _Pair(loaded, private)


def _store(pair: _Pair, certificate: Path, key: Path) -> None:
    """Write both; a crash in between leaves a pair that does not fit, and that is noticed."""
    private = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, private, 0o600)
    _write(certificate, pair.certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file as a whole and durably; its mode is right from the first byte."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _new_authority(now: datetime) -> _Pair:
    key = rsa.generate_private_key(65537, CA_KEY_BITS)
    name = _name("Vedette private CA")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _draft(name, name, key, now, now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _server(authority: _Pair, names: list[str], now: datetime) -> _Pair:
    key = rsa.generate_private_key(65537, SERVER_KEY_BITS)
    issuer = authority.certificate
    end = min(now + timedelta(days=SERVER_DAYS), issuer.not_valid_after_utc)
    signer = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _draft(_name("Vedette hub"), issuer.subject, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_alternative(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _draft(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(names: list[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    """What a key is for: the authority's signs, the server's takes part in handshakes."""
    return x509.KeyUsage(
        digital_signature=not ca,
        key_encipherment=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

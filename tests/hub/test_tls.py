"""The private authority: what is kept, what is renewed, and who can connect."""

import asyncio
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from vedette.hub.tls import CA_DAYS, RENEWAL_DAYS, SERVER_DAYS, Pki, PkiError, ensure_pki, server_context

NAMES = ["hub.example", "127.0.0.1", "::1", "localhost"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority and a certificate for NAMES."""
    directory = tmp_path_factory.mktemp("pki")
    ensure_pki(directory, NAMES)
    return directory


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "pki"))


def certificate(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_second_call_changes_nothing(directory: Path):
    """What is there and good is kept, in whatever order and spelling the names come."""
    before = contents(directory)
    ensure_pki(directory, [name.upper() for name in reversed(NAMES)])
    assert contents(directory) == before


def test_keys_are_their_owners_alone(directory: Path):
    """Private keys have mode 0600."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o644, "server-key.pem": 0o600}


def test_other_names_renew_the_certificate_only(directory: Path):
    """Devices that pin the authority go on when the hub gets a name."""
    before = contents(directory)
    pki = ensure_pki(directory, ["new.example"])
    after = contents(directory)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"server.pem", "server-key.pem"}
    alternative = certificate(pki.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert alternative.value.get_values_for_type(x509.DNSName) == ["new.example"]


@pytest.mark.parametrize(("days_left", "renewed"), [(RENEWAL_DAYS + 1, False), (RENEWAL_DAYS - 1, True)])
def test_a_certificate_is_renewed_before_it_expires(directory: Path, days_left: int, renewed: bool):
    """Renewal comes RENEWAL_DAYS early."""
    before = contents(directory)["server.pem"]
    ensure_pki(directory, NAMES, now=datetime.now(UTC) + timedelta(days=SERVER_DAYS - days_left))
    assert (contents(directory)["server.pem"] != before) is renewed


def test_a_certificate_does_not_outlive_its_authority(directory: Path):
    """Near the authority's end certificates get shorter and are not renewed over and over."""
    late = datetime.now(UTC) + timedelta(days=CA_DAYS - 10)
    pki = ensure_pki(directory, NAMES, now=late)
    before = contents(directory)
    assert certificate(pki.certificate).not_valid_after_utc == certificate(pki.ca).not_valid_after_utc
    ensure_pki(directory, NAMES, now=late)
    assert contents(directory) == before


def test_an_expired_authority_is_refused(directory: Path):
    """It is not replaced silently: every device would have to be given the new one."""
    with pytest.raises(PkiError, match="expired"):
        ensure_pki(directory, NAMES, now=datetime.now(UTC) + timedelta(days=CA_DAYS + 1))


def test_a_damaged_authority_is_refused_without_showing_it(directory: Path):
    """The error names the file and not what is in it."""
    (directory / "ca-key.pem").write_text("half a key")
    with pytest.raises(PkiError, match=r"ca\.pem") as caught:
        ensure_pki(directory, NAMES)
    assert "half" not in str(caught.value)


@pytest.mark.parametrize("damage", ["server.pem", "server-key.pem"])
def test_server_files_that_do_not_fit_are_replaced(directory: Path, damage: str):
    """A crash between the two writes leaves a pair that does not belong together: it is made anew."""
    (directory / damage).write_bytes((directory / damage.replace("server", "ca")).read_bytes())
    pki = ensure_pki(directory, NAMES)
    server_context(pki.certificate, pki.key)
    certificate(pki.certificate).verify_directly_issued_by(certificate(pki.ca))


async def shake_hands(pki: Pki, client: ssl.SSLContext, name: str) -> tuple[str, str]:
    """TLS version and cipher of one connection."""

    def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=server_context(pki.certificate, pki.key))
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        tls = writer.get_extra_info("ssl_object")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return tls.version(), tls.cipher()[0]


@pytest.mark.parametrize("name", NAMES)
async def test_a_client_that_pins_the_authority_connects(made: Path, name: str):
    """By each name and address that the certificate was made for, strictly verified."""
    pki = ensure_pki(made, NAMES)
    context = ssl.create_default_context(cafile=pki.ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert (await shake_hands(pki, context, name))[0] == "TLSv1.3"


async def test_a_client_refuses_another_name(made: Path):
    """The certificate does not serve for names that it was not made for."""
    pki = ensure_pki(made, NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(pki, ssl.create_default_context(cafile=pki.ca), "other.example")


async def test_an_rtos_client_connects(made: Path):
    """TLS 1.2 with ECDHE-RSA-AES128-SHA256 is all that such clients know."""
    pki = ensure_pki(made, NAMES)
    context = ssl.create_default_context(cafile=pki.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-SHA256")
    assert await shake_hands(pki, context, "localhost") == ("TLSv1.2", "ECDHE-RSA-AES128-SHA256")

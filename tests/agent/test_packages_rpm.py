"""rpm's databases are read without rpm: SQLite and ndb, and any damage in them is survived."""

import io
import shutil
import sqlite3
import subprocess
from contextlib import suppress
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.losses import MALFORMED, Loss, Losses
from vedette.agent.sources import Unavailable
from vedette.agent.sources.package import Installed
from vedette.agent.sources.packages import installed
from vedette.agent.sources.packages_rpm import read
from vedette.agent.sources.rpm_header import HeaderError, parse

BASH = {1000: "bash", 1001: "5.2.15", 1002: "3.fc39", 1011: "Fedora Project", 1022: "x86_64"}
VIM = {
    1000: "vim-minimal",
    1001: "9.0",
    1002: "1.fc39",
    1003: 2,
    1015: "someone@example.org",
    1022: "x86_64",
    1044: "vim-9.0-1.fc39.src.rpm",
}
KEY = {1000: "gpg-pubkey", 1001: "18b8e74c", 1002: "62f2920f"}

EXPECTED = [
    Installed(
        kind="rpm", name="bash", version="5.2.15-3.fc39", vendor="Fedora Project", architecture="x86_64"
    ),
    Installed(
        kind="rpm",
        name="vim-minimal",
        version="2:9.0-1.fc39",
        vendor="someone@example.org",
        architecture="x86_64",
        source="vim",
    ),
]


def header(tags: dict[int, str | int]) -> bytes:
    """A header blob with these tags: texts as STRING, numbers as INT32."""
    index = values = b""
    for tag, value in tags.items():
        if isinstance(value, int):
            values += b"\0" * (-len(values) % 4)
        index += pack(">IIII", tag, 4 if isinstance(value, int) else 6, len(values), 1)
        values += pack(">I", value) if isinstance(value, int) else value.encode() + b"\0"
    return pack(">II", len(tags), len(values)) + index + values


def sqlite_database(root: Path, blobs: list[bytes]) -> Path:
    """An rpm database as rpm 4.16 and later make it."""
    path = root / "usr/lib/sysimage/rpm/rpmdb.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    database.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    database.commit()
    database.close()
    return path


def ndb_database(root: Path, blobs: list[bytes]) -> Path:
    """An rpm database as openSUSE's rpm makes it: one page of slots, then the blobs."""
    path = root / "var/lib/rpm/Packages.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    slots = pack("<4sIIII12x", b"RpmP", 0, 7, 1, len(blobs) + 1)
    body = b""
    for index, blob in enumerate(blobs, 1):
        blocks = -(-(16 + len(blob) + 12) // 16)
        slots += pack("<4sIII", b"Slot", index, (4096 + len(body)) // 16, blocks)
        whole = pack("<4sIII", b"BlbS", index, 1, len(blob)) + blob
        body += whole.ljust(blocks * 16 - 12, b"\0") + pack("<II4s", 0, len(blob), b"BlbE")
    while len(slots) < 4096:
        slots += pack("<4sIII", b"Slot", 0, 0, 0)
    path.write_bytes(slots + body)
    return path


@pytest.mark.parametrize("make", [sqlite_database, ndb_database])
def test_packages_are_read_from_both_kinds_of_database(tmp_path: Path, make):
    """Version with release and epoch, vendor or packager, source package; imported keys left out."""
    make(tmp_path, [header(BASH), header(VIM), header(KEY)])
    losses = Losses()
    assert list(read(tmp_path, losses)) == EXPECTED
    assert losses.take() == []


@pytest.mark.parametrize("make", [sqlite_database, ndb_database])
def test_a_damaged_header_is_counted_and_the_next_is_read(tmp_path: Path, make):
    """One bad blob costs one package."""
    make(tmp_path, [header(BASH)[:40], header(VIM)])
    losses = Losses()
    assert list(read(tmp_path, losses)) == EXPECTED[1:]
    assert losses.take() == [Loss(MALFORMED, 0, 1)]


def test_a_write_ahead_log_is_read(tmp_path: Path):
    """Packages that a running rpm has committed but not yet checkpointed are seen."""
    path = sqlite_database(tmp_path, [header(BASH)])
    writer = sqlite3.connect(path)
    try:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("INSERT INTO Packages (blob) VALUES (?)", [header(VIM)])
        writer.commit()
        assert list(read(tmp_path, Losses())) == EXPECTED
    finally:
        writer.close()


def test_reading_leaves_nothing_beside_the_database(tmp_path: Path):
    """No journal or shared-memory file is made."""
    path = sqlite_database(tmp_path, [header(BASH)])
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.close()
    before = sorted(path.parent.iterdir())
    list(read(tmp_path, Losses()))
    assert sorted(path.parent.iterdir()) == before


def test_berkeley_db_is_noted_with_the_remedy(tmp_path: Path):
    """The databases of old systems are not read, and the inventory says so."""
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    (tmp_path / "var/lib/rpm/Packages").write_bytes(b"\0" * 12 + pack("<I", 0x061561))
    notes: list[str] = []
    assert list(installed(tmp_path, notes, Losses())) == []
    assert len(notes) == 1
    assert "rpm --rebuilddb" in notes[0]


@pytest.mark.parametrize("content", [b"", b"not a database", b"RpmP" + b"\xff" * 60])
@pytest.mark.parametrize("name", ["rpmdb.sqlite", "Packages.db"])
def test_what_is_no_database_is_unavailable(tmp_path: Path, name: str, content: bytes):
    """A file of the right name with the wrong content is named in the reason."""
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    (tmp_path / "var/lib/rpm" / name).write_bytes(content)
    with pytest.raises(Unavailable, match=name):
        list(read(tmp_path, Losses()))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_refused(raw: bytes):
    """A blob is bounded by its own size whatever its numbers claim."""
    with suppress(HeaderError):
        assert parse(io.BytesIO(raw), len(raw)).name


@given(st.data())
def test_a_header_with_flipped_bytes_is_read_or_refused(data: st.DataObject):
    """Damage anywhere in a valid header raises nothing else."""
    raw = bytearray(header(VIM))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(HeaderError):
        assert parse(io.BytesIO(bytes(raw)), len(raw)).name


@given(st.binary(max_size=600))
def test_any_bytes_after_the_magic_of_an_ndb_file_are_survived(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
):
    """Slots and blobs that point anywhere yield nothing or counted losses."""
    path = ndb_database(tmp_path_factory.mktemp("root"), [header(BASH)])
    whole = path.read_bytes()
    path.write_bytes(whole[:32] + raw + whole[32 + len(raw) :])
    list(read(path.parents[3], Losses()))


SPEC = """
Name: sentry
Version: 2.1
Release: 3
Epoch: 1
Summary: a test package
License: MIT
Vendor: Example Vendor Ltd
BuildArch: noarch
%description
nothing
%package doc
Summary: its documents
%description doc
nothing
%files
%files doc
"""


@pytest.mark.skipif(not shutil.which("rpmbuild"), reason="rpm is not installed")
def test_the_database_that_rpm_makes_is_read(tmp_path: Path):
    """Two packages built and installed by the real rpm are told as it would tell them."""
    (tmp_path / "sentry.spec").write_text(SPEC)
    build = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/top", "sentry.spec"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    database = tmp_path / "root/var/lib/rpm"
    database.mkdir(parents=True)
    files = [str(path) for path in (tmp_path / "top/RPMS").rglob("*.rpm")]
    install = ["rpm", "--force-debian", "--dbpath", str(database), "-i", "--justdb", "--nodeps", *files]
    subprocess.run(install, check=True, capture_output=True)
    found = sorted(read(tmp_path / "root", Losses()), key=lambda package: package.name)
    assert [(p.name, p.version, p.vendor, p.architecture, p.source) for p in found] == [
        ("sentry", "1:2.1-3", "Example Vendor Ltd", "noarch", ""),
        ("sentry-doc", "1:2.1-3", "Example Vendor Ltd", "noarch", "sentry"),
    ]

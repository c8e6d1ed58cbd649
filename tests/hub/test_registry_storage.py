"""How the registry is stored: sealed keys, migrations, and the same tables on both databases."""

import base64
import gc
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import make_url, text

import postgres
import vedette.hub
from vedette.hub.registry import Registry, RegistryError, schema
from vedette.hub.registry.migrate import HEAD, MIGRATIONS
from vedette.hub.registry.schema import Base, open_engine
from vedette.hub.registry.vault import Vault
from vedette.hub.settings import HubSettings, HubState
from vedette.wire.iothub import Identity

KEY = base64.b64encode(b"a key that nobody may read there").decode()
DEVICE = Identity("pump")

FIRST_SCHEMA = """
CREATE TABLE meta (schema_version INTEGER NOT NULL, PRIMARY KEY (schema_version));
CREATE TABLE identities (device_id VARCHAR NOT NULL, module_id VARCHAR NOT NULL, primary_key VARCHAR NOT NULL,
  secondary_key VARCHAR NOT NULL, enabled BOOLEAN NOT NULL, etag VARCHAR NOT NULL, created DOUBLE NOT NULL,
  gateway VARCHAR NOT NULL, last_activity DOUBLE, subscriptions VARCHAR NOT NULL,
  PRIMARY KEY (device_id, module_id));
CREATE INDEX ix_identities_gateway ON identities (gateway);
CREATE TABLE changes (seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, device_id VARCHAR NOT NULL,
  module_id VARCHAR NOT NULL, version INTEGER NOT NULL, patch VARCHAR);
CREATE INDEX changes_identity ON changes (device_id, module_id);
CREATE TABLE twins (device_id VARCHAR NOT NULL, module_id VARCHAR NOT NULL, desired VARCHAR NOT NULL,
  desired_version INTEGER NOT NULL, reported VARCHAR NOT NULL, reported_version INTEGER NOT NULL,
  PRIMARY KEY (device_id, module_id),
  FOREIGN KEY(device_id, module_id) REFERENCES identities (device_id, module_id) ON DELETE CASCADE);
CREATE TABLE policies (name VARCHAR NOT NULL, primary_key VARCHAR NOT NULL, secondary_key VARCHAR NOT NULL,
  PRIMARY KEY (name));
INSERT INTO meta VALUES (1);
"""
"""A registry as it was before keys were sealed."""


def first_registry(path: Path) -> None:
    """With one device and one policy."""
    with sqlite3.connect(path) as raw:
        raw.executescript(f"PRAGMA journal_mode = WAL; {FIRST_SCHEMA}")
        raw.execute(
            "INSERT INTO identities VALUES ('pump', '', ?, ?, 1, 'e', 1.0, '', NULL, '[]')", (KEY, KEY)
        )
        raw.execute("INSERT INTO twins VALUES ('pump', '', '{\"a\":1}', 2, '{}', 1)")
        raw.execute("INSERT INTO policies VALUES ('service', ?, ?)", (KEY, KEY))
    raw.close()


def test_an_old_registry_is_brought_up_to_date(tmp_path: Path):
    """Devices, twins and policies are as they were; its tables are those that the program declares."""
    first_registry(tmp_path / "registry.db")
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    registry = Registry(url)
    device, twin, policy = registry.get(DEVICE), registry.twin(DEVICE), registry.policies.get("service")
    registry.close()
    assert device is not None
    assert policy is not None
    assert (device.primary_key, device.etag, twin.desired) == (KEY, "e", {"a": 1})
    assert policy.primary_key == KEY
    assert differences(url) == []


def test_sealing_leaves_no_plain_key_behind(tmp_path: Path):
    """Neither in the database nor in its log, free pages included."""
    first_registry(tmp_path / "registry.db")
    registry = Registry(f"sqlite:///{tmp_path / 'registry.db'}")
    try:
        assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    finally:
        registry.close()


def test_a_new_database_has_the_declared_tables(url: str, tmp_path: Path):
    """On both kinds; and opening it again changes nothing."""
    key_file = tmp_path / "registry.key"
    assert differences(url, key_file) == []
    assert differences(url, key_file) == []


def differences(url: str, key_file: Path | None = None) -> list[object]:
    """What Alembic would change to make a database like the declarations."""
    engine = open_engine(url, key_file)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    engine.dispose()
    return found


def test_a_registry_of_before_gets_the_index_of_recommendations(url: str, tmp_path: Path):
    """From revision 0002 on: nothing is left to change afterwards."""
    key_file = tmp_path / "registry.key"
    engine = open_engine(url, key_file)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX recommendations_device")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
    engine.dispose()
    assert differences(url, key_file) == []


def test_whoever_opens_a_database_makes_every_table(tmp_path: Path):
    """A program that has imported nothing else finds all the tables that any module declares."""
    source = Path(vedette.hub.__file__).parent
    declared = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r'^    __tablename__ = "(\w+)"', path.read_text(), re.MULTILINE)
    }
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    code = f"from vedette.hub.registry.schema import open_engine; open_engine({url!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    with closing(sqlite3.connect(tmp_path / "registry.db")) as database:
        made = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert len(declared) > 40
    assert declared <= made


def test_the_latest_step_is_the_one_that_the_program_knows():
    """HEAD is written down, so that Alembic need not be loaded to look it up."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_keys_are_unreadable_in_the_database(url: str, tmp_path: Path):
    """In every table that holds any; and readable through the registry."""
    registry = Registry(url, tmp_path / "registry.key")
    keys = {registry.add(DEVICE, keys=(KEY, KEY)).primary_key}
    policy = registry.policies.get("service")
    assert policy is not None
    keys |= {policy.primary_key, policy.secondary_key}
    with registry._engine.connect() as connection:
        stored = "".join(
            str(connection.exec_driver_sql(f"SELECT * FROM {table.name}").all())
            for table in Base.metadata.sorted_tables
        )
    device = registry.get(DEVICE)
    registry.close()
    assert "sealed:" in stored
    assert not [key for key in keys if key in stored]
    assert device is not None
    assert device.primary_key == KEY


def test_the_key_file_is_its_owners_alone(tmp_path: Path):
    """Mode 0600, beside a SQLite database."""
    Registry(f"sqlite:///{tmp_path / 'registry.db'}").close()
    assert (tmp_path / "registry.key").stat().st_mode & 0o777 == 0o600


def test_another_key_file_is_refused_without_showing_it(url: str, tmp_path: Path):
    """Before anything is written with it."""
    Registry(url, tmp_path / "right.key").close()
    Registry(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "wrong.key").close()
    wrong = (tmp_path / "wrong.key").read_text().strip()
    with pytest.raises(RegistryError, match="sealed with another key file") as caught:
        Registry(url, tmp_path / "wrong.key")
    assert wrong not in str(caught.value)


def test_a_missing_key_file_is_not_made_anew(url: str, tmp_path: Path):
    """A new one could open nothing; the error names the file."""
    Registry(url, tmp_path / "lost.key").close()
    (tmp_path / "lost.key").unlink()
    with pytest.raises(RegistryError, match=r"lost\.key"):
        Registry(url, tmp_path / "lost.key")
    assert not (tmp_path / "lost.key").exists()


@pytest.mark.parametrize("content", [b"", b"short", base64.b64encode(b"x" * 31)])
def test_a_damaged_key_file_is_named(tmp_path: Path, content: bytes):
    """And not what is in it."""
    (tmp_path / "registry.key").write_bytes(content)
    with pytest.raises(RegistryError, match=r"registry\.key: not a key file"):
        Registry(f"sqlite:///{tmp_path / 'registry.db'}")


def test_equal_texts_are_sealed_differently():
    """Nobody sees that two devices have one key."""
    vault = Vault(bytes(32))
    assert vault.seal("a") != vault.seal("a")
    assert vault.open(vault.seal("a")) == "a"


def test_a_newer_database_is_not_touched(url: str, tmp_path: Path):
    """An older program says so instead of guessing."""
    key_file = tmp_path / "registry.key"
    registry = Registry(url, key_file)
    with registry._engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    registry.close()
    with pytest.raises(RegistryError, match="schema version 9999"):
        Registry(url, key_file)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://there/registry", "mysql is not known"),
        ("nonsense", "URL cannot be read"),
        ("postgresql://u:secret@127.0.0.1:1/registry", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_explained(tmp_path: Path, url: str, reason: str):
    """Without the password."""
    with pytest.raises(RegistryError, match=reason) as caught:
        Registry(url, tmp_path / "registry.key")
    assert "secret" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("accepts", [True, False], ids=["accepts and is silent", "drops what comes"])
def test_a_database_that_does_not_answer_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepts: bool
):
    """Whether its host is gone or its server stands still."""
    monkeypatch.setattr(schema, "CONNECT_S", 0.2)
    with socket.socket() as server, ExitStack() as waiting:
        server.bind(("127.0.0.1", 0))
        server.listen(1 if accepts else 0)
        if not accepts:  # one that waits to be accepted fills the queue; the kernel then drops all others
            waiting.enter_context(socket.create_connection(server.getsockname()))
        url = f"postgresql://u:secret@127.0.0.1:{server.getsockname()[1]}/registry"
        with pytest.raises(RegistryError, match=r"registry: the database .*(answer|connection)"):
            Registry(url, tmp_path / "registry.key")
    gc.collect()  # the driver leaves a socket that failed to it


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(postgres.programs() is None, reason="needs Debian's postgresql")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network of its own")
def test_a_host_that_vanishes_is_given_up(tmp_path: Path):
    """Before it is asked and while it works; when it is back it serves again."""
    tests = Path(__file__).parents[1]
    program = [sys.executable, tests / "hub/vanishing_host.py", tmp_path / "registry.key"]
    path = os.pathsep.join([str(tests), *sys.path])
    done = subprocess.run(
        ["unshare", "--net", *program], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    *failed, served = done.stdout.split() or [done.stderr]
    assert (len(failed), served) == (2, "1"), done.stderr


def test_answers_of_a_database_may_take_longer_than_connecting(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A migration, say."""
    monkeypatch.setattr(schema, "CONNECT_S", 0.5)
    engine = open_engine(new_database(), tmp_path / "registry.key")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1 FROM pg_sleep(0.7)")).scalar() == 1
    engine.dispose()


def test_postgresql_may_be_reached_by_a_socket_of_the_machine(
    new_database: Callable[[], str], tmp_path: Path
):
    """Without a network there is nothing to find out about its host."""
    there = make_url(new_database())
    assert there.port
    with closing(postgres.connect(there.port)) as asked:
        [[directory]] = asked.run("SHOW unix_socket_directories")
    path = f"{directory}/.s.PGSQL.{there.port}"
    url = f"postgresql://{there.username}@/{there.database}?unix_sock={path}"
    Registry(url, tmp_path / "registry.key").close()


def test_postgresql_needs_a_key_file(new_database: Callable[[], str]):
    """There is no directory of its own to put one in."""
    with pytest.raises(RegistryError, match="needs a key file"):
        Registry(new_database())


def test_the_url_may_name_the_key_file(new_database: Callable[[], str], tmp_path: Path):
    """So that one text tells every program where the registry is."""
    Registry(f"{new_database()}?key_file={tmp_path}/there.key").close()
    assert (tmp_path / "there.key").exists()


def test_settings_may_name_another_database(tmp_path: Path):
    """The key file stays in the state directory, and the settings, with a password in them, private."""
    state = HubState(tmp_path / "hub")
    state.save(HubSettings(host_names=("localhost",), registry="postgresql://u:p@db/registry"))
    assert (
        state.registry_url
        == f"postgresql://u:p@db/registry?key_file={quote(str(state.root), '')}%2Fregistry.key"
    )
    assert state.settings_file.stat().st_mode & 0o777 == 0o600

"""Several sources, each event once."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sandbox import Sandbox, obstacle
from support import PATIENCE_S
from vedette.agent.collectors.login import CAPACITY, LoginCollector
from vedette.agent.losses import CACHE_FULL
from vedette.agent.sources import Unavailable
from vedette.wire.events import Login
from vedette.wire.twin import Priority, Settings

RECORDED = Path(__file__).parents[1] / "fixtures" / "logins"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A device with empty records and two accounts."""
    root = tmp_path / "root"
    for name in ("var/log", "var/lib/wtmpdb", "etc", "run"):
        (root / name).mkdir(parents=True)
    for name in ("wtmp", "btmp", "auth.log"):
        (root / "var/log" / name).touch()
    (root / "etc/passwd").write_text("root:x:0:0:::\nalice:x:1001:1001:::\nwww-data:x:33:33:::\n")
    return root


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "agent" / "login.json"


async def started(state: Path, root: Path, settings: Settings | None = None) -> LoginCollector:
    collector = LoginCollector(state, root)
    await collector.start(settings or Settings())
    return collector


async def told(collector: LoginCollector) -> list[Login]:
    collected = await collector.collect()
    return [event.payload for event in collected.events for _ in range(event.hits)]


def record(root: Path, *names: str) -> None:
    """Append what was recorded on a real device to its files."""
    for name in names:
        target = "auth.log" if name.endswith(".log") else name
        with (root / "var/log" / target).open("ab") as file:
            file.write((RECORDED / name).read_bytes())


def say(root: Path, *lines: str, when: str = "2026-11-20T15:00:00") -> None:
    with (root / "var/log/auth.log").open("a") as file:
        file.writelines(f"{when}+00:00 device {line}\n" for line in lines)


RECORDED_AT = 1_795_186_583.0
"""When the first sessions of the recordings were."""


SSH, PTS0, PTS1 = "ssh:notty", "pts/0", "pts/1"
HERE, LOCAL = "127.0.0.1", "0.0.0.0"
TRUTH = [
    *[("Login", "alice", SSH, HERE), ("Logout", "alice", SSH, HERE)],
    *[("Login", "alice", PTS1, "::1"), ("Logout", "alice", PTS1, "::1")],
    *[("LoginFailed", "alice", SSH, HERE), ("Login", "alice", PTS1, HERE), ("Logout", "alice", PTS1, HERE)],
    *[("LoginFailed", "alice", SSH, HERE)] * 3,
    *[("LoginFailed", "UNKNOWN", SSH, HERE)] * 3,
    ("LoginFailed", "alice", SSH, HERE),
    *[("Login", "alice", PTS0, LOCAL), ("Logout", "alice", PTS0, LOCAL)],
    *[
        ("LoginFailed", "alice", PTS0, LOCAL),
        ("Login", "alice", PTS0, LOCAL),
        ("Logout", "alice", PTS0, LOCAL),
    ],
    ("LoginFailed", "UNKNOWN", PTS0, LOCAL),
    *[("Login", "alice", PTS0, HERE), ("Logout", "alice", PTS0, HERE)],
    *[("Login", "alice", PTS0, LOCAL), ("Logout", "alice", PTS0, LOCAL)],
    ("LoginFailed", "alice", PTS0, LOCAL),
    *[("Login", "alice", PTS0, LOCAL), ("Logout", "alice", PTS0, LOCAL)],
    *[("Login", "root", PTS0, LOCAL), ("Logout", "root", PTS0, LOCAL)],
    *[("LoginFailed", "alice", PTS0, LOCAL)] * 3,
    *[("LoginFailed", "alice", PTS0, LOCAL), ("Login", "root", PTS0, LOCAL), ("Logout", "root", PTS0, LOCAL)],
    ("LoginFailed", "www-data", PTS0, LOCAL),
    *[("Login", "alice", PTS1, HERE), ("Logout", "alice", PTS1, HERE)],
    ("LoginFailed", "alice", PTS1, HERE),
]
"""What was done when the fixtures were recorded."""


def summary(logins: list[Login]) -> list[tuple[str, str, str, str]]:
    return [(one.operation, one.user_name, one.executable, one.remote_address) for one in logins]


async def test_a_recorded_day_is_told_as_it_was(root: Path, state: Path):
    """Log, wtmp and btmp together: every sign-in of the recording once, complete, in order."""
    collector = await started(state, root)
    record(root, "rsyslog.log", "wtmp", "btmp")
    assert summary(await told(collector)) == TRUTH
    await collector.stop()


async def test_a_log_that_lags_behind_the_records_adds_only_what_they_do_not_hold(root: Path, state: Path):
    """A session on a terminal is known already when its lines come; the one without a terminal is not."""
    collector = LoginCollector(state, root, lambda: RECORDED_AT)
    await collector.start(Settings())
    with (root / "var/log/wtmp").open("ab") as file:
        file.write((RECORDED / "wtmp").read_bytes()[:768])
    assert summary(await told(collector)) == TRUTH[2:4]
    lines = (RECORDED / "rsyslog.log").read_text().splitlines()
    say(root, *(line.split(" ", 2)[2] for line in lines if "14:56:23" in line), when="2026-11-20T14:56:23")
    assert summary(await told(collector)) == TRUTH[:2]
    await collector.stop()


@pytest.mark.parametrize(
    ("files", "operation", "count"),
    [
        (["wtmp"], "Login", 6),
        (["wtmp"], "Logout", 6),
        (["btmp"], "LoginFailed", 11),
    ],
)
async def test_records_alone_tell_what_they_hold(
    root: Path, state: Path, files: list[str], operation: str, count: int
):
    """Six sessions on terminals. Eleven failures: sshd's two records for one unknown user are one."""
    (root / "var/log/auth.log").unlink()
    collector = await started(state, root)
    record(root, *files)
    events = await told(collector)
    assert sum(one.operation == operation for one in events) == count
    assert all(one.user_name for one in events)
    await collector.stop()


async def test_busybox_and_dropbear(root: Path, state: Path):
    """The usual programs of small devices."""
    collector = await started(state, root)
    record(root, "busybox.log")
    # Its times are whole seconds, so some events have no order.
    assert sorted(summary(await told(collector))) == sorted(
        [
            *[("Login", "alice", SSH, HERE), ("Logout", "alice", SSH, HERE)],
            *[
                ("LoginFailed", "alice", SSH, HERE),
                ("Login", "alice", SSH, HERE),
                ("Logout", "alice", SSH, HERE),
            ],
            ("LoginFailed", "UNKNOWN", SSH, HERE),
            *[("LoginFailed", "alice", PTS0, LOCAL)] * 2,
            ("LoginFailed", "UNKNOWN", PTS0, LOCAL),
            ("LoginFailed", "alice", PTS0, "10.1.2.3"),
        ]
    )
    await collector.stop()


async def test_names_of_no_account_are_shown_only_when_asked_for(root: Path, state: Path):
    """`Login_RedactUnknownUsers` off."""
    collector = await started(state, root, Settings(login_redact_unknown=False))
    say(root, "sshd[7]: Invalid user hunter2 from 192.0.2.1 port 22")
    assert [one.user_name for one in await told(collector)] == ["hunter2"]
    await collector.stop()


async def test_places_outlive_a_killed_agent(root: Path, state: Path):
    """What was observed and not handed over yet is read again by the next one, once."""
    killed = await started(state, root)
    say(root, "su[1]: FAILED SU (to root) alice on pts/0")
    assert len(await told(killed)) == 1
    say(root, "su[2]: FAILED SU (to root) alice on pts/0")
    await killed._look()
    await killed._close()  # as far as a process that is gone has closed its files
    following = await started(state, root)
    say(root, "su[3]: FAILED SU (to root) alice on pts/0")
    assert [one.process_id for one in await told(following)] == [2, 3]
    await following.stop()
    assert state.stat().st_mode & 0o777 == 0o600


async def test_a_damaged_state_is_reported_and_not_fatal(
    root: Path, state: Path, caplog: pytest.LogCaptureFixture
):
    """Logins are reported from then on."""
    state.parent.mkdir()
    state.write_text('{"files": 7}')
    collector = await started(state, root)
    assert "is damaged" in caplog.text
    await collector.stop()


async def test_a_reboot_ends_what_was_open(root: Path, state: Path):
    """The process ids and terminals of a former boot say nothing of this one."""
    boot = root / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("one\n")
    collector = await started(state, root)
    say(root, "sshd[7]: Accepted publickey for alice from 192.0.2.1 port 22 ssh2")
    await collector.stop()
    assert len(json.loads(state.read_text())["sessions"]) == 1
    boot.write_text("two\n")
    collector = await started(state, root)
    say(root, "sshd[7]: pam_unix(sshd:session): session closed for user alice")
    assert summary(await told(collector)) == [("Logout", "alice", SSH, LOCAL)]
    await collector.stop()


async def test_a_session_that_began_before_the_agent_has_an_end(root: Path, state: Path):
    """The last part of wtmp tells who is on: no login is made of it, but the logout has its name."""
    content = (RECORDED / "wtmp").read_bytes()
    (root / "var/log/wtmp").write_bytes(content[:384])
    collector = await started(state, root)
    with (root / "var/log/wtmp").open("ab") as file:
        file.write(content[384:768])
    assert summary(await told(collector)) == [("Logout", "alice", PTS1, "::1")]
    await collector.stop()


async def test_a_flood_of_failures_does_not_push_out_the_login(root: Path, state: Path):
    """They have caches of their own; what does not fit is counted."""
    collector = await started(state, root)
    say(root, "sshd[7]: Accepted password for alice from 192.0.2.1 port 22 ssh2")
    say(root, *(f"su[{number}]: FAILED SU (to root) alice on pts/0" for number in range(8, CAPACITY + 18)))
    collected = await collector.collect()
    assert len(collected.events) == CAPACITY + 1
    assert [(loss.reason, loss.hits) for loss in collected.losses] == [(CACHE_FULL, 10)]
    assert sum(event.payload.operation == "Login" for event in collected.events) == 1
    await collector.stop()


async def test_a_change_to_pam_and_back_tells_nothing_twice(root: Path, state: Path):
    """What one set of sources has told is not told again by the other."""
    pam_log = root / "var/log/vedette/pam.log"
    pam_log.parent.mkdir()
    pam_log.touch()
    collector = await started(state, root)
    say(root, "su[1]: FAILED SU (to root) alice on pts/0")
    await collector.apply(Settings(login_use_pam=True))
    say(root, "su[2]: FAILED SU (to root) alice on pts/0")
    pam_log.write_text("2026-11-20T15:00:00Z,2,3,auth,su,root,,pts/0,2\n")
    await collector.apply(Settings())
    say(root, "su[3]: FAILED SU (to root) alice on pts/0")
    assert [one.process_id for one in await told(collector)] == [1, 2, 3]
    await collector.stop()


async def test_the_poll_sees_what_is_wiped_before_the_next_send(root: Path, state: Path):
    """Who breaks in and empties the log is in the events all the same."""
    collector = await started(state, root)
    say(root, "sshd[7]: Accepted password for alice from 192.0.2.1 port 22 ssh2")
    async with asyncio.timeout(PATIENCE_S):
        while not collector._merge.sessions():
            await asyncio.sleep(0.05)
    (root / "var/log/auth.log").write_text("")
    assert summary(await told(collector)) == [("Login", "alice", SSH, "192.0.2.1")]
    await collector.stop()


async def test_a_device_without_any_source_says_so(tmp_path: Path, state: Path):
    """With what would help."""
    with pytest.raises(Unavailable, match="syslog daemon"):
        await started(state, tmp_path)


async def test_settings_switch_and_rank_it(root: Path, state: Path):
    """`Login_Disabled`, `Login_MessageFrequency`; the sources in use have names."""
    collector = LoginCollector(state, root)
    assert not collector.enabled(Settings(login_disabled=True))
    assert collector.priority(Settings()) is Priority.MEDIUM
    await collector.start(Settings())
    assert collector.source == "wtmp, btmp, auth.log"
    await collector.stop()


TABLE = """CREATE TABLE wtmp(ID INTEGER PRIMARY KEY, Type INTEGER, User TEXT NOT NULL, Login INTEGER,
           Logout INTEGER, TTY TEXT, RemoteHost TEXT, Service TEXT) STRICT"""
NOW = 1_795_186_583_000_000


@pytest.fixture
def database(root: Path) -> Iterator[sqlite3.Connection]:
    """A wtmpdb as its library makes it, with a session that has begun."""
    with closing(sqlite3.connect(root / "var/lib/wtmpdb/wtmp.db", isolation_level=None)) as database:
        database.execute(TABLE)
        database.execute("INSERT INTO wtmp VALUES (1, 3, 'alice', ?, NULL, 'tty1', NULL, 'login')", (NOW,))
        yield database


async def test_wtmpdb_tells_new_rows_and_ended_ones(root: Path, state: Path, database: sqlite3.Connection):
    """Also across a restart, and together with the log that tells the same."""
    collector = await started(state, root)
    database.execute("UPDATE wtmp SET Logout = ? WHERE ID = 1", (NOW + 1_000_000,))
    database.execute(
        "INSERT INTO wtmp VALUES (2, 3, 'alice', ?, NULL, 'pts/3', '192.0.2.1', 'sshd')", (NOW + 2_000_000,)
    )
    say(root, "sshd[7]: Accepted publickey for alice from 192.0.2.1 port 22 ssh2", when="2026-11-20T14:56:25")
    first = [event.payload for event in (await collector.stop()).events]
    assert summary(first) == [("Logout", "alice", "tty1", LOCAL), ("Login", "alice", "pts/3", "192.0.2.1")]
    database.execute("UPDATE wtmp SET Logout = ? WHERE ID = 2", (NOW + 3_000_000,))
    collector = await started(state, root)
    (logout,) = await told(collector)
    assert summary([logout]) == [("Logout", "alice", "pts/3", "192.0.2.1")]
    assert logout.process_id == first[1].process_id == 7
    await collector.stop()


async def test_wtmpdb_that_was_rotated_goes_on(root: Path, state: Path, database: sqlite3.Connection):
    """Emptied, it begins with id 1 again."""
    database.execute("INSERT INTO wtmp VALUES (9, 3, 'bob', ?, ?, 'tty2', NULL, 'login')", (NOW, NOW + 1))
    collector = await started(state, root)
    database.execute("DELETE FROM wtmp")
    database.execute("INSERT INTO wtmp VALUES (1, 3, 'carol', ?, NULL, 'tty3', NULL, 'login')", (NOW + 9,))
    assert [one.user_name for one in await told(collector)] == ["carol"]
    await collector.stop()


async def test_a_broken_wtmpdb_is_named_and_not_fatal(root: Path, state: Path):
    """The other sources go on."""
    (root / "var/lib/wtmpdb/wtmp.db").write_bytes(b"not a database" * 100)
    collector = await started(state, root)
    assert "wtmpdb: file is not a database" in collector.source
    say(root, "su[1]: FAILED SU (to root) alice on pts/0")
    assert len(await told(collector)) == 1
    await collector.stop()


JOURNALD = "/lib/systemd/systemd-journald"


@pytest.mark.root
@pytest.mark.skipif(bool(obstacle()), reason=obstacle())
@pytest.mark.skipif(
    not Path(JOURNALD).exists() or not shutil.which("journalctl"), reason="needs systemd-journald"
)
async def test_the_journal_tells_what_root_wrote_and_not_what_a_user_forged(tmp_path: Path):
    """A real journald; a user's `logger -t sshd` is not sshd. A restart goes on at the cursor."""
    box = Sandbox(tmp_path)
    box.add_user("alice", "correct horse")
    for name in ("auth.log", "wtmp", "btmp"):
        (box.root / "var/log" / name).unlink()
    (box.root / "run/systemd/journal").mkdir(parents=True)
    journald = subprocess.Popen(box.command(JOURNALD), stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (box.root / "run/systemd/journal/dev-log").exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        box.run("ln", "-sf", "/run/systemd/journal/dev-log", "/dev/log")
        forged = "logger -p auth.info -t sshd 'Accepted password for root from 203.0.113.9 port 1 ssh2'"
        collector = await started(tmp_path / "state.json", box.root)
        assert collector.source == "wtmp, btmp, journal"
        box.run("su", "alice", "-c", forged)
        async with asyncio.timeout(PATIENCE_S):
            events: list[Login] = []
            while len(events) < 2:
                events += await told(collector)
                await asyncio.sleep(0.05)
        assert [(one.operation, one.user_name) for one in events] == [("Login", "alice"), ("Logout", "alice")]
        await collector.stop()
        box.run("su", "alice", "-c", "true")
        collector = await started(tmp_path / "state.json", box.root)
        async with asyncio.timeout(PATIENCE_S):
            events = []
            while len(events) < 2:
                events += await told(collector)
                await asyncio.sleep(0.05)
        assert [one.operation for one in events] == ["Login", "Logout"]
        await collector.stop()
    finally:
        journald.terminate()
        journald.wait(PATIENCE_S)
        box.close()

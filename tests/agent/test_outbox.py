"""The outbox: what is in it survives, what leaves it is accounted for, a broken disk stops nothing."""

import logging
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.agent.losses import MESSAGE_TOO_LARGE, OUTBOX_AGE, OUTBOX_DAMAGED, OUTBOX_FULL, Loss
from vedette.agent.outbox import HELD_BYTES, LOG_BYTES, Clock, Outbox, OutboxInUse, Stored, device_clock
from vedette.wire.message import MAX_MESSAGE_BYTES, Packed, message_properties

CAP = 2_560_000
PROPERTIES = len(message_properties("0" * 32))


class FakeClock:
    """A machine whose clocks the test turns. `boot` may be replaced: the machine restarted."""

    def __init__(self, wall: float = 1_800_000_000.0, up: float = 100.0, boot: str = "first") -> None:
        self.wall, self.up, self.boot = wall, up, boot

    def clock(self) -> Clock:
        return Clock(self.boot, lambda: self.up, lambda: self.wall)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds

    def restart(self, off: float = 0.0) -> None:
        self.wall += off
        self.up = 5.0
        self.boot += "+"


def packed(name: object, size: int = 100, *, events: int = 1, hits: int = 1, units: int = 1) -> Packed:
    return Packed(f"{name:0>32}", b"x" * size, events, hits, units)


def waiting(outbox: Outbox) -> list[Stored]:
    """Everything in an outbox, oldest first, read as the uplink reads it."""
    found: list[Stored] = []
    while message := outbox.next_after(found[-1].id if found else 0):
        found.append(message)
    return found


def names(outbox: Outbox) -> list[str]:
    return [
        message.properties.partition("&")[0].removeprefix("%24.mid=").lstrip("0")
        for message in waiting(outbox)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    box = Outbox(path, CAP)
    yield box
    box.close()


@contextmanager
def nothing_larger_than(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes into any file fail, as on a disk that has no more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_message_comes_out_as_it_went_in(outbox):
    """Body, property bag and counts are kept; the id names it from then on."""
    outbox.put(Packed("a" * 32, b"{}", 3, 7, 2))
    message = outbox.next_after(0)
    assert (message.body, message.events, message.hits, message.units) == (b"{}", 3, 7, 2)
    assert message.properties == message_properties("a" * 32)
    assert outbox.next_after(message.id) is None


def test_messages_come_out_oldest_first(outbox):
    """The order is that of `put`."""
    for name in "abcde":
        outbox.put(packed(name))
    assert names(outbox) == list("abcde")
    assert outbox.depth == 5
    assert outbox.bytes == 5 * (100 + PROPERTIES)


def test_removed_messages_are_gone_and_told(outbox):
    """`remove` returns the sums of what was there, and nothing for what was not."""
    for name in "abc":
        outbox.put(packed(name, events=2, hits=5, units=3))
    first, second, third = (message.id for message in waiting(outbox))
    removed = outbox.remove([first, third, 12345])
    assert removed == (2, 2 * (100 + PROPERTIES), 4, 10, 6)
    assert outbox.remove([first]).messages == 0
    assert [message.id for message in waiting(outbox)] == [second]
    assert outbox.losses.take() == []


def test_content_survives_a_restart_of_the_agent(path):
    """A second life of the agent finds what the first one left, and goes on numbering."""
    first = Outbox(path, CAP)
    for name in "abc":
        first.put(packed(name))
    first.remove([first.next_after(0).id])
    before = waiting(first)
    first.close()
    second = Outbox(path, CAP)
    assert waiting(second) == before
    second.put(packed("d"))
    assert names(second) == ["b", "c", "d"]
    assert second.depth == 3
    second.close()


def test_the_file_is_for_its_owner_alone(path):
    """Messages name users and command lines: mode 0600, also where an older file was laxer."""
    path.touch(mode=0o644)
    path.chmod(0o644)
    outbox = Outbox(path, CAP)
    outbox.put(packed("a"))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    outbox.close()


def test_what_put_stored_survives_kill_9(path):
    """A process killed right after `put` returned leaves the row in the file."""
    code = """
import os, signal, sys
from pathlib import Path
from vedette.agent.outbox import Outbox
from vedette.wire.message import Packed
outbox = Outbox(Path(sys.argv[1]), 2_560_000)
for i in range(30):
    outbox.put(Packed(f"{i:032}", b"y" * 3000, 1, 1, 1))
outbox.remove([outbox.next_after(0).id])
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    outbox = Outbox(path, CAP)
    assert names(outbox) == [str(i) for i in range(1, 30)]
    assert {message.body for message in waiting(outbox)} == {b"y" * 3000}
    outbox.close()


def test_a_second_process_is_refused(path, outbox):
    """Two agents on one outbox would send everything twice: the second is told so."""
    code = f"""
from pathlib import Path
from vedette.agent.outbox import Outbox, OutboxInUse
try:
    Outbox(Path({str(path)!r}), 10_000)
except OutboxInUse as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout == f"{path} is in use by another process\n"
    with pytest.raises(OutboxInUse, match="in use"):
        Outbox(path, CAP)


# Cap and age


def test_the_oldest_leave_when_the_cap_is_reached(path):
    """The newest messages that fit stay; the others are counted with their events and hits."""
    outbox = Outbox(path, 3 * (1000 + PROPERTIES))
    for name in "abcde":
        outbox.put(packed(name, 1000, events=2, hits=9))
    assert names(outbox) == ["c", "d", "e"]
    assert outbox.losses.take() == [Loss(OUTBOX_FULL, events=4, hits=18)]
    outbox.close()


def test_a_lowered_cap_holds_from_the_next_message_on(path):
    """The twin may change the cap while the agent runs."""
    outbox = Outbox(path, CAP)
    for name in "abcde":
        outbox.put(packed(name, 1000))
    outbox.max_bytes = 2 * (1000 + PROPERTIES)
    outbox.put(packed("f", 1000))
    assert names(outbox) == ["e", "f"]
    outbox.close()


def test_a_message_beyond_the_cap_drives_out_nothing(path):
    """What cannot fit at all is dropped itself; what was there stays."""
    outbox = Outbox(path, 10_000)
    outbox.put(packed("a"))
    outbox.put(packed("b", 10_000, events=3, hits=4))
    assert names(outbox) == ["a"]
    assert outbox.losses.take() == [Loss(OUTBOX_FULL, events=3, hits=4)]
    outbox.close()


def test_a_message_that_no_hub_takes_is_not_kept(outbox):
    """It would close every connection that it is sent on, for two days."""
    outbox.max_bytes = 10 * MAX_MESSAGE_BYTES
    outbox.put(packed("a", MAX_MESSAGE_BYTES, events=3, hits=4))
    assert outbox.depth == 0
    assert outbox.losses.take() == [Loss(MESSAGE_TOO_LARGE, events=3, hits=4)]


def test_a_message_lost_to_the_cap_is_not_also_sent(path):
    """An acknowledgement that comes after the cap took a message does not count it again: one fate each."""
    outbox = Outbox(path, 2 * (1000 + PROPERTIES))
    outbox.put(packed("a", 1000))
    in_flight = outbox.next_after(0).id
    outbox.put(packed("b", 1000))
    outbox.put(packed("c", 1000))
    assert outbox.remove([in_flight]).messages == 0
    assert outbox.losses.take() == [Loss(OUTBOX_FULL, events=1, hits=1)]
    outbox.close()


def test_old_messages_leave(path):
    """What has waited longer than allowed is dropped and counted; the rest stays."""
    device = FakeClock()
    outbox = Outbox(path, CAP, clock=device.clock())
    outbox.put(packed("a", events=2, hits=3))
    device.pass_time(60)
    outbox.put(packed("b"))
    device.pass_time(60)
    outbox.expire(100)
    assert names(outbox) == ["b"]
    assert outbox.losses.take() == [Loss(OUTBOX_AGE, events=2, hits=3)]
    outbox.close()


@pytest.mark.parametrize("jump", [-4e8, -3600, 3600, 4e8])
def test_setting_the_clock_ages_nothing(path, jump):
    """The device learns the time after start: messages are as old as they were."""
    device = FakeClock()
    outbox = Outbox(path, CAP, clock=device.clock())
    outbox.put(packed("a"))
    device.wall += jump
    device.pass_time(50)
    outbox.expire(100)
    assert names(outbox) == ["a"]
    device.pass_time(51)
    outbox.expire(100)
    assert names(outbox) == []
    outbox.close()


def restarted(path: Path, device: FakeClock) -> Outbox:
    """One message put 50 s before the end of the machine's first run; the outbox of its second run."""
    outbox = Outbox(path, CAP, clock=device.clock())
    outbox.put(packed("a"))
    device.pass_time(50)
    outbox.close()
    device.restart(off=30)
    return Outbox(path, CAP, clock=device.clock())


def test_time_switched_off_counts(path):
    """After a restart a message is as old as the wall clock tells."""
    device = FakeClock()
    outbox = restarted(path, device)
    device.pass_time(10)
    outbox.expire(100)
    assert names(outbox) == ["a"]
    device.pass_time(11)
    outbox.expire(100)
    assert names(outbox) == []
    outbox.close()


@pytest.mark.parametrize("jump", [-1e9, -4e8])
def test_a_clock_that_ran_backwards_over_a_restart_ages_nothing(path, jump):
    """A board without a battery starts in the past: the message's age begins anew, and still ends."""
    device = FakeClock()
    outbox = Outbox(path, CAP, clock=device.clock())
    outbox.put(packed("a"))
    outbox.close()
    device.restart(off=jump)
    outbox = Outbox(path, CAP, clock=device.clock())
    device.pass_time(99)
    outbox.expire(100)
    assert names(outbox) == ["a"]
    device.pass_time(2)
    outbox.expire(100)
    assert names(outbox) == []
    outbox.close()


def test_a_clock_that_was_never_set_ages_nothing(path):
    """A message written in 1970 and found in 2027 is not 57 years old."""
    device = FakeClock(wall=1000.0)
    outbox = Outbox(path, CAP, clock=device.clock())
    outbox.put(packed("a"))
    outbox.close()
    device.restart(off=1.8e9)
    outbox = Outbox(path, CAP, clock=device.clock())
    outbox.expire(100)
    assert names(outbox) == ["a"]
    outbox.close()


def test_the_machine_has_clocks():
    """The real clock names this start of the machine and counts up."""
    clock = device_clock()
    assert clock.boot == device_clock().boot
    assert clock.uptime() > 0
    assert clock.wall() > 1.7e9


# Trouble with the disk


def test_what_the_disk_does_not_take_is_held_in_memory(path, caplog):
    """With no room on the disk messages still come out in order; once there is room they are stored."""
    caplog.set_level(logging.INFO)
    outbox = Outbox(path, CAP)
    outbox.put(packed("a"))
    with nothing_larger_than(path.with_name("outbox.db-wal").stat().st_size):
        outbox.put(packed("b", 30_000))
        outbox.put(packed("c", 30_000))
        assert names(outbox) == ["a", "b", "c"]
        assert outbox.depth == 3
        outbox.remove([outbox.next_after(0).id])
        assert names(outbox) == ["b", "c"]
    outbox.put(packed("d"))
    assert names(outbox) == ["b", "c", "d"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    outbox.close()
    again = Outbox(path, CAP)
    assert names(again) == ["b", "c", "d"]
    assert again.losses.take() == []
    again.close()


def test_memory_is_bounded_while_the_disk_fails(path):
    """Held messages never exceed their bound: the oldest leave, counted."""
    outbox = Outbox(path, 10 * HELD_BYTES)
    outbox.put(packed("a"))
    with nothing_larger_than(path.with_name("outbox.db-wal").stat().st_size):
        for i in range(20):
            outbox.put(packed(i + 100, 50_000, hits=2))
        assert sum(len(message.body) for message in waiting(outbox)) <= HELD_BYTES + 100
        kept = outbox.depth - 1
    assert names(outbox) == ["a", *(str(i + 100) for i in range(20 - kept, 20))]
    assert outbox.losses.take() == [Loss(OUTBOX_FULL, events=20 - kept, hits=2 * (20 - kept))]
    outbox.close()


def test_what_only_memory_held_at_the_end_is_counted(path):
    """Closing with a failing disk loses what was never stored, and says so."""
    outbox = Outbox(path, CAP)
    outbox.put(packed("a"))
    with nothing_larger_than(path.with_name("outbox.db-wal").stat().st_size):
        outbox.put(packed("b", 30_000, events=2, hits=3))
        outbox.close()
    assert outbox.losses.take() == [Loss(OUTBOX_FULL, events=2, hits=3)]
    again = Outbox(path, CAP)
    assert names(again) == ["a"]
    again.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root")
def test_a_full_file_system_stops_nothing(tmp_path):
    """On a real file system without room the outbox works from memory, from its very start."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=False).returncode:
        pytest.skip("mount is not permitted here")
    try:
        filler = small / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"0" * 300_000)
        outbox = Outbox(small / "outbox.db", CAP)
        outbox.put(packed("a", 10_000))
        assert names(outbox) == ["a"]
        filler.unlink()
        outbox.put(packed("b", 10_000))
        outbox.close()
        again = Outbox(small / "outbox.db", CAP)
        assert names(again) == ["a", "b"]
        again.close()
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_missing_directory_is_survived(tmp_path):
    """Messages are held until the directory exists."""
    path = tmp_path / "later" / "outbox.db"
    outbox = Outbox(path, CAP)
    outbox.put(packed("a"))
    assert names(outbox) == ["a"]
    path.parent.mkdir()
    outbox.put(packed("b"))
    outbox.close()
    again = Outbox(path, CAP)
    assert names(again) == ["a", "b"]
    again.close()


def test_a_file_that_appears_late_keeps_its_messages(path, tmp_path):
    """Messages held while the file could not be opened join those that were in it."""
    outbox = Outbox(path, CAP)
    outbox.put(packed("a"))
    outbox.close()
    away = path.rename(tmp_path / "away")
    path.mkdir()
    outbox = Outbox(path, CAP)
    outbox.put(packed("b"))
    path.rmdir()
    away.rename(path)
    outbox.put(packed("c"))
    assert names(outbox) == ["a", "b", "c"]
    outbox.close()


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_moved_aside(path, content, caplog):
    """It is kept for whoever wants to look, and the agent starts with an empty outbox."""
    path.write_bytes(content)
    outbox = Outbox(path, CAP)
    outbox.put(packed("a"))
    assert names(outbox) == ["a"]
    assert path.with_name("outbox.db.damaged").read_bytes() == content
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    outbox.close()


def test_a_database_of_someone_else_is_moved_aside(path):
    """A sound SQLite file without our columns is no outbox either."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, text TEXT)")
    other.close()
    outbox = Outbox(path, CAP)
    outbox.put(packed("a"))
    assert names(outbox) == ["a"]
    outbox.close()


def test_damage_found_later_is_counted(path):
    """A page that rots on the card costs the messages in the file, counted; the agent goes on."""
    outbox = Outbox(path, CAP)
    for i in range(10):
        outbox.put(packed(i + 1, 20_000, events=2, hits=5))
    outbox.close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    outbox = Outbox(path, CAP)
    outbox.put(packed("new"))
    assert names(outbox) == ["new"]
    outbox.close()
    again = Outbox(path, CAP)
    assert names(again) == ["new"]
    again.close()


def test_a_file_damaged_under_a_running_agent_is_counted_exactly(path, caplog):
    """What was in the file is known, so the loss is: events and hits."""
    outbox = Outbox(path, CAP)
    for i in range(30):
        outbox.put(packed(i + 1, 20_000, events=2, hits=5))
    outbox.remove([outbox.next_after(0).id])
    for file in (path, path.with_name("outbox.db-wal")):
        with file.open("r+b") as raw:
            raw.seek(4096)
            raw.write(os.urandom(file.stat().st_size - 4096))
    assert names(outbox) == []
    outbox.put(packed("new"))
    assert names(outbox) == ["new"]
    assert outbox.losses.take() == [Loss(OUTBOX_DAMAGED, events=58, hits=145)]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    outbox.close()


# Write budget


def written() -> int:
    """Bytes that this process has handed to write calls."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


@pytest.mark.parametrize(("size", "budget"), [(1_000, 12_000), (4_000, 30_000), (200_000, 600_000)])
def test_the_write_budget_is_kept(path, size, budget):
    """Storing and removing messages costs no more bytes a message than the module's text says."""
    outbox = Outbox(path, CAP)
    before = written()
    for i in range(100):
        outbox.put(packed(i, size))
        outbox.remove([outbox.next_after(0).id])
    assert (written() - before) / 100 < budget
    outbox.close()


def test_looking_writes_nothing(outbox):
    """Reading, expiring nothing and removing nothing costs no write."""
    outbox.put(packed("a"))
    before = written()
    for _ in range(100):
        waiting(outbox)
        outbox.expire(1000)
        outbox.remove([])
    assert written() - before < 1000  # this process may log a line meanwhile


def test_the_log_is_bounded(path):
    """The write-ahead log does not grow with the number of messages."""
    outbox = Outbox(path, CAP)
    for i in range(300):
        outbox.put(packed(i, 20_000))
        assert path.with_name("outbox.db-wal").stat().st_size < 2 * LOG_BYTES
    assert path.stat().st_size < 1.5 * CAP
    outbox.close()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_message_has_exactly_one_fate(tmp_path_factory, data):
    """Whatever happens, put = removed + lost + waiting, in messages' events and hits, in order of age."""
    path = tmp_path_factory.mktemp("fates") / "outbox.db"
    device = FakeClock()
    outbox = Outbox(path, 9_000, clock=device.clock())
    put = removed = lost = 0
    order: list[str] = []
    for step in range(data.draw(st.integers(1, 30))):
        match data.draw(st.sampled_from(["put", "put", "put", "remove", "expire", "reopen", "restart"])):
            case "put":
                outbox.put(packed(step + 1, data.draw(st.integers(1, 5000)), hits=step + 1))
                put += step + 1
                order.append(str(step + 1))
            case "remove":
                ids = [message.id for message in waiting(outbox)]
                removed += outbox.remove(data.draw(st.lists(st.sampled_from(ids))) if ids else []).hits
            case "expire":
                device.pass_time(data.draw(st.floats(0, 100)))
                outbox.expire(100)
            case "reopen" | "restart" as how:
                lost += sum(loss.hits for loss in outbox.losses.take())
                outbox.close()
                if how == "restart":
                    device.restart(data.draw(st.floats(-1e9, 1e9)))
                outbox = Outbox(path, 9_000, clock=device.clock())
    lost += sum(loss.hits for loss in outbox.losses.take())
    rest = waiting(outbox)
    assert put == removed + lost + sum(message.hits for message in rest)
    assert outbox.depth == len(rest)
    assert outbox.bytes == sum(message.total.bytes for message in rest) <= 9_000
    assert names(outbox) == [name for name in order if name in names(outbox)]
    outbox.close()

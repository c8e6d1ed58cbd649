"""A growing file is read once, whatever happens to it."""

import os
import time
from pathlib import Path

import pytest

from vedette.agent.losses import Loss, Losses
from vedette.agent.sources import tail
from vedette.agent.sources.tail import ROTATION_GRACE_S, SLICE, Tail


class Clock:
    """The wall clock, and how far the test has put it on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "auth.log"
    path.write_bytes(b"old\n")
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def everything(followed: Tail) -> bytes:
    return b"".join(iter(followed.read, b""))


def test_only_what_is_new_counts(path: Path):
    """A file that was there before is read from its end."""
    followed = Tail(path)
    append(path, b"new\n")
    assert everything(followed) == b"new\n"
    followed.close()


def test_a_file_that_appears_later_is_read_from_its_beginning(tmp_path: Path):
    """Nothing in it was there before the agent."""
    followed = Tail(tmp_path / "btmp")
    assert not followed.changed()
    (tmp_path / "btmp").write_bytes(b"first\n")
    assert followed.changed()
    assert everything(followed) == b"first\n"
    followed.close()


def test_an_incomplete_item_waits_for_its_rest(path: Path):
    """Half a line is read again when it is whole."""
    followed = Tail(path)
    append(path, b"one\ntw")
    assert everything(followed) == b"one\n"
    assert not followed.changed()
    append(path, b"o\n")
    assert followed.changed()
    assert everything(followed) == b"two\n"
    followed.close()


def test_a_rotated_file_is_finished_before_the_new_one(path: Path):
    """What its writer still appends after the renaming is not lost."""
    clock = Clock()
    followed = Tail(path, clock=clock)
    path.rename(path.with_suffix(".log.1"))
    path.write_bytes(b"second\n")
    append(path.with_suffix(".log.1"), b"first\n")
    assert everything(followed) == b"first\n"
    append(path.with_suffix(".log.1"), b"late\n")
    assert everything(followed) == b"late\n"
    clock.ahead = ROTATION_GRACE_S
    assert followed.changed()
    assert everything(followed) == b"second\n"
    followed.close()


@pytest.mark.parametrize("content", [b"new\n", b"longer than all that stood here before\n"])
def test_a_file_cut_to_nothing_is_read_from_its_beginning(path: Path, content: bytes):
    """Also if it has grown past the old place in the meantime."""
    followed = Tail(path)
    append(path, b"read\n")
    everything(followed)
    path.write_bytes(content)
    assert everything(followed) == content
    followed.close()


def test_reading_goes_on_after_a_restart(path: Path):
    """What came while the agent was away is read once."""
    followed = Tail(path)
    append(path, b"one\n")
    everything(followed)
    position = followed.position()
    followed.close()
    append(path, b"two\n")
    resumed = Tail(path, position)
    assert everything(resumed) == b"two\n"
    resumed.close()


def test_a_rotation_while_the_agent_was_away_loses_nothing(path: Path):
    """The renamed file is found by inode and first bytes, finished, and the new one follows."""
    clock = Clock()
    followed = Tail(path)
    append(path, b"one\n")
    everything(followed)
    position = followed.position()
    followed.close()
    append(path, b"two\n")
    path.rename(path.with_suffix(".log.1"))
    path.write_bytes(b"three\n")
    clock.ahead = ROTATION_GRACE_S
    resumed = Tail(path, position, clock=clock)
    assert everything(resumed) == b"two\nthree\n"
    resumed.close()


def test_another_file_with_the_same_inode_is_not_taken_for_ours(path: Path):
    """File systems give a deleted file's inode to the next one; the first bytes tell them apart."""
    followed = Tail(path)
    position = followed.position()
    followed.close()
    assert position is not None
    path.write_bytes(b"NEW\nmore\n")
    assert os.stat(path).st_ino == position.inode
    resumed = Tail(path, position)
    assert everything(resumed) == b"NEW\nmore\n"
    resumed.close()


def test_the_inside_of_an_overlong_line_is_never_a_line(path: Path):
    """It is skipped to its end and counted, even where a slice begins with a forged line."""
    losses = Losses()
    followed = Tail(path, losses=losses)
    append(path, b"x" * (2 * SLICE) + b"forged" * 20_000 + b"\ngood\n")
    assert everything(followed) == b"good\n"
    assert losses.take() == [Loss(tail.LINE_TOO_LONG, 0, 1)]
    followed.close()


def test_what_is_not_a_regular_file_is_named_and_not_waited_for(tmp_path: Path):
    """A pipe in place of a log does not hold the agent up."""
    os.mkfifo(tmp_path / "auth.log")
    followed = Tail(tmp_path / "auth.log")
    assert followed.read() == b""
    assert followed.problem == "not a regular file"

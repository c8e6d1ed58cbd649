"""Polling /proc: every new process once, whatever the tree shows."""

from collections import Counter
from pathlib import Path

import pytest
from proc_tree import ProcTree

from vedette.agent.losses import TEXT_LOST, TOO_MANY_ITEMS
from vedette.agent.sources import Unavailable, proc_poll
from vedette.agent.sources.proc_poll import ProcPoll
from vedette.agent.sources.process import TEXT_MAX, Seen
from vedette.agent.sources.procfs import PF_KTHREAD


class Watch:
    """A poll of a made-up /proc, and what it said."""

    def __init__(self, tree: ProcTree) -> None:
        self.seen: list[Seen] = []
        self.lost: Counter[str] = Counter()
        self._poll = ProcPoll(self.seen.append, self._lose, tree.path)
        self._poll.begin()

    def _lose(self, reason: str, count: int) -> None:
        self.lost[reason] += count

    def look(self) -> list[Seen]:
        self.seen.clear()
        self._poll.look()
        return list(self.seen)


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path)


def test_what_ran_before_is_not_new(tree: ProcTree):
    """Only what appears after the beginning counts."""
    assert Watch(tree).look() == []


def test_a_new_process_is_seen_once(tree: ProcTree):
    """Its facts are those of /proc, and a second look says nothing more."""
    watch = Watch(tree)
    tree.process(77, b"ls\0-l\0", ppid=5, uid=1000)
    (seen,) = watch.look()
    assert (seen.event, seen.pid, seen.ppid, seen.uid) == ("EXEC", 77, 5, 1000)
    assert (seen.arguments, seen.length, seen.executable) == (b"ls\0-l\0", 6, b"/usr/bin/program")
    assert watch.look() == []


def test_a_reused_process_id_is_a_new_process(tree: ProcTree):
    """Another start time under a known id is another process."""
    watch = Watch(tree)
    tree.process(77, b"first\0", started=100)
    watch.look()
    tree.process(77, b"second\0", started=200)
    assert [seen.arguments for seen in watch.look()] == [b"second\0"]


def test_kernel_threads_are_left_out(tree: ProcTree):
    """They have no command line and executed nothing."""
    watch = Watch(tree)
    tree.process(88, b"", flags=PF_KTHREAD)
    assert watch.look() == []
    assert not watch.lost


def test_a_process_that_ended_before_it_was_read_is_lost(tree: ProcTree):
    """A zombie shows no command line; that it was there is counted."""
    watch = Watch(tree)
    tree.process(88, b"")
    assert watch.look() == []
    assert watch.lost == {TEXT_LOST: 1}


def test_nothing_is_listed_while_nothing_was_forked(tree: ProcTree):
    """loadavg names the last process id given out; while it stays, one read suffices."""
    tree.forked_last(50)
    watch = Watch(tree)
    watch.look()
    tree.process(77, b"unheard\0")
    assert watch.look() == []
    tree.forked_last(77)
    assert [seen.pid for seen in watch.look()] == [77]


def test_long_arguments_are_cut_and_tell_their_length(tree: ProcTree):
    """One page is kept; the real length comes from the kernel's accounting."""
    watch = Watch(tree)
    tree.process(77, b"x" * 9000)
    (seen,) = watch.look()
    assert (len(seen.arguments), seen.length) == (TEXT_MAX, 9000)


def test_without_arguments_the_path_speaks(tree: ProcTree):
    """An empty argv is known by the executable."""
    watch = Watch(tree)
    tree.process(77, b"\0", executable="/opt/tool")
    assert [seen.arguments for seen in watch.look()] == [b"/opt/tool\0"]


def test_more_processes_than_are_followed_are_a_counted_loss(tree: ProcTree, monkeypatch: pytest.MonkeyPatch):
    """The lowest ids are followed, the others counted."""
    monkeypatch.setattr(proc_poll, "PROCESSES_MAX", 2)
    watch = Watch(tree)
    for pid in (20, 30, 40):
        tree.process(pid, b"x\0")
    assert [seen.pid for seen in watch.look()] == [20]
    assert watch.lost == {TOO_MANY_ITEMS: 2}


def test_a_hidden_proc_is_unavailable(tmp_path: Path):
    """Where not even process 1 can be seen, polling says so and what helps."""
    with pytest.raises(Unavailable, match="hidepid"):
        ProcPoll(lambda _seen: None, lambda _reason, _count: None, str(tmp_path))

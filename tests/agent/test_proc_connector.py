"""The process connector: its messages, hostile ones too, and the kernel's own."""

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proc_tree import ProcTree
from spawning import Lingering, needs_root, new_tag, spawn

from vedette.agent.losses import FORK_TABLE_FULL, MALFORMED, SOCKET_OVERRUN, TEXT_LOST
from vedette.agent.sources import proc_connector
from vedette.agent.sources.proc_connector import (
    _CN_MSG,
    _EVENT,
    _NLMSG,
    EVENT_EXEC,
    EVENT_EXIT,
    EVENT_FORK,
    EVENT_NONE,
    NETLINK_CONNECTOR,
    ProcConnector,
    parse,
)
from vedette.agent.sources.process import Seen


def message(what: int, *pids: int, sequence: int = 0, cpu: int = 0) -> bytes:
    """A datagram as the kernel makes it."""
    body = _EVENT.pack(what, cpu, 0) + b"".join(pid.to_bytes(4, "little", signed=True) for pid in pids)
    body = body.ljust(_EVENT.size + 24, b"\0")
    connector = _CN_MSG.pack(1, 1, sequence, 0, len(body), 0)
    return _NLMSG.pack(_NLMSG.size + len(connector) + len(body), 3, 0, sequence, 0) + connector + body


damaged = st.builds(
    lambda position, rest: message(EVENT_FORK, 1, 1, 2, 2)[:position] + rest,
    st.integers(0, 76),
    st.binary(max_size=80),
)
"""Messages that begin well."""


class Heard:
    """A connector over a made-up /proc, and what it said."""

    def __init__(self, proc: str = "/proc") -> None:
        self.seen: list[Seen] = []
        self.lost: Counter[str] = Counter()
        self.connector = ProcConnector(self.seen.append, self._lose, proc)
        self.connector.begin()

    def _lose(self, reason: str, count: int) -> None:
        if count:
            self.lost[reason] += count

    def tell(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.connector.handle(datagram)

    @property
    def told(self) -> list[tuple[str, int, bytes]]:
        return [(seen.event, seen.pid, seen.arguments) for seen in self.seen]


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    tree = ProcTree(tmp_path)
    tree.process(10, b"parent\0", uid=7)
    return tree


@pytest.fixture
def heard(tree: ProcTree) -> Iterator[Heard]:
    heard = Heard(tree.path)
    yield heard
    heard.connector.close()


class TestParsing:
    def test_several_messages_may_share_a_datagram(self):
        """Each is found at its padded length."""
        events = list(parse(message(EVENT_EXEC, 5, 5) + message(EVENT_EXIT, 6, 6)))
        assert [(event.what, event.pids[0]) for event in events] == [(EVENT_EXEC, 5), (EVENT_EXIT, 6)]

    @pytest.mark.parametrize(
        "hostile",
        [
            b"\0",
            message(EVENT_EXEC, 1, 1)[:50],
            b"\0\0\0\0" + message(EVENT_EXEC, 1, 1)[4:],
            b"\xff\xff\xff\xff" + message(EVENT_EXEC, 1, 1)[4:],
            message(EVENT_EXEC, 1, 1)[:16] + _CN_MSG.pack(9, 9, 0, 0, 40, 0) + message(EVENT_EXEC, 1, 1)[36:],
            message(EVENT_EXEC, 1, 1)[:16]
            + _CN_MSG.pack(1, 1, 0, 0, 9999, 0)
            + message(EVENT_EXEC, 1, 1)[36:],
            message(EVENT_EXEC, 1, 1)[:16] + _CN_MSG.pack(1, 1, 0, 0, 1, 0) + message(EVENT_EXEC, 1, 1)[36:],
        ],
        ids=[
            "one byte",
            "cut",
            "no length",
            "endless",
            "other connector",
            "event too long",
            "event too short",
        ],
    )
    def test_what_contradicts_itself_is_refused(self, hostile: bytes):
        """No length in a message is believed before it is checked."""
        with pytest.raises(ValueError, match=r"shorter|length|connector|event"):
            list(parse(hostile))

    @given(st.binary(max_size=200) | damaged)
    def test_any_bytes_are_events_or_an_error(self, data: bytes):
        """Nothing but ValueError comes out of arbitrary bytes and of messages with damage."""
        with contextlib.suppress(ValueError):
            assert len(list(parse(data))) <= len(data) // 52


class TestCounting:
    pytestmark = needs_root

    def test_an_execution_is_read_from_proc(self, heard: Heard, tree: ProcTree):
        """Command line, user, parent and executable are those that /proc shows."""
        tree.process(20, b"ls\0", ppid=10, uid=1000)
        heard.tell(message(EVENT_EXEC, 20, 20))
        (seen,) = heard.seen
        assert (seen.pid, seen.ppid, seen.uid, seen.executable) == (20, 10, 1000, b"/usr/bin/program")

    def test_a_process_that_is_gone_is_a_counted_loss(self, heard: Heard):
        """The kernel told of it, /proc no longer does."""
        heard.tell(message(EVENT_EXEC, 999, 999))
        assert heard.lost == {TEXT_LOST: 1}

    def test_a_child_that_ends_without_executing_is_a_fork(self, heard: Heard):
        """It counts under its parent's command line and user."""
        heard.tell(message(EVENT_FORK, 10, 10, 20, 20), message(EVENT_EXIT, 20, 20))
        assert heard.told == [("FORK", 20, b"parent\0")]
        assert (heard.seen[0].ppid, heard.seen[0].uid) == (10, 7)

    def test_a_child_that_executes_is_no_fork(self, heard: Heard, tree: ProcTree):
        """Fork, exec and exit are one EXEC."""
        tree.process(20, b"ls\0", ppid=10)
        heard.tell(
            message(EVENT_FORK, 10, 10, 20, 20), message(EVENT_EXEC, 20, 20), message(EVENT_EXIT, 20, 20)
        )
        assert heard.told == [("EXEC", 20, b"ls\0")]

    def test_threads_are_no_children(self, heard: Heard):
        """Neither their beginning nor their end counts."""
        heard.tell(message(EVENT_FORK, 10, 10, 21, 20), message(EVENT_EXIT, 21, 20))
        assert heard.told == []
        assert not heard.lost

    def test_a_parent_that_executed_meanwhile_no_longer_tells(self, heard: Heard, tree: ProcTree):
        """What the child inherited is gone then: a loss, not a wrong command line."""
        heard.tell(message(EVENT_FORK, 10, 10, 20, 20))
        tree.process(10, b"other\0")
        heard.tell(message(EVENT_EXEC, 10, 10), message(EVENT_EXIT, 20, 20))
        assert heard.told == [("EXEC", 10, b"other\0")]
        assert heard.lost == {TEXT_LOST: 1}

    def test_a_child_that_lives_on_counts_once(
        self, heard: Heard, tree: ProcTree, monkeypatch: pytest.MonkeyPatch
    ):
        """It is counted when it has settled, under what it shows itself, and not when it ends."""
        monkeypatch.setattr(proc_connector, "SETTLED", 0.0)
        tree.process(20, b"parent\0", ppid=10)
        heard.tell(message(EVENT_FORK, 10, 10, 20, 20))
        heard.connector.settle()
        heard.tell(message(EVENT_EXIT, 20, 20))
        assert heard.told == [("FORK", 20, b"parent\0")]

    def test_the_table_of_children_is_bounded(self, heard: Heard, monkeypatch: pytest.MonkeyPatch):
        """A child that is not followed is a counted loss."""
        monkeypatch.setattr(proc_connector, "FORKS_MAX", 1)
        heard.tell(message(EVENT_FORK, 10, 10, 20, 20), message(EVENT_FORK, 10, 10, 30, 30))
        assert heard.lost == {FORK_TABLE_FULL: 1}

    def test_gaps_in_a_cpus_sequence_are_counted(self, heard: Heard):
        """Each CPU counts its messages; what is missing between two was lost."""
        heard.tell(
            message(EVENT_NONE, 0, sequence=500),
            message(EVENT_EXIT, 1, 1, sequence=7, cpu=0),
            message(EVENT_EXIT, 1, 1, sequence=3, cpu=1),
            message(EVENT_EXIT, 1, 1, sequence=8, cpu=0),
            message(EVENT_EXIT, 1, 1, sequence=14, cpu=1),
        )
        assert heard.lost == {SOCKET_OVERRUN: 10}

    def test_a_sequence_may_wrap_around(self, heard: Heard):
        """It has 32 bits."""
        heard.tell(message(EVENT_EXIT, 1, 1, sequence=0xFFFFFFFF), message(EVENT_EXIT, 1, 1, sequence=1))
        assert heard.lost == {SOCKET_OVERRUN: 1}

    def test_a_malformed_message_is_counted_and_the_next_one_heard(self, heard: Heard, tree: ProcTree):
        """One bad datagram disturbs nothing."""
        tree.process(20, b"ls\0")
        heard.tell(b"rubbish", message(EVENT_EXEC, 20, 20))
        assert heard.told == [("EXEC", 20, b"ls\0")]
        assert heard.lost == {MALFORMED: 1}


class TestTheKernel:
    pytestmark = needs_root

    def test_only_the_kernel_is_believed(self, heard: Heard, tree: ProcTree):
        """What another process sends to the socket is not an event."""
        tree.process(424242, b"forged\0")
        with socket.socket(fileno=os.dup(heard.connector.fd)) as same:
            address = same.getsockname()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR) as forger:
            forger.sendto(message(EVENT_EXEC, 424242, 424242), address)
        while heard.connector.receive():
            pass
        assert not any(seen.arguments == b"forged\0" for seen in heard.seen)

    async def test_an_overrun_is_counted_and_survived(self):
        """While nobody reads 2,000 executions, messages are lost; afterwards the connector works on."""
        heard = Heard()
        await spawn("vfork", 2000, new_tag())
        while heard.connector.receive():
            pass
        tag = new_tag()
        async with Lingering(0, tag):
            while heard.connector.receive():
                pass
        heard.connector.close()
        assert heard.lost[SOCKET_OVERRUN] > 0
        assert any(tag.encode() in seen.arguments for seen in heard.seen)

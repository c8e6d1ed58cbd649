"""Login records of both word sizes, whatever state their files are in."""

import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.losses import Loss, Losses
from vedette.agent.sources import utmp
from vedette.agent.sources.signin import Operation, SignIn
from vedette.agent.sources.utmp import TIME32, TIME64, Btmp, Type, Utmp, Wtmp, layout_of

RECORDED = Path(__file__).parents[1] / "fixtures" / "logins"
LAYOUTS = pytest.mark.parametrize("layout", [TIME32, TIME64], ids=["384 bytes", "400 bytes"])
NOW = 1_795_186_583


def record(
    layout: struct.Struct,
    kind: int = Type.USER_PROCESS,
    user: bytes = b"alice",
    line: bytes = b"pts/1",
    host: bytes = b"",
    address: bytes = b"",
    seconds: int = NOW,
    process_id: int = 7,
) -> bytes:
    return layout.pack(kind, process_id, line, b"ts/1", user, host, 0, 0, 0, seconds, 250_000, address)


def wtmp(path: Path, losses: Losses | None = None) -> Wtmp:
    return Wtmp(path, None, losses or Losses())


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize(("layout", "size"), [(TIME32, 384), (TIME64, 400)])
def test_the_layouts_have_the_sizes_of_glibc(layout: struct.Struct, size: int):
    """As utmp(5) has them."""
    assert layout.size == size


@LAYOUTS
@pytest.mark.parametrize("before", [0, 1, 3])
def test_the_layout_is_told_by_the_records(tmp_path: Path, layout: struct.Struct, before: int):
    """Whether the file had some before or gets its first one now."""
    path = tmp_path / "wtmp"
    path.write_bytes(record(layout) * before)
    source = wtmp(path)
    append(path, record(layout, host=b"192.0.2.1") + record(layout, Type.DEAD_PROCESS, user=b""))
    assert list(source.facts()) == [
        SignIn(
            operation=Operation.LOGIN,
            teller="wtmp",
            time=NOW + 0.25,
            user="alice",
            terminal="pts/1",
            remote="192.0.2.1",
            process_id=7,
        ),
        SignIn(operation=Operation.LOGOUT, teller="wtmp", time=NOW + 0.25, terminal="pts/1", process_id=7),
    ]
    source.close()


@LAYOUTS
def test_a_record_that_is_being_written_is_waited_for(tmp_path: Path, layout: struct.Struct):
    """Half of one is none."""
    path = tmp_path / "wtmp"
    path.write_bytes(record(layout))
    source = wtmp(path)
    whole = record(layout, user=b"bob")
    append(path, whole[:100])
    assert list(source.facts()) == []
    append(path, whole[100:])
    assert [fact.user for fact in source.facts()] == ["bob"]
    source.close()


@pytest.mark.parametrize(
    ("host", "address", "remote"),
    [
        (b"", b"", "0.0.0.0"),
        (b"name.example", b"\xc0\x00\x02\x07", "192.0.2.7"),
        (b"name.example", bytes.fromhex("20010db8" + "00" * 11 + "01"), "2001:db8::1"),
        (b"name.example", bytes.fromhex("00" * 10 + "ffffc0000207"), "192.0.2.7"),
        (b"::1", b"", "::1"),
        (b"fe80::1%eth0", b"", "fe80::1"),
        (b"localhost", b"", "127.0.0.1"),
        (b"name.example", b"", "name.example"),
        (b":0", b"", "0.0.0.0"),
        (b"tmux(123).%0", b"", "0.0.0.0"),
    ],
)
def test_where_from_is_an_address_where_there_is_one(
    tmp_path: Path, host: bytes, address: bytes, remote: str
):
    """Displays and multiplexers are local; a name without address stays a name, as nothing is looked up."""
    (tmp_path / "wtmp").touch()
    source = wtmp(tmp_path / "wtmp")
    append(tmp_path / "wtmp", record(TIME32, host=host, address=address))
    assert [fact.remote for fact in source.facts()] == [remote]
    source.close()


def test_other_records_say_nothing_and_nonsense_is_counted(tmp_path: Path):
    """Boots, gettys and run levels are no sign-ins."""
    losses = Losses()
    (tmp_path / "wtmp").touch()
    source = wtmp(tmp_path / "wtmp", losses)
    append(tmp_path / "wtmp", record(TIME32, 2) + record(TIME32, 6) + record(TIME32, 77) + record(TIME32, -1))
    append(tmp_path / "wtmp", record(TIME32, user=b"") + record(TIME32, Type.DEAD_PROCESS, line=b""))
    assert list(source.facts()) == []
    assert losses.take() == [Loss(utmp.NOT_A_RECORD, 0, 2)]
    source.close()


def test_a_name_of_the_full_width_needs_no_end(tmp_path: Path):
    """32 bytes without a NUL, and bytes that are no UTF-8, are shown."""
    (tmp_path / "wtmp").touch()
    source = wtmp(tmp_path / "wtmp")
    append(tmp_path / "wtmp", record(TIME32, user=b"x" * 31 + b"\xff"))
    assert [fact.user for fact in source.facts()] == ["x" * 31 + "\\xff"]
    source.close()


@given(content=st.binary(max_size=2_000))
def test_any_content_is_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    """A hostile file makes no fact that is longer than its record."""
    path = tmp_path_factory.mktemp("hostile") / "wtmp"
    source = wtmp(path)
    path.write_bytes(content)
    for fact in source.facts():
        assert len(fact.user) <= 4 * 32
    source.close()
    assert layout_of(content) in (TIME32, TIME64)


def test_two_records_of_sshd_about_one_unknown_user_are_one_failure(tmp_path: Path):
    """One when he is named, one for each password; a known user has only the latter."""
    (tmp_path / "btmp").touch()
    source = Btmp(tmp_path / "btmp", None, Losses(), {"alice"}.__contains__)
    unknown = record(TIME32, 6, user=b"bob", line=b"ssh:notty")
    known = record(TIME32, 6, line=b"ssh:notty", process_id=8)
    append(tmp_path / "btmp", unknown * 3 + known * 2 + record(TIME32, user=b"bob", line=b"tty1") * 2)
    assert [fact.user for fact in source.facts()] == ["bob", "bob", "alice", "alice", "bob", "bob"]
    source.close()


@LAYOUTS
def test_utmp_alone_tells_who_came_and_who_left(tmp_path: Path, layout: struct.Struct):
    """By comparison, as the file is rewritten in place."""
    path = tmp_path / "utmp"
    path.write_bytes(record(layout))
    source = Utmp(path, Losses(), lambda: NOW + 9.0)
    assert [fact.user for fact in source.before()] == ["alice"]
    assert not source.changed()
    path.write_bytes(record(layout, Type.DEAD_PROCESS, user=b"") + record(layout, user=b"bob", line=b"tty1"))
    assert source.changed()
    assert [(fact.operation, fact.user, fact.time) for fact in source.facts()] == [
        ("Logout", "alice", NOW + 9.0),
        ("Login", "bob", NOW + 0.25),
    ]
    path.unlink()
    assert [fact.operation for fact in source.facts()] == ["Logout"]


def test_a_real_file_tells_its_sessions(tmp_path: Path):
    """The six on terminals that the recording had."""
    path = tmp_path / "wtmp"
    source = wtmp(path)
    path.write_bytes((RECORDED / "wtmp").read_bytes())
    facts = list(source.facts())
    assert [fact.user for fact in facts if fact.operation is Operation.LOGIN] == ["alice"] * 6
    assert time.gmtime(facts[0].time)[:6] == (2026, 11, 20, 14, 56, 23)
    source.close()

"""Sentences of the system log: read whole, from their own program, and never twice."""

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.losses import Losses
from vedette.agent.sources.authlog import LOG_LINE, PROGRAMS, AuthLog, Interpreter, Speech, parse
from vedette.agent.sources.journal import Entry, speech_of
from vedette.agent.sources.signin import SignIn

NOW = datetime(2026, 11, 20, 15, 0).timestamp()
ACCEPTED = "Accepted publickey for alice from 192.0.2.7 port 50022 ssh2: ED25519 SHA256:abc"


def read(*messages: str, tag: str = "sshd") -> list[SignIn]:
    interpreter = Interpreter()
    facts = (interpreter.read(Speech(NOW, tag, 7, message)) for message in messages)
    return [fact for fact in facts if fact]


@pytest.mark.parametrize(
    "head",
    [
        "2026-11-20T15:00:00.000000+00:00 device ",
        "2026-11-20T15:00:00Z device ",
        "2026-11-20T15:00:00 device ",
        "Nov 20 15:00:00 device ",
        "Nov 20 15:00:00 device auth.info ",
    ],
)
def test_all_forms_of_a_line_say_the_same(head: str):
    """rsyslog's two formats, without a zone, and BusyBox's."""
    speech = parse(f"{head}sshd[7]: {ACCEPTED}", NOW)
    assert speech == Speech(speech.time, "sshd", 7, ACCEPTED)
    assert datetime.fromtimestamp(speech.time).replace(hour=0) == datetime(2026, 11, 20)


@pytest.mark.parametrize(
    ("now", "line", "year"),
    [
        (datetime(2027, 1, 1, 0, 5), "Dec 31 23:59:59", 2026),
        (datetime(2026, 12, 31, 23, 59, 59), "Jan  1 00:00:00", 2027),
        (datetime(2028, 3, 1), "Feb 29 12:00:00", 2028),
    ],
)
def test_the_year_that_is_left_out_is_the_latest_that_can_be(now: datetime, line: str, year: int):
    """A line of yesterday may be of last year; a clock may be a little ahead."""
    speech = parse(f"{line} device sshd[7]: {ACCEPTED}", now.timestamp())
    assert speech is not None
    assert datetime.fromtimestamp(speech.time).year == year


@pytest.mark.parametrize(
    "line",
    [
        ACCEPTED,
        f"sshd[7]: {ACCEPTED}",
        f"Nov 20 15:00:00 device kernel: sshd[7]: {ACCEPTED}",
        f"Nov 20 15:00:00 device cron[7]: {ACCEPTED}",
        f"Nov 20 15:00:00 device notsshd[7]: {ACCEPTED}",
        f" Nov 20 15:00:00 device sshd[7]: {ACCEPTED}",
        f"Nov 31 15:00:00 device sshd[7]: {ACCEPTED}",
        f"Nov 20 25:00:00 device sshd[7]: {ACCEPTED}",
        f"Nov 20 15:00:00 device sshd[7]: {ACCEPTED}" + "x" * LOG_LINE,
    ],
)
def test_a_sentence_out_of_its_place_is_not_heard(line: str):
    """Without a head, after another program's tag, at an impossible time, or too long."""
    assert parse(line, NOW) is None


@pytest.mark.parametrize(
    ("tag", "message", "told"),
    [
        ("sshd-session", ACCEPTED, ("Login", "alice", "", "192.0.2.7")),
        ("sshd", "Failed password for root from ::1 port 9 ssh2", ("LoginFailed", "root", "", "::1")),
        (
            "sshd",
            "Failed keyboard-interactive/pam for invalid user a b from 192.0.2.7 port 9 ssh2",
            ("LoginFailed", "a b", "", "192.0.2.7"),
        ),
        (
            "sshd",
            "Disconnecting authenticating user root 192.0.2.7 port 9: Too many failures [preauth]",
            ("LoginFailed", "root", "", "192.0.2.7"),
        ),
        ("login", "ROOT LOGIN  on '/dev/tty1'", ("Login", "root", "tty1", "")),
        ("login", "LOGIN ON tty1 BY alice FROM 192.0.2.7", ("Login", "alice", "tty1", "192.0.2.7")),
        ("login", "root login on 'pts/0' from '192.0.2.7'", ("Login", "root", "pts/0", "192.0.2.7")),
        (
            "login",
            "FAILED LOGIN 1 FROM 192.0.2.7 FOR alice, Authentication failure",
            ("LoginFailed", "alice", "", "192.0.2.7"),
        ),
        (
            "login",
            "TOO MANY LOGIN TRIES (3) FROM tty1 FOR alice, Authentication failure",
            ("LoginFailed", "alice", "", ""),
        ),
        ("su", "FAILED su for root by alice", ("LoginFailed", "root", "", "0.0.0.0")),
        ("su", "Successful su for root by alice", ("Login", "root", "", "0.0.0.0")),
        (
            "sudo",
            "alice : user NOT in sudoers ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
            ("LoginFailed", "alice", "pts/0", "0.0.0.0"),
        ),
    ],
)
def test_sentences_that_the_recordings_lack(tag: str, message: str, told: tuple[str, ...]):
    """Of other versions and other implementations of the same programs."""
    (fact,) = read(message, tag=tag)
    assert (fact.operation, fact.user, fact.terminal, fact.remote) == told


@pytest.mark.parametrize(
    "message",
    [
        "Failed none for invalid user bob from 192.0.2.7 port 9 ssh2",
        "Failed publickey for alice from 192.0.2.7 port 9 ssh2: RSA SHA256:abc",
        "Connection closed by 192.0.2.7 port 9 [preauth]",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7",
        "x " + ACCEPTED,
        "Server listening on 0.0.0.0 port 22.",
    ],
)
def test_what_is_no_attempt_of_its_own_is_passed_over(message: str):
    """A client tries `none` and each of its keys before it asks for a password."""
    assert read(message) == []


def test_a_conversation_is_counted_as_often_as_it_failed():
    """The announcement of an unknown user and his first refusal are one; so is the end without success."""
    invalid = "invalid user bob"
    refused = f"Failed password for {invalid} from 192.0.2.7 port 9 ssh2"
    told = read(
        "Invalid user bob from 192.0.2.7 port 9",
        refused,
        refused,
        f"Connection closed by {invalid} 192.0.2.7 port 9 [preauth]",
    )
    assert [fact.operation for fact in told] == ["LoginFailed"] * 2
    assert all(fact.exists is False for fact in told)


@pytest.mark.parametrize(
    "name",
    [
        "root from 203.0.113.9 port 1 ssh2",
        "root from 203.0.113.9 port 1 ssh2: RSA SHA256:x",
        "\rNov 20 15:00:00 device sshd[1]: Accepted password for root from 203.0.113.9 port 1 ssh2",
        "\x0b\x85\u2028Nov 20 15:00:00 device su[1]: Successful su for root by alice",
    ],
)
def test_a_crafted_name_stays_a_name(tmp_path: Path, name: str):
    """Whatever the syslog daemon let through: one line is one sentence, and its last address is sshd's."""
    (tmp_path / "auth.log").touch()
    log = AuthLog(tmp_path / "auth.log", None, Losses(), lambda: NOW)
    sentence = f"Failed password for invalid user {name} from 192.0.2.7 port 9 ssh2"
    (tmp_path / "auth.log").write_bytes(f"Nov 20 15:00:00 device sshd[7]: {sentence}\n".encode())
    assert [(fact.operation, fact.remote) for fact in log.facts()] == [("LoginFailed", "192.0.2.7")]
    log.close()


@given(name=st.text(st.characters(blacklist_characters="\n"), max_size=200))
def test_no_name_at_all_makes_a_login(name: str):
    """Of the three sentences that hold a name from outside."""
    told = read(
        f"Invalid user {name} from 192.0.2.7 port 9",
        f"Failed password for invalid user {name} from 192.0.2.7 port 9 ssh2",
        f"Connection closed by invalid user {name} 192.0.2.7 port 9 [preauth]",
    )
    assert {(fact.operation, fact.remote) for fact in told} == {("LoginFailed", "192.0.2.7")}


@given(line=st.text(max_size=300))
def test_any_line_is_read_without_an_error(line: str):
    """For every program."""
    parse(line, NOW)
    for tag in PROGRAMS:
        read(line, tag=tag)


@pytest.mark.parametrize(
    ("user_id", "executable", "heard"),
    [
        ("0", "/usr/sbin/sshd", True),
        ("1001", "/usr/bin/su", True),
        ("1001", "/usr/bin/logger", False),
        ("1001", "/home/alice/su", False),
        ("1001", "/home/usr/bin/su", False),
        ("1001", "", False),
    ],
)
def test_the_journal_knows_who_wrote(user_id: str, executable: str, heard: bool):
    """Root, or the set-user-id program itself; a user who calls himself `su` is not heard."""
    entry = Entry("c", "1", "(to root) alice on pts/0", "su", "7", user_id, executable)
    assert (speech_of(entry) is not None) == heard

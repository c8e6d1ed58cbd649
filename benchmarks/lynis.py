"""Cross-check of the baseline against Lynis (Debian: `apt-get install lynis`), on this machine, as root.

    python benchmarks/lynis.py [--log lynis.log]

Runs `lynis audit system` (several minutes; it may refresh package lists) unless the log of a run is given,
and our baseline in the profile `full`. Prints how many answers agree where both ask the same, and names
each disagreement with what either side saw. Where the two ask different things by design, the table below
says so, and such a disagreement is listed as explained.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vedette.agent.baseline.run import run
from vedette.agent.baseline.scan import Outcome
from vedette.agent.baseline.tree import DiskTree
from vedette.wire.twin import settings_from

LYNIS_SECONDS = 1_800


class Pair(NamedTuple):
    """What Lynis says, in the log of one of its tests, to the question of one of our checks.

    explained: why a different answer would be no mistake of either side.
    """

    number: str
    test: str
    good: str
    bad: str
    explained: str = ""


NEVER = "(?!)"
"""Lynis writes nothing down for this answer."""

_MODULES = "Lynis asks for a line in modprobe.d; a kernel that has no such module passes ours"
_BANNER = "Lynis counts words that warn; ours looks for words that tell the version"
_UPDATES = "Lynis counts security updates; ours all"
_INSTALLED = "Lynis asks whether the server is installed; ours whether anything starts it"
_STRICTER = "Lynis compares the running value; ours asks that configuration keeps it, too"
_PROCESS = "Lynis looks for a running process; ours for what starts it"

_SEPARATE = r"found {} as a separated mount point"
_PART = r"{} not found in mount list"

PAIRS = [
    Pair("1.1.2", "FILE-6310", _SEPARATE.format("/tmp"), _PART.format("/tmp")),
    Pair("1.1.6", "FILE-6310", _SEPARATE.format("/var"), _PART.format("/var")),
    Pair("1.1.13", "FILE-6310", _SEPARATE.format("/home"), _PART.format("/home")),
    Pair("1.1.15", "FILE-6374", NEVER, r"mount option nodev on file system /dev/shm"),
    Pair("1.1.16", "FILE-6374", NEVER, r"mount option nosuid on file system /dev/shm"),
    Pair("1.1.17", "FILE-6374", NEVER, r"mount option noexec on file system /dev/shm"),
    Pair("1.1.21", "FILE-6362", r"sticky bit found on /tmp", NEVER, "Lynis looks at /tmp; ours everywhere"),
    Pair("1.1.23", "USB-1000", r"driver (is|in) disabled", r"not explicitly disabled", _MODULES),
    Pair("1.3.1", "FINT-4350", r"found at least one file integrity tool", r"No file integrity tools found"),
    Pair("1.5.1", "KRNL-5820", r"core dumps are hard disabled", r"core dumps are not explicitly disabled"),
    Pair("1.5.2", "KRNL-5677", r"found No eXecute|both found", r"found no CPU options enabled"),
    Pair("1.6.1.1", "MACF-6290", r"found implemented MAC", r"found no implemented MAC"),
    Pair("1.7.1.2", "BANN-7126", r"Found \d+ key words", r"Found only", _BANNER),
    Pair("1.7.1.3", "BANN-7130", r"Found \d+ key words", r"Found only", _BANNER),
    Pair("1.8", "PKGS-7392", r"no vulnerable packages", r"found .*vulnerable package", _UPDATES),
    Pair("2.1.8", "INSE-8322", r"telnet server is NOT installed", r"telnet server is installed", _INSTALLED),
    Pair("2.1.9", "INSE-8320", r"TFTP server is NOT installed", r"TFTP server is installed", _INSTALLED),
    Pair("2.1.10", "INSE-8100", r"xinetd is NOT installed", r"xinetd is installed", _INSTALLED),
    Pair("2.2.4", "PRNT-2304", r"cups daemon not running", r"cups daemon running", _PROCESS),
    Pair("2.2.6", "LDAP-2219", r"No running slapd", r"Found running slapd", _PROCESS),
    Pair("2.2.8", "NAME-4202", r"BIND not running", r"found BIND process", _PROCESS),
    Pair("2.2.13", "SQD-3602", r"No running Squid", r"Squid daemon is running", _PROCESS),
    Pair("2.2.14", "SNMP-3302", r"No running SNMP", r"SNMP daemon is running", _PROCESS),
    Pair("2.3.1", "INSE-8314", r"NIS client is NOT installed", r"NIS client is installed"),
    Pair("2.3.2", "INSE-8300", r"rsh client is NOT installed", r"rsh client is installed"),
    Pair("2.3.4", "INSE-8310", r"telnet client is NOT installed", r"telnet client is installed"),
    *(
        Pair(f"3.4.{place}", "NETW-3200", NEVER, f"'{protocol}' is really needed", _MODULES)
        for place, protocol in enumerate(("dccp", "sctp", "rds", "tipc"), 1)
    ),
    Pair("3.5.2.1", "FIRE-4508", r"INPUTDROP", r"INPUTACCEPT"),
    Pair("4.1.3", "ACCT-9628", r"auditd running", r"auditd not active", _PROCESS),
    Pair("4.3", "LOGG-2146", r"logrotate configuration found", r"No logrotate configuration found"),
    Pair("5.3.1", "AUTH-9262", r"found at least one PAM module", r"no PAM modules for password strength"),
    Pair("5.4.1.1", "AUTH-9286", r"max password age is", r"aging limits are not configured"),
    Pair("5.4.1.2", "AUTH-9286", r"minimum password age set", r"minimum age is not configured"),
    Pair("5.4.4", "AUTH-9328", r"umask \S+, which is fine", r"which could be improved|more strict"),
    Pair("5.4.5", "SHLL-6220", r"found (several )?TMOUT", r"could not find TMOUT"),
    Pair("6.2.1", "AUTH-9283", r"all accounts seem to have a password", r"accounts without password"),
    Pair("6.2.5", "AUTH-9204", r"No accounts found with UID 0 other than root", r"Found more than one"),
    Pair("6.2.8", "HOME-9304", NEVER, r"not strict enough"),
    Pair("6.2.9", "HOME-9306", r"all users own their home", r"not owned|wrong owner"),
    Pair("6.2.16", "AUTH-9208", r"accounts found in \S+ are unique", r"non-unique|more than once"),
    Pair("6.2.17", "AUTH-9222", r"group ID's are unique", r"non-unique|more than once"),
    Pair("6.2.19", "AUTH-9226", r"group names are unique", r"non-unique|more than once"),
]
"""The words are those of Lynis 3.0.8."""

SYSCTLS = {
    "1.5.3": ["kernel.randomize_va_space"],
    "3.1.2": ["net.ipv4.conf.all.send_redirects"],
    "3.2.1": [f"net.ipv4.conf.{which}.accept_source_route" for which in ("all", "default")],
    "3.2.2": [
        f"net.{ip}.conf.{which}.accept_redirects" for ip in ("ipv4", "ipv6") for which in ("all", "default")
    ],
    "3.2.4": [f"net.ipv4.conf.{which}.log_martians" for which in ("all", "default")],
    "3.2.5": ["net.ipv4.icmp_echo_ignore_broadcasts"],
    "3.2.6": ["net.ipv4.icmp_ignore_bogus_error_responses"],
    "3.2.7": ["net.ipv4.conf.all.rp_filter"],
    "3.2.8": ["net.ipv4.tcp_syncookies"],
}
"""Check → keys that Lynis compares with its profile (test KRNL-6000)."""

FILES = {
    "1.4.1": "/boot/grub/grub.cfg",
    "1.7.1.5": "/etc/issue",
    "1.7.1.6": "/etc/issue.net",
    "5.1.2": "/etc/crontab",
    "5.1.3": "/etc/cron.hourly",
    "5.1.4": "/etc/cron.daily",
    "5.1.5": "/etc/cron.weekly",
    "5.1.6": "/etc/cron.monthly",
    "5.1.7": "/etc/cron.d",
    "5.2.1": "/etc/ssh/sshd_config",
    "6.1.2": "/etc/passwd",
    "6.1.4": "/etc/group",
    "6.1.6": "/etc/passwd-",
    "6.1.8": "/etc/group-",
}
"""Check → file whose permissions Lynis looks at (test FILE-7524)."""


def lynis_log(given: Path | None) -> dict[str, str]:
    """What Lynis wrote down, by test."""
    with tempfile.TemporaryDirectory() as directory:
        log = given or Path(directory) / "lynis.log"
        if given is None:
            report = Path(directory) / "report.dat"
            command = ["lynis", "audit", "system", "--quick", "--quiet", "--no-colors"]
            command += ["--logfile", str(log), "--report-file", str(report)]
            subprocess.run(command, stdin=subprocess.DEVNULL, timeout=LYNIS_SECONDS, check=False)
        text = log.read_text(errors="replace")
    tests: dict[str, str] = {}
    for block in re.split(r"Performing test ID ", text)[1:]:
        title, _, body = block.partition("\n")
        name = title.split()[0]
        tests[name] = tests.get(name, "") + body.split("====", 1)[0]
    return tests


def _said(text: str, good: str, bad: str) -> tuple[bool | None, str]:
    """Lynis' answer with the line that gives it; None if it gave none."""
    for answer, pattern in ((False, bad), (True, good)):
        if found := re.search(rf"(Result|Outcome|Suggestion): .*(?:{pattern}).*", text):
            return answer, found[0][:160]
    return None, ""


def answers(tests: dict[str, str]) -> Iterator[tuple[str, bool, str, str]]:
    """Number, Lynis' answer, its words, and why ours may differ."""
    for pair in PAIRS:
        answer, line = _said(tests.get(pair.test, ""), pair.good, pair.bad)
        if answer is not None:
            yield pair.number, answer, f"{pair.test}: {line}", pair.explained
    for number, keys in SYSCTLS.items():
        said = [
            _said(tests.get("KRNL-6000", ""), rf"{key} contains equal", rf"{key} has a different")
            for key in keys
        ]
        if all(answer is not None for answer, _ in said):
            line = next((line for answer, line in said if not answer), said[0][1])
            yield number, all(answer for answer, _ in said), f"KRNL-6000: {line}", _STRICTER
    for number, path in FILES.items():
        block = re.search(rf"checking if file {path} has.*\n(.*)", tests.get("FILE-7524", ""))
        answer, line = _said(block[1] if block else "", "correct permissions", "not matching")
        if answer is not None:
            yield number, answer, f"FILE-7524: {line}", ""


def main() -> int:
    """Print the comparison; 1 if a disagreement is not explained."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, help="the log of a Lynis run that was made before")
    tests = lynis_log(parser.parse_args().log)
    settings = settings_from({"Baseline_Profile": "full"})
    ours = {outcome.number: outcome for outcome in run(DiskTree(), settings) if outcome}
    agreed = skipped = 0
    explained: list[str] = []
    open_questions: list[str] = []
    for number, answer, line, reason in answers(tests):
        outcome = ours[number]
        if outcome.result in {"SKIP", "ERROR"}:
            skipped += 1
        elif (outcome.result == "PASS") == answer:
            agreed += 1
        else:
            (explained if reason else open_questions).append(_disagreement(outcome, answer, line, reason))
    total = agreed + len(explained) + len(open_questions)
    print(f"both answered {total}: {agreed} agree, {len(explained)} differ by design,", end=" ")
    print(f"{len(open_questions)} are open")
    print(f"we skipped {skipped} that Lynis answered")
    for title, items in (("by design", explained), ("open", open_questions)):
        print(*(f"\n{title}: {item}" for item in items), sep="")
    return int(bool(open_questions))


def _disagreement(outcome: Outcome, answer: bool, line: str, reason: str) -> str:
    words = [
        f"{outcome.number} ours {outcome.result}, Lynis {'PASS' if answer else 'FAIL'}",
        f"  Lynis: {line}",
    ]
    words += [f"  ours:  {evidence}" for evidence in outcome.evidence[:3]]
    return "\n".join([*words, f"  why:   {reason}"] if reason else words)


if __name__ == "__main__":
    sys.exit(main())

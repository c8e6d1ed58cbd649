"""Chapter 6.2: accounts, groups and home directories."""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable

from vedette.agent.baseline.accounts import Account, accounts, groups, people, secrets
from vedette.agent.baseline.declare import (
    Finding,
    Severity,
    Tally,
    check,
    failed,
    passed,
    skipped,
)
from vedette.agent.baseline.device import Device, Line, fact
from vedette.agent.baseline.tree import Directory, Example, File, Node

_ROOT = "root:x:0:0::/root:/bin/bash\n"
_ANN = "ann:x:1000:1000::/home/ann:/bin/bash\n"
_NOBODY = "there are no accounts"


@check(
    "6.2.1",
    "No account has an empty password.",
    "Run `passwd -l <account>`, or set a password.",
    severity=Severity.CRITICAL,
    passing={"/etc/passwd": _ROOT, "/etc/shadow": "root:*:19000::::::\n"},
    failing={"/etc/passwd": _ROOT + "guest::1001:1001::/:/bin/sh\n", "/etc/shadow": "root:*:19000::::::\n"},
    skipping={},
)
def _empty_passwords(device: Device) -> Finding:
    tally = Tally()
    for account in accounts(device):
        secret = secrets(device).get(account.name)
        empty = not account.has_password or (secret is not None and secret.state == "empty")
        tally.add(not empty, f"{account}: {'empty password' if empty else 'password set or locked'}")
    return tally.finding(_NOBODY)


def _no_plus(number: str, path: str) -> None:
    @check(
        number,
        f"{path} takes in no entries of NIS (`+`), by which others would decide who is who.",
        f"Remove the lines that start with + from {path}.",
        severity=Severity.CRITICAL,
        passing={path: "root:x:0:\n"},
        failing={path: "root:x:0:\n+::::::\n"},
        skipping={},
    )
    def probe(device: Device) -> Finding:
        lines = device.lines(path)
        found = [f"{path}: a line starts with +" for line in lines if line.text.startswith("+")]
        if not lines:
            return skipped(f"there is no {path}")
        return failed(*found) if found else passed(f"{path}: {len(lines)} lines, none with +")


for number, name in (("6.2.2", "passwd"), ("6.2.3", "shadow"), ("6.2.4", "group")):
    _no_plus(number, f"/etc/{name}")


@check(
    "6.2.5",
    "root is the only account with uid 0.",
    "Give other accounts a number of their own, or remove them.",
    severity=Severity.CRITICAL,
    passing={"/etc/passwd": _ROOT},
    failing={"/etc/passwd": _ROOT + "toor:x:0:0::/root:/bin/sh\n"},
    skipping={},
)
def _one_root(device: Device) -> Finding:
    tally = Tally()
    for account in accounts(device):
        if account.uid == 0:
            tally.add(account.name == "root", account)
    return tally.finding(_NOBODY)


_PATH_FILES = ("/etc/login.defs", "/etc/environment", "/etc/profile", "/root/.profile", "/root/.bashrc")


@fact
def _root_path(device: Device) -> list[tuple[str, Line]]:
    """The directories in which root's shell looks for programs, with the line that says so."""
    found = []
    for line in device.lines_of(*_PATH_FILES):
        match = re.search(r"^ENV_SUPATH\s+PATH=(\S+)|^(?:export\s+)?PATH=[\"']?([^\"'\s;]+)", line.text)
        if match:
            found += [(part, line) for part in (match[1] or match[2]).split(":") if "$" not in part]
    return found


@check(
    "6.2.6",
    "root runs programs only from directories that nobody else can write.",
    "Remove empty, relative and writable directories from PATH in the files named.",
    severity=Severity.IMPORTANT,
    passing={"/etc/login.defs": "ENV_SUPATH PATH=/usr/sbin:/usr/bin\n", "/usr/bin": Directory()},
    failing={"/etc/login.defs": "ENV_SUPATH PATH=/usr/bin:/opt/bin\n", "/opt/bin": Directory(0o777)},
    skipping={},
)
def _root_programs(device: Device) -> Finding:
    tally = Tally()
    for part, line in _root_path(device):
        if not part.startswith("/"):
            tally.add(False, Line(line.path, f"PATH has a relative or empty part: {part!r}"))
        elif found := device.stat(part):
            others = found.permissions & (stat.S_IWGRP | stat.S_IWOTH)
            tally.add(found.uid == 0 and not others, f"{part}: mode {found.permissions:04o}, uid {found.uid}")
    return tally.finding("no file sets PATH for root")


# Homes: what each account of a person has


def _at_home(
    number: str,
    sentence: str,
    remedy: str,
    look: Callable[[Device, Account], Iterable[tuple[bool, object]]],
    *,
    good: dict[str, Node],
    bad: dict[str, Node],
    severity: Severity = Severity.WARNING,
) -> None:
    passwd: Example = {"/etc/passwd": _ANN}

    @check(
        number,
        sentence,
        remedy,
        severity=severity,
        passing={**passwd, **good},
        failing={**passwd, **bad},
        skipping={},
    )
    def probe(device: Device) -> Finding:
        tally = Tally()
        for account in people(device):
            for fine, evidence in look(device, account):
                tally.add(fine, evidence)
        finding = tally.finding("")
        if finding.evidence:
            return finding
        return passed("nothing of the kind in any home") if people(device) else skipped(_NOBODY)


_HOME = Directory(0o750, uid=1000, gid=1000)


def _exists(device: Device, account: Account) -> Iterable[tuple[bool, object]]:
    found = device.stat(account.home)
    yield found is not None and found.is_directory, f"{account}: home {account.home}"


def _closed(device: Device, account: Account) -> Iterable[tuple[bool, object]]:
    if found := device.stat(account.home):
        yield not found.permissions & 0o027, f"{account.home}: mode {found.permissions:04o}"


def _owned(device: Device, account: Account) -> Iterable[tuple[bool, object]]:
    if found := device.stat(account.home):
        yield (
            found.uid == account.uid,
            f"{account.home} of {account.name} (uid {account.uid}): uid {found.uid}",
        )


def _dot_files(device: Device, account: Account) -> Iterable[tuple[bool, object]]:
    for path in device.glob(f"{account.home}/.[A-Za-z0-9]*"):
        if (found := device.tree.lstat(device.resolve(path) or path)) and found.is_file:
            yield not found.permissions & 0o022, f"{path}: mode {found.permissions:04o}"


def _absent(name: str) -> Callable[[Device, Account], Iterable[tuple[bool, object]]]:
    def look(device: Device, account: Account) -> Iterable[tuple[bool, object]]:
        path = f"{account.home.rstrip('/')}/{name}"
        if device.exists(path):
            yield False, path

    return look


def _netrc_mode(device: Device, account: Account) -> Iterable[tuple[bool, object]]:
    path = f"{account.home.rstrip('/')}/.netrc"
    if found := device.stat(path):
        yield not found.permissions & 0o077, f"{path}: mode {found.permissions:04o}"


_at_home(
    "6.2.7",
    "Everybody who can sign in has a home directory.",
    "Make the directories named, or close the accounts.",
    _exists,
    good={"/home/ann": _HOME},
    bad={"/home": Directory()},
)
_at_home(
    "6.2.8",
    "Homes are closed to others (0750 or less).",
    "Run `chmod g-w,o-rwx` on the homes named.",
    _closed,
    good={"/home/ann": _HOME},
    bad={"/home/ann": Directory(0o755, uid=1000)},
)
_at_home(
    "6.2.9",
    "Homes belong to their users.",
    "Run `chown` on the homes named.",
    _owned,
    good={"/home/ann": _HOME},
    bad={"/home/ann": Directory(0o750, uid=0)},
    severity=Severity.IMPORTANT,
)
_at_home(
    "6.2.10",
    "Nobody else can write the files that start a user's session (dot files).",
    "Run `chmod go-w` on the files named.",
    _dot_files,
    good={"/home/ann/.profile": File("", 0o644)},
    bad={"/home/ann/.profile": File("", 0o666)},
    severity=Severity.IMPORTANT,
)

for number, name, why in (
    ("6.2.11", ".forward", "sends mail, and what is in it, elsewhere"),
    ("6.2.12", ".netrc", "holds passwords in the clear"),
    ("6.2.14", ".rhosts", "lets other hosts in without a password"),
):
    _at_home(
        number,
        f"No home has a file {name}, which {why}.",
        f"Remove the files named {name}.",
        _absent(name),
        good={"/home/ann": _HOME},
        bad={f"/home/ann/{name}": ""},
        severity=Severity.IMPORTANT,
    )

_at_home(
    "6.2.13",
    "A .netrc, where there is one, is for its owner's eyes only.",
    "Run `chmod 600` on the files named, or remove them.",
    _netrc_mode,
    good={"/home/ann/.netrc": File("", 0o600)},
    bad={"/home/ann/.netrc": File("", 0o644)},
    severity=Severity.IMPORTANT,
)


@check(
    "6.2.15",
    "Every account's group exists.",
    "Make the groups named in /etc/group.",
    passing={"/etc/passwd": _ANN, "/etc/group": "ann:x:1000:\n"},
    failing={"/etc/passwd": _ANN, "/etc/group": "root:x:0:\n"},
    skipping={},
)
def _groups_exist(device: Device) -> Finding:
    known = {group.gid for group in groups(device)}
    tally = Tally()
    for account in accounts(device):
        tally.add(account.gid in known, f"{account}: gid {account.gid}")
    return tally.finding(_NOBODY)


def _unique(
    number: str, what: str, path: str, list_of: Callable[[Device], list[str]], good: str, bad: str
) -> None:
    @check(
        number,
        f"Every {what} stands for one only.",
        f"Change all but one of the entries of {path} that share what is named, and their files.",
        severity=Severity.IMPORTANT,
        passing={path: good},
        failing={path: good + bad},
        skipping={},
    )
    def probe(device: Device) -> Finding:
        counts = Counter(list_of(device))
        twice = [
            f"{path}: {what} {value} stands {times} times" for value, times in counts.items() if times > 1
        ]
        if not counts:
            return skipped(f"there is no {path}")
        return failed(*twice) if twice else passed(f"{path}: {len(counts)} entries, all different")


_unique(
    "6.2.16",
    "user number",
    "/etc/passwd",
    lambda device: [str(account.uid) for account in accounts(device)],
    _ROOT + _ANN,
    "bob:x:1000:1001::/home/bob:/bin/sh\n",
)
_unique(
    "6.2.17",
    "group number",
    "/etc/group",
    lambda device: [str(group.gid) for group in groups(device)],
    "root:x:0:\nann:x:1000:\n",
    "bob:x:1000:\n",
)
_unique(
    "6.2.18",
    "user name",
    "/etc/passwd",
    lambda device: [account.name for account in accounts(device)],
    _ROOT + _ANN,
    "ann:x:1001:1001::/home/ann:/bin/sh\n",
)
_unique(
    "6.2.19",
    "group name",
    "/etc/group",
    lambda device: [group.name for group in groups(device)],
    "root:x:0:\nann:x:1000:\n",
    "ann:x:1001:\n",
)


@check(
    "6.2.20",
    "Nobody is in the group shadow, whose members can read all password hashes.",
    "Remove the members from the line of shadow in /etc/group.",
    severity=Severity.CRITICAL,
    passing={"/etc/group": "shadow:x:42:\n"},
    failing={"/etc/group": "shadow:x:42:ann\n"},
    skipping={},
)
def _shadow_group(device: Device) -> Finding:
    group = next((group for group in groups(device) if group.name == "shadow"), None)
    if group is None:
        return skipped("there is no group shadow")
    members = [*group.members, *(account.name for account in accounts(device) if account.gid == group.gid)]
    return failed(f"{group}: {', '.join(members)}") if members else passed(f"{group}: no members")

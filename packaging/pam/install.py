#!/usr/bin/env python3
"""Puts the sign-in hook into a device's PAM configuration, and takes it out again.

    install.py show       print the edits that `install` would make
    install.py install    print them, ask, make them
    install.py remove     the same for taking the hook out

Two kinds of edits, each to files that exist and that this program understands; others are named and left
alone:

- Failures. One line before the `pam_deny.so` that ends the authentication stack, where only what failed
  arrives. Modules that jump over `pam_deny.so` on success jump over one line more. If the hook is missing
  or fails, its line is ignored and `pam_deny.so` follows: a wrong password is refused all the same, and a
  right one never gets there.
- Logins. One line at the top of a service's session stack, above anything that reads a user's environment.
  A hook that fails does not keep anybody out.

Logouts need no edit: the agent sees the process of the session end.

On Debian, `pam-auth-update` finds common-auth changed afterwards and asks before it writes it again; say
no, or remove the hook first and install it again.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

HOOK = "usr/lib/vedette/pam-hook"
LOG = "var/log/vedette/pam.log"
FAILURE_LINE = f"auth [default=ignore] pam_exec.so quiet seteuid /{HOOK} 2"
LOGIN_LINE = f"session [default=ignore] pam_exec.so quiet seteuid type=open_session /{HOOK} 0"

STACKS = ("common-auth", "system-auth", "password-auth")
"""Files that end an authentication stack: Debian and its family, Red Hat and its family."""

SERVICES = ("sshd", "dropbear", "login", "remote", "su", "su-l", "sudo", "sudo-i")
"""Programs that sign users in. `remote` is telnet's on Red Hat; on Debian telnet is `login`."""

_RULE = re.compile(
    r"\s*-?(?P<kind>auth|account|password|session)\s+(?P<control>\[[^\]]*\]|\S+)\s+(?P<module>\S+)"
)
_INCLUDE = re.compile(r"\s*@include\s+(?P<file>\S+)")
_JUMP = re.compile(r"(?<==)\d+")


class NotUnderstood(Exception):
    """A file is not of a form that can be edited safely; the text says why."""


def _rules(lines: list[str], kind: str) -> list[int]:
    """Which lines are rules of a kind, includes among them, in order."""
    found = []
    for number, line in enumerate(lines):
        rule, include = _RULE.match(line), _INCLUDE.match(line)
        if (rule and rule["kind"] == kind) or include:
            found.append(number)
    return found


def _shift(lines: list[str], before: int, step: int) -> None:
    """Adjust the jumps of authentication rules that lead past the rule in line `before`."""
    rules = _rules(lines, "auth")
    place = rules.index(before)
    for index, number in enumerate(rules[:place]):
        rule = _RULE.match(lines[number])
        if not rule:
            continue
        between = [lines[other] for other in rules[index + 1 : place]]

        def jump(match: re.Match[str], index: int = index, between: list[str] = between) -> str:
            distance = int(match[0])
            if index + 1 + distance <= place + (step < 0):
                return match[0]
            if any(_INCLUDE.match(line) or re.search(r"\sinclude\s", line) for line in between):
                raise NotUnderstood("a rule jumps over an include")
            return str(distance + step)

        start, end = rule.span("control")
        control = _JUMP.sub(jump, rule["control"])
        lines[number] = lines[number][:start] + control + lines[number][end:]


def with_failures(text: str) -> str:
    """The text of an authentication stack with the hook. Raises NotUnderstood."""
    lines = _lines(text)
    deny = next(
        (number for number in _rules(lines, "auth") if "pam_deny.so" in lines[number].split("#")[0]), None
    )
    if deny is None:
        raise NotUnderstood("no auth rule with pam_deny.so ends it")
    _shift(lines, deny, +1)
    lines.insert(deny, FAILURE_LINE)
    return "\n".join(lines)


def with_logins(text: str) -> str:
    """The text of a service with the hook. Raises NotUnderstood."""
    lines = _lines(text)
    if any(_includes_service(lines[number]) for number in _rules(lines, "session")):
        return text  # su-l includes su: once is enough
    for number in _rules(lines, "session"):
        include = _INCLUDE.match(lines[number])
        if include and "session" not in include["file"]:
            continue
        if re.search(r"pam_selinux\.so\s+close", lines[number]):
            continue  # wants to be the first, and reads nothing of the user's
        lines.insert(number, LOGIN_LINE)
        return "\n".join(lines)
    raise NotUnderstood("no session rule")


def _includes_service(line: str) -> bool:
    words = line.split()
    return "include" in words and words[-1] in SERVICES


def without(text: str) -> str:
    """The text as it was before the hook came in."""
    lines = text.split("\n")
    while FAILURE_LINE in lines:
        place = lines.index(FAILURE_LINE)
        _shift(lines, place, -1)
        del lines[place]
    return "\n".join(line for line in lines if line != LOGIN_LINE)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if any(line.rstrip().endswith("\\") for line in lines):
        raise NotUnderstood("lines are continued with a backslash")
    return lines


def edits(root: Path, *, install: bool) -> Iterator[tuple[Path, str, str]]:
    """Yield (file, text now, text then) for each file that would change. What is left alone is printed."""
    for names, change in ((STACKS, with_failures), (SERVICES, with_logins)):
        for name in names:
            path = root / "etc/pam.d" / name
            if not path.exists():
                continue
            now = path.read_text(errors="surrogateescape")
            try:
                then = change(without(now)) if install else without(now)
                if then != now and path.is_symlink():
                    raise NotUnderstood("a link, so another program owns it")
            except NotUnderstood as reason:
                sys.stderr.write(f"{path} is left alone: {reason}\n")
                continue
            if then != now:
                yield path, now, then


def show(changes: list[tuple[Path, str, str]]) -> None:
    """Print the edits as a unified diff."""
    for path, now, then in changes:
        sys.stdout.writelines(
            difflib.unified_diff(now.splitlines(True), then.splitlines(True), str(path), f"{path} (new)")
        )


def write(path: Path, text: str) -> None:
    """Replace a file in one step, with its owner and mode."""
    known = path.stat()
    draft = path.with_name(f".{path.name}.vedette")
    with draft.open("w", errors="surrogateescape") as file:
        os.fchown(file.fileno(), known.st_uid, known.st_gid)
        os.fchmod(file.fileno(), known.st_mode & 0o7777)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def place_hook(root: Path) -> None:
    """The hook and the log it writes: both root's, the log for nobody else to read."""
    hook, log = root / HOOK, root / LOG
    hook.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("hook"), hook)
    hook.chmod(0o755)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.touch(mode=0o600)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("show", "install", "remove"))
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--root", type=Path, default=Path("/"), help="the device's root directory")
    given = parser.parse_args(arguments)
    install = given.action != "remove"
    changes = list(edits(given.root, install=install))
    show(changes)
    if given.action == "show":
        return 0
    if changes and not given.yes and input("Make these changes? [y/N] ").strip().lower() != "y":
        sys.stdout.write("Nothing was changed.\n")
        return 1
    if install:
        place_hook(given.root)  # before anything calls it
    for path, _, then in changes:
        write(path, then)
    if not install:
        (given.root / HOOK).unlink(missing_ok=True)  # after nothing calls it any more
    return 0


if __name__ == "__main__":
    sys.exit(main())

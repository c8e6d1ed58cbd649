"""Facts about accounts: passwd, shadow, group, login.defs. Password fields never leave this module."""

from __future__ import annotations

import re
from typing import NamedTuple

from vedette.agent.baseline.device import Device, Line, fact

NOBODY = 65534

NO_LOGIN = frozenset({"nologin", "false", "true", "halt", "shutdown", "sync"})
"""Shells that let nobody in."""


class Account(NamedTuple):
    """A line of passwd. Numbers that are none are -1."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    has_password: bool
    """False where the password field is empty: no password is asked."""

    @property
    def may_login(self) -> bool:
        """True if its shell is one."""
        return self.shell.rpartition("/")[2] not in NO_LOGIN

    def __str__(self) -> str:
        return f"/etc/passwd: {self.name} (uid {self.uid})"


class Secret(NamedTuple):
    """A line of shadow without its secret. Days are None where nothing is set."""

    name: str
    state: str
    """`set`, `locked` or `empty`."""
    changed: int | None
    minimum: int | None
    maximum: int | None
    warning: int | None
    inactive: int | None

    def __str__(self) -> str:
        return f"/etc/shadow: {self.name}"


class Group(NamedTuple):
    """A line of group."""

    name: str
    gid: int
    members: tuple[str, ...]

    def __str__(self) -> str:
        return f"/etc/group: {self.name} (gid {self.gid})"


def _number(field: str) -> int:
    return int(field) if field.isascii() and field.isdigit() else -1


def _fields(device: Device, path: str, least: int) -> list[list[str]]:
    rows = (line.text.split(":") for line in device.lines(path))
    return [row for row in rows if len(row) >= least and row[0][:1] not in {"+", "-"}]


@fact
def accounts(device: Device) -> list[Account]:
    """Every account of passwd."""
    return [
        Account(row[0], _number(row[2]), _number(row[3]), row[5], row[6], row[1] != "")
        for row in _fields(device, "/etc/passwd", 7)
    ]


@fact
def secrets(device: Device) -> dict[str, Secret]:
    """Account → what shadow says about its password."""
    found = {}
    for row in _fields(device, "/etc/shadow", 8):
        state = "empty" if row[1] == "" else "locked" if row[1][0] in "*!" else "set"
        days = [int(field) if field.isascii() and field.isdigit() else None for field in row[2:7]]
        found[row[0]] = Secret(row[0], state, *days)
    return found


@fact
def groups(device: Device) -> list[Group]:
    """Every group."""
    return [
        Group(row[0], _number(row[2]), tuple(filter(None, row[3].split(","))))
        for row in _fields(device, "/etc/group", 4)
    ]


@fact
def login_defs(device: Device) -> dict[str, Line]:
    """Keyword → its line in login.defs."""
    return {line.text.split()[0]: line for line in device.lines("/etc/login.defs")}


def login_number(device: Device, keyword: str) -> int | None:
    """A number of login.defs; None if it is not there or no number."""
    line = login_defs(device).get(keyword)
    fields = line.text.split() if line else []
    return int(fields[1]) if len(fields) > 1 and re.fullmatch(r"-?\d+", fields[1]) else None


@fact
def people(device: Device) -> list[Account]:
    """Accounts that somebody could sign in with: those that have a shell, of whatever number. A service
    whose account has one has a home that is worth as much to an intruder."""
    return [account for account in accounts(device) if account.may_login and account.uid != NOBODY]

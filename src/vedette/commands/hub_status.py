"""`vedette hub status`: how the hub is, whether it runs or not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from vedette.commands import UsageError, add_command, add_state, print_json

if TYPE_CHECKING:
    from vedette.hub.status import HubStatus

LABEL = 16
"""Width of the column of names."""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the action of `vedette hub`."""
    status = add_command(
        actions,
        "status",
        "tell how the hub is: lake, registry, leases, detection, certificate, disk",
        "Asks the hub on this machine if one runs, and reads the rest from the state directory, the lake and"
        " the registry, so that it also tells why a hub does not start. The exit status is 1 if there is"
        " something to look at.",
        "  vedette hub status\n  vedette hub status --json | jq .problems",
    )
    status.add_argument(
        "--json", action="store_true", help="print JSON: times in Unix seconds, sizes in bytes"
    )
    add_state(status)
    status.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from vedette.commands.state import state_of
    from vedette.hub.settings import HubError
    from vedette.hub.status import look

    try:
        status = look(state_of(options))
    except HubError as error:
        raise UsageError(str(error)) from None
    if options.json:
        print_json(msgspec.to_builtins(status))
    else:
        for label, text in _lines(status):
            print(f"{label:<{LABEL}}{text}")
    return 1 if status.problems else 0


def _lines(status: HubStatus) -> Iterator[tuple[str, str]]:
    """What is printed: a name and a text a line."""
    local, lake, registry = status.local, status.lake, status.registry
    yield "state", status.state
    yield "hub", f"{_condition(status)} at {local.address}"
    if local.answers:
        yield "backlog", f"{local.waiting:,} rows wait for a commit; {local.connected:,} connected here"
    yield "lake", lake.location or lake.fault
    for table in lake.tables:
        yield (
            f"  {table.name}",
            table.fault
            or (
                f"{table.rows:,} rows in {table.files:,} files, {_size(table.bytes)};"
                f" version {table.version}, {_ago(table.committed)}"
            ),
        )
    yield "registry", registry.location
    if not registry.fault:
        yield "  devices", f"{registry.devices:,}, {registry.connected:,} connected"
    for hub in registry.hubs:
        yield "  hub", f"{hub.name} ({hub.role}, {hub.version}), seen {hub.age:.0f} s ago"
    for lease in registry.leases:
        yield f"  {lease.work}", f"by {lease.holder}, renewed {lease.age:.0f} s ago"
    yield "detection", _detection(status)
    yield "certificate", f"expires {_day(status.certificate_expires)}"
    yield "disk", f"{_size(status.disk.free)} of {_size(status.disk.total)} free"
    for problem in status.problems:
        yield "PROBLEM", problem


def _condition(status: HubStatus) -> str:
    if not status.local.answers:
        return "down"
    return f"ready ({status.local.role})" if status.local.ready else "not ready"


def _detection(status: HubStatus) -> str:
    if status.behind is not None:
        return f"{status.behind} commits behind"
    return "has not begun" if status.registry.judged_until is None else "is catching up"


def _ago(seconds: float | None) -> str:
    """When the latest commit was."""
    if seconds is None:
        return "no commit"
    return f"last commit {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _day(seconds: float | None) -> str:
    return "?" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"

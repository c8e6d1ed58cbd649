"""`vedette up`: hub and agent on this machine, and a live table of what it runs."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.commands import UsageError, add_command
from vedette.commands.device import DEFAULT_MODULE
from vedette.commands.hub import add_listening, initialise, introduce_console
from vedette.wire.iothub import ConnectionString, Identity

if TYPE_CHECKING:
    from rich.table import Table

    from vedette.hub.lake import Lake
    from vedette.hub.registry import Registry
    from vedette.hub.settings import HubSettings, HubState

DEMO_SETTINGS = {"CollectorsCore_PriorityIntervals": "0.05,0.1,0.5"}
"""Send intervals of 3, 6 and 30 s: minutes suit a fleet's bill, seconds a person who watches."""

READY_S = 120.0
"""Until when a hub must answer: it takes 1 to 2 s on two cores, many times that on a board that is busy."""

STOP_S = 15.0
"""Until when a stopped part must have flushed and ended; after that it is killed."""

REFRESH_S = 2.0
ROWS = 15

TOP = """\
Process
| where DeviceId == '{device}' and TimeGenerated > ago(1h)
| summarize Hits=sum(HitCount), First=min(TimeStamp) by Commandline, EventType, UserName
| top {rows} by Hits desc"""


OTHERS = """\
SecurityIoTRawEvent
| where DeviceId == '{device}' and TimeGenerated > ago(1h)
| summarize Events=count() by RawEventName
| order by RawEventName asc"""

FAILED = """\
Baseline
| where DeviceId == '{device}'
| summarize arg_max(TimeStamp, BaselineCheckResult) by BaselineCheckId
| where BaselineCheckResult == 'FAIL'
| count"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    up = add_command(
        subparsers,
        "up",
        "run hub and agent on this machine, with a live table",
        "Makes a state directory with a private authority, certificate and identity at the first start,"
        " and goes on with it at the next. Ctrl-C stops both. Without root the agent sees less, and says so.",
        "  vedette up\n  vedette up --state /tmp/try --mqtt-port 18883 --https-port 18443\n"
        "  vedette up --no-agent --bind 192.0.2.10 --host hub.example.org",
    )
    up.add_argument(
        "--state", type=Path, metavar="DIR", help="state directory (default: as for `vedette hub`)"
    )
    add_listening(up)
    up.add_argument("--host", action="append", metavar="NAME", help="name that other devices call the hub by")
    up.add_argument("--no-agent", action="store_true", help="run the hub alone")
    up.add_argument("--plain", action="store_true", help="no live table; print it once a minute at most")
    up.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from vedette.hub.settings import HubError, HubState, check_port, default_state

    root = (options.state or default_state()).absolute()
    state = HubState(root / "hub")
    if options.host:
        options.host = [*dict.fromkeys((*options.host, "localhost", "127.0.0.1"))]
    try:
        settings = initialise(state, options)
        check_port(settings.bind, settings.mqtt_port, "--mqtt-port")
        check_port(settings.bind, settings.https_port, "--https-port")
    except HubError as error:
        raise UsageError(str(error)) from None
    introduce_console(state, settings)  # before the hub does it, whose words go into its log
    # Ctrl-C ends the table; the parts are then stopped in order: the agent flushes into a hub that is up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as parts:
        hub = parts.enter_context(_part("hub", ["hub", "run", "--state", str(state.root)], root))
        _wait_ready(hub, settings, state)
        device = ""
        if not options.no_agent:
            device = _enrol(state, settings, root / "agent")
            parts.enter_context(_part("agent", _agent_arguments(root, settings), root))
        _introduce(root, settings, device)
        try:
            _watch(state, device, hub, plain=options.plain or not sys.stdout.isatty())
        except KeyboardInterrupt:
            print("\nstopping …")
    return 0


def _agent_arguments(root: Path, settings: HubSettings) -> list[str]:
    agent = str(root / "agent")
    return ["agent", "run", "--config", agent, "--state", agent, "--port", str(settings.mqtt_port)]


def _enrol(state: HubState, settings: HubSettings, directory: Path) -> str:
    """Register this machine and write its agent's local files; returns the device id."""
    from vedette.agent.settings import CA_FILE, CONNECTION_STRING, write_private
    from vedette.hub.registry import Registry

    device = socket.gethostname().split(".")[0][:128] or "localhost"
    identity = Identity(device, DEFAULT_MODULE)
    registry = Registry(state.registry_url)
    try:
        known = registry.get(identity) or _register(registry, identity)
    finally:
        registry.close()
    host = "localhost" if "localhost" in settings.host_names else settings.host_names[0]
    directory.mkdir(mode=0o700, exist_ok=True)
    connection = ConnectionString(host, identity, known.primary_key)
    write_private(directory / CONNECTION_STRING, connection.format().encode())
    write_private(directory / CA_FILE, (state.pki / "ca.pem").read_bytes())
    return device


def _register(registry: Registry, identity: Identity) -> Any:
    device = Identity(identity.device_id)
    if registry.get(device) is None:
        registry.add(device)
    record = registry.add(identity)
    registry.patch_desired(identity, DEMO_SETTINGS)
    return record


def _with_parent() -> None:
    """In the child: have the kernel end it if the parent dies without stopping it."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


@contextmanager
def _part(name: str, arguments: list[str], root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `vedette` command running beside this one, its log in the state directory; stopped at the end."""
    command = [sys.executable, "-m", "vedette.cli", *arguments]
    with (root / f"{name}.log").open("ab") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then stops the parts in order.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_with_parent,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            print(f"the {name} did not stop within {STOP_S:.0f} s and is killed", file=sys.stderr)
            process.kill()
            process.wait()


def _wait_ready(hub: subprocess.Popen[bytes], settings: HubSettings, state: HubState) -> None:
    """Wait until the hub completes a TLS handshake. Raises UsageError with the end of its log."""
    context = ssl.create_default_context(cafile=str(state.pki / "ca.pem"))
    address = "127.0.0.1" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104
    deadline = time.monotonic() + READY_S
    while hub.poll() is None and time.monotonic() < deadline:
        try:
            with (
                socket.create_connection((address, settings.https_port), timeout=2) as plain,
                context.wrap_socket(plain, server_hostname=settings.host_names[0]),
            ):
                return
        except OSError:
            time.sleep(0.1)
    log = state.root.parent / "hub.log"
    tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:])
    raise UsageError(f"the hub did not start; the end of {log}:\n{tail}")


def _introduce(root: Path, settings: HubSettings, device: str) -> None:
    host = settings.host_names[0]
    print(f"state      {root}  (logs: hub.log, agent.log)")
    print(f"devices    mqtts://{host}:{settings.mqtt_port}")
    print(f"https      https://{host}:{settings.https_port}")
    print(f"query      vedette query --state {root / 'hub'} 'Process | top 10 by HitCount'")
    if device:
        print(f"agent      this machine, as device {device}")
    if device and os.geteuid() != 0:
        print("           not root: processes are polled, short ones are missed (see: vedette agent probe)")
    sys.stdout.flush()


def _watch(state: HubState, device: str, hub: subprocess.Popen[bytes], *, plain: bool) -> None:
    """Show the top process events until interrupted, or until the hub ends."""
    from rich.console import Console
    from rich.live import Live

    from vedette.hub.lake import Lake

    lake = Lake(state.lake)
    console = Console()
    if plain or not device:
        while hub.poll() is None:
            time.sleep(60 if device else REFRESH_S)
            if device:
                console.print(_table(lake, device))
    else:
        with Live(_table(lake, device), console=console, auto_refresh=False) as live:
            while hub.poll() is None:
                live.update(_table(lake, device), refresh=True)
                time.sleep(REFRESH_S)
    raise UsageError(f"the hub ended by itself; see {state.root.parent / 'hub.log'}")


def _table(lake: Lake, device: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from vedette.hub.lake import QueryError

    table = Table(box=box.SIMPLE, title=f"what {device} runs (last hour)", title_justify="left", expand=True)
    table.add_column("hits", justify="right")
    table.add_column("event")
    table.add_column("user")
    table.add_column("command line", ratio=1, no_wrap=True)
    table.add_column("first seen (UTC)")
    try:
        for row in _rows(lake, TOP, device):
            # Text, not markup: a command line may look like one.
            command = Text(str(row["Commandline"]))
            user, first = row["UserName"] or "", f"{row['First']:%H:%M:%S}"
            table.add_row(f"{row['Hits']:,}", row["EventType"], user, command, first)
        table.caption = _others(lake, device)
    except QueryError as error:
        table.caption = str(error)
    return table


def _others(lake: Lake, device: str) -> str:
    """What else the device told, in a line."""
    counts = {row["RawEventName"]: row["Events"] for row in _rows(lake, OTHERS, device)}
    if not counts:
        return "waiting for the first events …"
    if "Baseline" in counts:
        baseline = f"failed baseline checks: {_rows(lake, FAILED, device)[0]['Count']}"
    else:
        baseline = "the first baseline scan takes some minutes"
    return f"events: {', '.join(f'{name} {count:,}' for name, count in counts.items())}; {baseline}"


def _rows(lake: Lake, query: str, device: str) -> list[dict[str, Any]]:
    result = lake.query(query.format(device=device.replace("'", ""), rows=ROWS))
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]

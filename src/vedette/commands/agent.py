"""`vedette agent`: run the agent, look at one cycle, ask what the machine offers."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.commands import UsageError, add_command, print_json, print_table

if TYPE_CHECKING:
    from vedette.agent.roster import Batch, Status


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    agent = add_command(subparsers, "agent", "run the agent, or see what it would do here")
    actions = agent.add_subparsers(metavar="ACTION", required=True)

    run = add_command(
        actions,
        "run",
        "run the agent until SIGINT or SIGTERM",
        "Needs root or CAP_BPF, CAP_PERFMON and CAP_NET_RAW to count in the kernel; without them it polls.",
        "  vedette agent run --config /etc/vedette --state /var/lib/vedette",
    )
    _local(run)
    run.add_argument(
        "--dialect",
        choices=["micro", "classic"],
        default="",
        help="twin and messages of the micro or the classic agent (default: as the module's name implies)",
    )
    run.set_defaults(run=_run)

    once = add_command(
        actions,
        "once",
        "collect for some seconds, print the cycle as JSON, exit",
        "Sends nothing and needs no configuration.",
        "  vedette agent once --seconds 10 | jq '.events[] | [.hit_count, .payload.commandline]'",
    )
    once.add_argument("--seconds", type=float, default=5.0, metavar="S", help="(default: %(default)s)")
    once.add_argument("--only", action="append", metavar="COLLECTOR", help="collect by this one (repeatable)")
    once.set_defaults(run=_once)

    probe = add_command(
        actions, "probe", "show which kernel sources this machine offers, which will be used, and why"
    )
    probe.add_argument("--json", action="store_true", help="print JSON")
    probe.set_defaults(run=_probe)

    check = add_command(
        actions,
        "check",
        "check configuration, sources and the way to the hub",
        "Exit status 0 if the agent could do all its work, else 1.",
    )
    _local(check)
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_check)


def _local(parser: argparse.ArgumentParser) -> None:
    from vedette.agent.settings import CONFIG_DIR, STATE_DIR

    parser.add_argument(
        "--config", type=Path, default=CONFIG_DIR, metavar="DIR", help="local files (default: %(default)s)"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=STATE_DIR,
        metavar="DIR",
        help="outbox and caches (default: %(default)s)",
    )
    parser.add_argument(
        "--connection-string-file",
        type=Path,
        metavar="FILE",
        help="default: connection_string.txt in --config, else provisioning.json there",
    )
    parser.add_argument(
        "--ca", type=Path, metavar="PEM", help="trust this authority only (default: ca.pem in --config)"
    )
    parser.add_argument(
        "--port", type=int, help="of the hub (default: 8883, by WebSocket 443; conf.json says which)"
    )


def _load(options: argparse.Namespace, *, patient: bool = False) -> Any:
    """Who the agent is: by a connection string, or by registration, for which a patient one waits."""
    from vedette.agent.settings import CONNECTION_STRING, PROVISIONING, LocalError, load_local

    named = options.connection_string_file or options.config / CONNECTION_STRING
    enrolled = not named.exists() and (options.config / PROVISIONING).exists()
    try:
        if enrolled:
            from vedette.agent.provision import provisioned

            return asyncio.run(
                provisioned(
                    options.config, options.state, ca_file=options.ca, port=options.port, patient=patient
                )
            )
        return load_local(
            options.config,
            options.state,
            connection_file=options.connection_string_file,
            ca_file=options.ca,
            port=options.port,
        )
    except LocalError as error:
        raise UsageError(str(error)) from None


def _run(options: argparse.Namespace) -> int:
    import msgspec

    from vedette.agent.app import serve
    from vedette.agent.outbox import OutboxInUse
    from vedette.wire.iothub import DialectError

    local = msgspec.structs.replace(_load(options, patient=True), dialect=options.dialect)
    try:
        serve(local)
    except (DialectError, OutboxInUse) as error:
        raise UsageError(str(error)) from None
    return 0


def _once(options: argparse.Namespace) -> int:
    from vedette.agent.app import collect_once

    status, batches = asyncio.run(collect_once(options.seconds, options.only))
    print_json(_cycle(status, batches))
    return 0 if any(entry.state == "running" for entry in status) else 1


def _cycle(status: Sequence[Status], batches: list[Batch]) -> dict[str, Any]:
    import msgspec

    from vedette.wire.message import encode_event

    return {
        "collectors": msgspec.to_builtins(status),
        "events": [
            msgspec.json.decode(encode_event(event, batch.window))
            for batch in batches
            for event in batch.events
        ],
        "losses": [
            {"collector": batch.name, **msgspec.to_builtins(loss)}
            for batch in batches
            for loss in batch.losses
        ],
    }


def _probe(options: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    import msgspec

    from vedette.agent.app import try_collectors
    from vedette.agent.probe import probe
    from vedette.wire.twin import Settings

    findings = probe()
    logging.disable()  # what cannot be started is told below
    with TemporaryDirectory(prefix="vedette-") as state:
        status = asyncio.run(try_collectors(Path(state), Settings()))
    if options.json:
        print_json({"sources": msgspec.to_builtins(findings), "collectors": msgspec.to_builtins(status)})
        return 0
    rows = [
        [f.collector, f.source, "used" if f.used else "available" if f.available else "missing", f.detail]
        for f in findings
    ]
    print_table(["collector", "source", "state", "why"], rows, cut=100)
    for finding in findings:
        if finding.remedy:
            print(f"\n{finding.collector} {finding.source}: {finding.remedy}")
    print()
    print_table(["collector", "state", "by"], [[s.name, s.state, s.source] for s in status], cut=100)
    return 0


def _check(options: argparse.Namespace) -> int:
    import msgspec

    from vedette.agent.check import check

    findings = asyncio.run(check(_load(options)))
    if options.json:
        print_json(msgspec.to_builtins(findings))
    else:
        print_table(
            ["what", "state", "detail"],
            [[f.what, "ok" if f.ok else "FAILED", f.detail] for f in findings],
            cut=140,
        )
    return 0 if all(finding.ok for finding in findings) else 1

"""`vedette hub simulate`: devices that are not there, to see a hub at work and to try out its size."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from vedette.commands import UsageError, add_command, add_state, print_json, print_record

if TYPE_CHECKING:
    from vedette.hub.settings import HubSettings
    from vedette.hub.simulate.device import Account
    from vedette.hub.simulate.fleet import Fleet

PROGRESS_S = 2.0
INTERVAL_S = 10.0
"""Between two messages of a device by default. A real one sends a few an hour: nothing to look at."""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the action of `vedette hub`."""
    simulate = add_command(
        actions,
        "simulate",
        "have many devices connect that are not there, and send what agents send",
        "Registers the devices `simulated-00001` … at the hub of the state directory, where they stay, and"
        " connects them to it: over TLS, with tokens, subscribed to their twins. They send processes,"
        " connections, name lookups, logins, changes of files, signs of life and, now and then, inventory and"
        " a baseline scan, until Ctrl-C or the end of the time. Then what is under way is waited for, and the"
        " figures are printed. Latency is from PUBLISH to PUBACK, that is, until the message is durable.",
        "  vedette hub simulate --devices 50 --attacks 1\n"
        "  vedette hub simulate --devices 2000 --rate max --seconds 60 --json",
    )
    simulate.add_argument("--devices", type=_count, default=100, metavar="N", help="default: %(default)s")
    simulate.add_argument(
        "--rate",
        type=_rate,
        metavar="N",
        help="messages a second of all devices together, or `max`: as fast as they are acknowledged"
        f" (default: one of each device every {INTERVAL_S:.0f} s)",
    )
    simulate.add_argument(
        "--seconds",
        type=_seconds,
        default=inf,
        metavar="N",
        help="how long they send (default: until Ctrl-C)",
    )
    simulate.add_argument(
        "--attacks",
        type=_share,
        default=0.0,
        metavar="PERCENT",
        help="share of messages that tell of an attack: a command line out of the detection rules' examples"
        " (default: none)",
    )
    simulate.add_argument(
        "--connect",
        type=_address,
        metavar="HOST:PORT",
        help="where the hub, or its load balancer, is reached (default: this machine, port of the settings)",
    )
    simulate.add_argument("--json", action="store_true", help="print the figures as JSON; times in seconds")
    add_state(simulate)
    simulate.set_defaults(run=_run)


def _count(text: str) -> int:
    return int(_above_zero(text, int))


def _seconds(text: str) -> float:
    return _above_zero(text, float)


def _rate(text: str) -> float:
    return inf if text == "max" else _above_zero(text, float)


def _share(text: str) -> float:
    number = _above_zero(text, float)
    if number > 100:
        raise argparse.ArgumentTypeError(f"{text} is more than 100")
    return number / 100


def _above_zero(text: str, kind: type[float]) -> float:
    try:
        number = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < number < inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _run(options: argparse.Namespace) -> int:
    import uvloop

    from vedette.commands.state import opened
    from vedette.hub.registry import RegistryError
    from vedette.hub.simulate.accounts import accounts

    with opened(options) as (settings, registry):
        _say(f"{options.devices:,} devices are registered at the hub")
        try:
            made = accounts(registry, options.devices)
        except RegistryError as error:
            raise UsageError(str(error)) from None
    summary = uvloop.run(_live(options, settings, made))
    print_json(summary) if options.json else print_record(_shown(summary))
    return 0 if summary["connects"] else 1


async def _live(
    options: argparse.Namespace, settings: HubSettings, made: Sequence[Account]
) -> dict[str, Any]:
    """Let the devices live until it is time; the figures."""
    import random
    import ssl

    from vedette.commands.state import state_of
    from vedette.hub.simulate.fleet import Fleet
    from vedette.hub.simulate.mix import Mix

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    trust = ssl.create_default_context(cafile=state_of(options).pki / "ca.pem")
    attacks = _attacks() if options.attacks else ()
    mix = Mix(random.Random(), attacks=attacks, attack_share=options.attacks)  # noqa: S311 - no secret
    address = options.connect or ("127.0.0.1", settings.mqtt_port)
    rate = options.rate or options.devices / INTERVAL_S
    began = time.monotonic()
    async with Fleet(made, [address], settings.host_names[0], trust, mix, rate=rate) as fleet:
        showing = asyncio.create_task(_progress(fleet))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), None if options.seconds == inf else options.seconds)
        sent_for, connected = time.monotonic() - began, fleet.connected
        showing.cancel()
    return {"devices": options.devices, "connected": connected, "seconds": sent_for} | fleet.summary()


def _attacks() -> list[str]:
    """Command lines that the built-in rules find."""
    from vedette.hub.detect.rules import load

    examples = [example for rule in load().rules for example in rule.examples.fires]
    return [
        told
        for example in examples
        if isinstance(example, dict)
        and list(example) == ["Process"]
        and isinstance(told := example["Process"], str)
    ]


async def _progress(fleet: Fleet) -> None:
    before = 0
    while True:
        await asyncio.sleep(PROGRESS_S)
        done = fleet.figures.acknowledged
        pace = (done - before) / PROGRESS_S
        p50, p99 = (_milliseconds(fleet.figures.latencies.quantile(share)) for share in (0.5, 0.99))
        faults = fleet.figures.refused.total() + fleet.figures.lost.total()
        _say(
            f"{fleet.connected:,} connected; {done:,} messages acknowledged, {pace:,.0f}/s;"
            f" PUBACK p50 {p50}, p99 {p99}; connections refused or lost: {faults:,}"
        )
        before = done


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _milliseconds(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds * 1_000:,.0f} ms"


def _shown(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary for people: times in milliseconds, tables in a line."""
    shown = dict(summary)
    for name in ("puback_p50", "puback_p99"):
        shown[name] = _milliseconds(shown[name])
    for name in ("refused", "lost"):
        shown[name] = ", ".join(f"{count:,} {reason}" for reason, count in shown[name].items()) or "none"
    return {
        name.replace("_", " "): round(value, 1) if isinstance(value, float) else value
        for name, value in shown.items()
    }

"""A fleet on this machine: gateways and a worker on PostgreSQL and an object store, behind a load balancer.

    python benchmarks/fleet.py [--devices N] [--seconds N] [--kill] [--local]

Simulated devices connect through the load balancer and send as fast as they are acknowledged. Prints what
runs where, then a line every two seconds. With --kill, each part is killed (SIGKILL; the object store, which
keeps all in memory, is stopped for a while) and started again in turn. Ctrl-C, or the end of the time, stops
the devices when everything is acknowledged; then what was acknowledged is compared with what the lake holds.
The exit status is 1 if they differ.

Needs Debian's postgresql and haproxy; the object store is an emulator from PyPI, installed on the first run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from vedette.hub.registry import RegistryError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fleet_rig import Device, Fleet, Hub  # noqa: E402 - found in the tests, which it serves, too

PROGRESS_S = 2.0
KILL_S, AWAY_S = 10.0, 3.0
"""Between two kills, and from a kill to the start."""


def main() -> int:
    """Run a fleet; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=20, help="simulated devices (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long; 0 until Ctrl-C (default)")
    parser.add_argument("--kill", action="store_true", help="kill -9 one part after the other")
    parser.add_argument("--local", action="store_true", help="a lake on disk instead of the object store")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="vedette-fleet-") as root,
        Fleet(Path(root), options.devices, local=options.local, say=_say) as fleet,
    ):
        asyncio.run(_run(fleet, options))
        return _compare(fleet)


def _say(text: str) -> None:
    print(text, flush=True)


async def _run(fleet: Fleet, options: argparse.Namespace) -> None:
    """Let the devices live until it is time."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.seconds:
        asyncio.get_running_loop().call_later(options.seconds, stop.set)
    async with asyncio.TaskGroup() as tasks:
        lives = [tasks.create_task(device.run()) for device in fleet.devices]
        beside = [
            _progress(fleet),
            _probe(fleet, fleet.devices[0]),
            *([_kill(fleet)] if options.kill else []),
        ]
        running = list(map(tasks.create_task, beside))
        await stop.wait()
        for device in fleet.devices:
            device.stop()
        await asyncio.wait(lives)
        for task in running:
            task.cancel()


async def _progress(fleet: Fleet) -> None:
    before = 0
    while True:
        await asyncio.sleep(PROGRESS_S)
        acknowledged = sum(len(device.acknowledged) for device in fleet.devices)
        shares = [f"{hub.state.root.name} {await _connected(hub)}" for hub in fleet.gateways]
        rate = (acknowledged - before) / PROGRESS_S
        print(
            f"acknowledged {acknowledged} messages ({rate:.0f}/s); connected: {', '.join(shares)}", flush=True
        )
        before = acknowledged


async def _connected(hub: Hub) -> str:
    try:
        return str(await asyncio.to_thread(hub.connected))
    except OSError:
        return "away"


async def _kill(fleet: Fleet) -> None:
    for part in itertools.cycle(fleet.parts):
        await asyncio.sleep(KILL_S)
        _say(f"kill {part.name}")
        await asyncio.to_thread(part.kill)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(part.back)
        _say(f"{part.name} is back")


async def _probe(fleet: Fleet, device: Device) -> None:
    """Set a desired property through the gateway that does not hold the device; tell how long it took."""
    for value in itertools.count():
        await asyncio.sleep(PROGRESS_S * 2)
        try:
            holder = await asyncio.to_thread(fleet.holder, device)
            other = next((hub for hub in fleet.gateways if hub is not holder and hub.runs), None)
            if holder is None or other is None:
                continue
            began = time.monotonic()
            await asyncio.to_thread(fleet.set_desired, other, device, value)
            took = await asyncio.wait_for(device.wait_told(value, began), 30)
        except (OSError, TimeoutError, RegistryError, SQLAlchemyError) as error:
            _say(f"desired property: {error or 'did not come'}")
            continue
        names = f"{other.state.root.name} to a device on {holder.state.root.name}"
        _say(f"desired property through {names}: {took:.2f} s")


def _compare(fleet: Fleet) -> int:
    acknowledged = {mid for device in fleet.devices for mid in device.acknowledged}
    stored = fleet.stored()
    events = [(mid, index) for mid in acknowledged for index in range(Device.EVENTS)]
    missing = sum(stored[event] == 0 for event in events)
    twice = sum(count > 1 for count in stored.values())
    print(
        f"{len(events)} events of {len(acknowledged)} messages were acknowledged: {missing} are missing from"
        f" the lake; of the {len(stored)} in it {twice} are there more than once"
    )
    return int(missing > 0 or twice > 0)


if __name__ == "__main__":
    sys.exit(main())

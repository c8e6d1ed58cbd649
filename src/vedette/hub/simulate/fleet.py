"""Many simulated devices: they connect a few at a time, stay connected, and send at one pace together."""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Any

from vedette.hub.process import allow_sockets
from vedette.hub.simulate.device import Account, Device
from vedette.hub.simulate.figures import Figures
from vedette.hub.simulate.mix import Mix

HANDSHAKES = 64
"""Devices that connect at the same time: a hub lets no more than 512 strangers of one address wait."""

CONNECT_S = 60.0
"""From TCP to CONNACK; a hub that is busy with a whole fleet takes its time."""

TICK_S = 0.01
"""Between two looks at how many messages are due."""

AWAY_S = 1.0, 30.0
"""Shortest and longest pause before a device connects again: drawn evenly, so that they come spread out."""

SETTLE_S = 30.0
"""How long the last acknowledgements are waited for."""


class Fleet:
    """Devices of one hub. `async with` connects them and says goodbye; `rate` may be changed at any time.

    addresses: hosts and ports to connect to, in turn. host: what the hub calls itself. rate: messages a
    second of all devices together; inf: each device sends when it may. mix: makes the messages.
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        addresses: Sequence[tuple[str, int]],
        host: str,
        trust: ssl.SSLContext,
        mix: Mix,
        *,
        rate: float = 0.0,
    ) -> None:
        self.figures = Figures()
        self.rate = rate
        self._addresses = itertools.cycle(addresses)
        self._host = host
        self._trust = trust
        self.mix = mix
        self._door = asyncio.Semaphore(HANDSHAKES)
        self._tasks: list[asyncio.Task[None]] = []
        self._devices = [Device(account, host, self.figures, self._ready) for account in accounts]

    def go(self, rate: float) -> None:
        """Send at another rate from now on."""
        self.rate = rate
        for device in self._devices:
            self._ready(device)

    @property
    def connected(self) -> int:
        """Devices that are let in now."""
        return sum(device.up for device in self._devices)

    @property
    def waiting(self) -> int:
        """Messages that are not acknowledged yet."""
        return sum(device.waits for device in self._devices)

    def summary(self) -> dict[str, Any]:
        """The figures so far as plain values: totals, seconds, counts by reason."""
        figures = self.figures
        plain = {
            name: value
            for name in figures.__struct_fields__
            if isinstance(value := getattr(figures, name), int)
        }
        return plain | {
            "unacknowledged": self.waiting,
            "puback_p50": figures.latencies.quantile(0.5),
            "puback_p99": figures.latencies.quantile(0.99),
            "refused": dict(figures.refused),
            "lost": dict(+figures.lost),
        }

    async def __aenter__(self) -> Fleet:
        allow_sockets()
        self._tasks = [asyncio.create_task(self._keep(device)) for device in self._devices]
        self._tasks.append(asyncio.create_task(self._send()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send nothing new, wait for acknowledgements, then close."""
        self.rate = 0.0
        if kind is None:
            await self.settle()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for device in self._devices:
            device.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await asyncio.gather(*(device.ended.wait() for device in self._devices))

    async def settle(self) -> None:
        """Until everything is acknowledged, or no device is left that could wait, or it takes too long."""
        for _ in range(int(SETTLE_S / TICK_S)):
            if not (self.waiting and self.connected):
                return
            await asyncio.sleep(TICK_S)

    async def _keep(self, device: Device) -> None:
        """Keep one device connected."""
        while True:
            async with self._door:
                await self._connect(device)
            if device.up:
                await device.ended.wait()
            await asyncio.sleep(random.uniform(*AWAY_S))  # noqa: S311 - no secret

    async def _connect(self, device: Device) -> None:
        host, port = next(self._addresses)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: device, host, port, ssl=self._trust, server_hostname=self._host
                )
                await device.settled.wait()
        except TimeoutError:
            self.figures.refused[f"no answer within {CONNECT_S:.0f} s"] += 1
            device.abort()
        except OSError as error:
            self.figures.refused[error.strerror or type(error).__name__] += 1

    async def _send(self) -> None:
        """Let the devices send in turn, as many messages as are due."""
        due, before = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            due += self.rate * (now - before) if self.rate < inf else 0.0
            before = now
            for _ in range(int(due)):
                self._turn()
            due %= 1

    def _turn(self) -> None:
        """One message of a device that may send, drawn by lot; held if a few draws find none."""
        for device in random.choices(self._devices, k=8):  # noqa: S311
            if device.free:
                device.send(self.mix.message(time.time()))
                return
        self.figures.held += 1

    def _ready(self, device: Device) -> None:
        while self.rate == inf and device.free:
            device.send(self.mix.message(time.time()))

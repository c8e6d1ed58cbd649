"""Two network namespaces and a veth pair between them: this test's side, and a peer's.

Addresses exist inside the namespaces only. The test's own thread is in the near namespace (by the fixture
`network_namespace`); programs run in the far one through `Peer`.
"""

import asyncio
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable

from support import PATIENCE_S
from vedette.agent.sources import rtnetlink
from vedette.agent.sources.rtnetlink import Link
from vedette.wire.events import Event, NetworkActivity

NEAR, FAR = "10.77.0.1", "10.77.0.2"
NEAR6, FAR6 = "fd77::1", "fd77::2"
NEAR_MAC, FAR_MAC = "02:00:00:00:77:01", "02:00:00:00:77:02"
ETHERNET = 14
OFFLOADS = ("tso", "gso", "gro", "tx", "rx", "sg")


def ip(*words: str) -> str:
    """Run ip(8) in the test's namespace."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Peer:
    """The far end of a veth pair `device` ↔ `far0`, in a namespace of its own, as long as the block."""

    def __init__(self, device: str = "near0", *, offloads: bool = True, arp: bool = True) -> None:
        self.device = device
        self._offloads = offloads
        self._arp = arp

    def __enter__(self) -> "Peer":
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._holder.stdout.readline()
        ip("link", "add", self.device, "type", "veth", "peer", "name", "far0", "netns", str(self._holder.pid))
        self._set_up(self._near, self.device, NEAR_MAC, NEAR, NEAR6)
        self._set_up(self._far, "far0", FAR_MAC, FAR, FAR6)
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()
        subprocess.run(["ip", "link", "del", self.device], capture_output=True)

    def _set_up(self, where, device: str, mac: str, address: str, address6: str) -> None:
        where("ip", "link", "set", device, "address", mac)
        where("ip", "link", "set", "lo", "up")
        if not self._offloads:
            where("ethtool", "-K", device, *(word for name in OFFLOADS for word in (name, "off")))
        where("ip", "link", "set", device, "up")
        where("ip", "address", "add", f"{address}/24", "brd", "+", "dev", device)
        where("ip", "address", "add", f"{address6}/64", "dev", device, "nodad")
        where("ip", "route", "add", "224.0.0.0/4", "dev", device)
        if not self._arp:
            other = (FAR, FAR_MAC) if device == self.device else (NEAR, NEAR_MAC)
            where("ip", "neigh", "replace", other[0], "lladdr", other[1], "dev", device, "nud", "permanent")

    def _near(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _far(self, *command: str) -> str:
        return self._near(*self.enter, *command)

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command so that it runs at the peer."""
        return ("nsenter", "--target", str(self._holder.pid), "--net")

    @property
    def link(self) -> Link:
        """The near device."""
        return next(link for link in rtnetlink.links().values() if link.name == self.device)

    async def run(self, *command: str) -> str:
        """Run a program at the peer to its end."""
        process = await asyncio.create_subprocess_exec(
            *self.enter, *command, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        return output.decode()

    async def python(self, code: str, *arguments: object) -> str:
        """Run some Python at the peer to its end."""
        return await self.run(sys.executable, "-S", "-c", code, *map(str, arguments))

    async def serve(self, code: str, *arguments: object) -> asyncio.subprocess.Process:
        """Start some Python at the peer; it has printed a line (a port number, say: `first_line`)."""
        process = await asyncio.create_subprocess_exec(
            *self.enter,
            *(sys.executable, "-S", "-c", code, *map(str, arguments)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout
        process.first_line = (await process.stdout.readline()).decode().strip()
        return process

    def counters(self) -> dict[str, int]:
        """The near device's own counters: packets and bytes with link headers, each direction."""
        (shown,) = json.loads(ip("-j", "-s", "link", "show", "dev", self.device))
        both = shown["stats64"]
        return {
            "packets_in": both["rx"]["packets"],
            "bytes_in": both["rx"]["bytes"],
            "packets_out": both["tx"]["packets"],
            "bytes_out": both["tx"]["bytes"],
        }


def activity(events: Iterable[Event], **wanted: object) -> list[tuple[NetworkActivity, int]]:
    """The network activity in events whose fields are as wanted, with its hits."""
    return [
        (event.payload, event.hits)
        for event in events
        if isinstance(event.payload, NetworkActivity)
        and all(getattr(event.payload, name) == value for name, value in wanted.items())
    ]


def echo(address: str, size: int, count: int) -> None:
    """Send ICMP or ICMPv6 echo requests with so many bytes of data, and wait for each reply."""
    six = ":" in address
    family, protocol = (socket.AF_INET6, 58) if six else (socket.AF_INET, 1)
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(PATIENCE_S)
        raw.connect((address, 0))
        for number in range(count):
            body = struct.pack(">HH", 0x77, number) + bytes(size)
            head = (128, 0) if six else (8, 0)
            total = sum(struct.unpack(f">{len(body) // 2}H", body)) + (head[0] << 8)
            total = (total & 0xFFFF) + (total >> 16)
            checksum = 0 if six else ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            raw.send(struct.pack(">BBH", *head, checksum) + body)
            reply = (129, 0) if six else (0, 0)
            while tuple(raw.recv(65536)[0 if six else 20 :][:2]) != reply:
                pass

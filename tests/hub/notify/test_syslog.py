"""Syslog to a real rsyslog over UDP and TCP, and over TLS to a socket of our own."""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from notify_support import authority

from support import free_port
from vedette.hub.notify import syslog
from vedette.hub.notify.message import Message
from vedette.hub.notify.notifier import deliver
from vedette.hub.notify.routes import Route
from vedette.hub.notify.ways import Undelivered
from vedette.hub.tls import Pki, server_context

CONFIGURATION = """\
module(load="imudp") module(load="imtcp")
template(name="parts" type="list" option.jsonf="on") {{
  property(outname="priority" name="pri" format="jsonf")
  property(outname="program" name="app-name" format="jsonf")
  property(outname="id" name="msgid" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}}
ruleset(name="file") {{ action(type="omfile" file="{file}" template="parts" asyncWriting="off") }}
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="file")
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="file")
"""


class Server(NamedTuple):
    udp: int
    tcp: int
    file: Path

    async def received(self, number: int) -> list[dict[str, str]]:
        """The first messages, as the server understood them."""
        while not self.file.exists() or len(lines := self.file.read_text().splitlines()) < number:
            await asyncio.sleep(0.02)
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = shutil.which("rsyslogd")
    if program is None:
        pytest.skip("no rsyslogd here")
    root = tmp_path_factory.mktemp("rsyslog")
    made = Server(free_port(), free_port(), root / "received")
    configuration = root / "rsyslog.conf"
    configuration.write_text(CONFIGURATION.format(file=made.file, udp=made.udp, tcp=made.tcp))
    running = subprocess.Popen(
        [program, "-n", "-f", configuration, "-i", root / "pid"], stderr=subprocess.DEVNULL, cwd=root
    )
    while not (root / "pid").exists():
        assert running.poll() is None, "rsyslogd has ended"
        time.sleep(0.02)
    yield made
    running.terminate()
    running.wait()


def route(url: str, **options: object) -> Route:
    return Route(name="r", url=url, window=0, **options)


async def test_rsyslog_reads_what_comes_over_udp_and_tcp(server: Server):
    """Priority, program, id and text; each line of a body is a message; text may be longer than a line."""
    long = "CEF:0|Vedette|x= \u2713 " + "y" * 6_000
    first = Message("a" * 32, "t", "High", long)
    await deliver(route(f"syslog+udp://127.0.0.1:{server.udp}"), first)
    [received] = await server.received(1)
    assert (received["priority"], received["program"], received["id"]) == ("82", "vedette", "a" * 32)
    assert received["text"].lstrip("\ufeff") == long
    await deliver(route(f"syslog+tcp://127.0.0.1:{server.tcp}"), Message("b" * 32, "t", "Low", "one\ntwo"))
    texts = [(one["text"].lstrip("\ufeff"), one["priority"]) for one in (await server.received(3))[1:]]
    assert texts == [("one", "85"), ("two", "85")]


async def test_over_tls_messages_are_framed_by_their_length(pki: Pki):
    """RFC 5425; the server's certificate is judged."""
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await reader.read())
        writer.close()

    context = server_context(pki.certificate, pki.key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"syslog+tls://localhost:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(Undelivered, match=r"TLS: .*certificate"):
        await deliver(route(url), Message("c", "t", "High", "text"))
    await deliver(route(url, authority=authority(pki)), Message("c", "t", "High", "text\nmore"))
    data = b""
    while not data:
        data = await received.get()
    server.close()
    await server.wait_closed()
    frames = []
    while data:
        size, _, rest = data.partition(b" ")
        frames.append(rest[: int(size)])
        data = rest[int(size) :]
    assert [frame.rpartition(b"\xef\xbb\xbf")[2] for frame in frames] == [b"text", b"more"]


def test_a_message_has_the_header_of_rfc_5424():
    """Version, time, host, program, no process, id, no structured data, a BOM before the text."""
    line = syslog.line(Message("id7", "t", "Medium", ""), "text", 1_767_614_400.5, host="hub 1\n")
    assert line == (b"<84>1 2026-01-05T12:00:00.500Z hub1 vedette - id7 - \xef\xbb\xbftext")
    assert re.fullmatch(rb"<\d+>1 \S+ \S+ \S+ \S+ \S+ \S+ .*", line)


async def test_a_server_that_is_not_there_is_named_as_the_reason():
    """TCP tells; UDP does not, unless the kernel knows."""
    with pytest.raises(Undelivered, match="refused"):
        await deliver(route(f"syslog+tcp://127.0.0.1:{free_port()}"), Message("c", "t", "High", "text"))

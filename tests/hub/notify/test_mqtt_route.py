"""MQTT to a real mosquitto, in TLS and with a password."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from notify_support import authority

from support import free_port
from vedette.hub.notify.message import Message
from vedette.hub.notify.notifier import deliver
from vedette.hub.notify.routes import Route
from vedette.hub.notify.ways import Undelivered
from vedette.hub.tls import Pki

TOPIC = "plant/alerts"
MESSAGE = Message("0123abcd", "title", "High", '{"some":"body"}')


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[int]:
    """The port of a broker that lets in `hub` with its password."""
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        pytest.skip("no mosquitto here")
    root, port = tmp_path_factory.mktemp("mosquitto"), free_port()
    passwords = root / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "hub", "hunter2"], check=True)
    for name in ("certificate", "key"):  # it gives up root's rights before it reads them
        shutil.copy(getattr(pki, name), root / name)
    (root / "conf").write_text(
        f"user root\nlistener {port} 127.0.0.1\ncertfile {root}/certificate\nkeyfile {root}/key\n"
        f"allow_anonymous false\npassword_file {passwords}\n"
    )
    running = subprocess.Popen([program, "-c", root / "conf"], stderr=subprocess.DEVNULL)
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert running.poll() is None, "mosquitto has ended"
        time.sleep(0.02)
    yield port
    running.terminate()
    running.wait()


def route(port: int, pki: Pki, **options: object) -> Route:
    given = {"secret": "hunter2", "authority": authority(pki)} | options
    return Route(name="r", url=f"mqtts://hub@localhost:{port}/{TOPIC}", **given)


async def test_a_message_is_published_to_the_topic(broker: int, pki: Pki):
    """A subscriber gets it as it was sent."""
    loop, subscribed, came = asyncio.get_running_loop(), asyncio.Event(), asyncio.Queue[bytes]()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set("hub", "hunter2")
    client.tls_set(Path(pki.ca).as_posix())
    client.on_connect = lambda c, *_: c.subscribe(TOPIC, 1)
    client.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set)
    client.on_message = lambda _c, _u, message: loop.call_soon_threadsafe(came.put_nowait, message.payload)
    client.connect("localhost", broker)
    client.loop_start()
    await subscribed.wait()
    await deliver(route(broker, pki), MESSAGE)
    assert await came.get() == MESSAGE.body.encode()
    client.disconnect()
    client.loop_stop()


async def test_a_broker_that_refuses_says_why(broker: int, pki: Pki):
    """Without the password; it may be put right."""
    with pytest.raises(Undelivered, match="refuses the connection: not_authorized") as failed:
        await deliver(route(broker, pki, secret="wrong-one"), MESSAGE)
    assert not failed.value.final
    with pytest.raises(Undelivered, match=r"TLS: .*certificate"):
        await deliver(route(broker, pki, authority=""), MESSAGE)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02\x00\x00"])
async def test_what_is_no_broker_acknowledges_nothing(answer: bytes):
    """It closes, speaks something else, or closes before it has acknowledged."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Undelivered):
        await deliver(Route(name="r", url=f"mqtt://127.0.0.1:{port}/{TOPIC}"), MESSAGE)
    server.close()
    await server.wait_closed()

"""The uplink against the real gateway over TLS on loopback."""

import asyncio
import logging
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from uplink_rig import MODULE, names, put, running, said, until, uplink_to

from support import PATIENCE_S
from vedette.agent.route import Route
from vedette.agent.session import Pace
from vedette.agent.uplink import Uplink
from vedette.hub.tls import ensure_pki
from vedette.wire.iothub import MAX_IN_FLIGHT, ConnectionString, DialectError, Identity
from vedette.wire.message import INTERFACE_ID, MTI
from vedette.wire.twin import VERSION_KEY


async def test_messages_arrive_and_leave_the_outbox(hub, outbox, desires):
    """What is in the outbox reaches the hub in order, with its properties, and is then gone."""
    put(outbox, "a")
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink):
        await hub.sink.take(1)
        put(outbox, "b", "c")
        uplink.wake()
        received = await hub.sink.take(2)
        await until(lambda: outbox.depth == 0)
    assert names(received) == ["b", "c"]
    assert received[0].identity == MODULE
    assert received[0].body == b"x" * 300
    assert received[0].properties == {
        "$.mid": f"{'b':0>32}",
        "$.ct": "application/json",
        "$.ce": "utf-8",
        "$.ifid": INTERFACE_ID,
        "mti": MTI,
    }
    assert (uplink.counters.sent.messages, uplink.counters.sent.hits, uplink.counters.sent.units) == (
        3,
        15,
        3,
    )
    assert uplink.state == "closed"


async def test_a_message_stays_until_its_puback(hub, outbox, desires):
    """While the hub has not stored a message the outbox keeps it."""
    hub.sink.open.clear()
    put(outbox, "a")
    async with running(uplink_to(hub, outbox, desires)):
        await hub.sink.take(1)
        await desires.take()  # an answer from the hub on the same connection, after the message
        assert outbox.depth == 1
        hub.sink.open.set()
        await until(lambda: outbox.depth == 0)
    assert hub.sink.messages.empty()


async def test_a_broken_connection_loses_nothing(hub, outbox, desires):
    """Messages that were in flight are sent again under the same id, and leave the outbox once."""
    hub.sink.open.clear()
    put(outbox, "a", "b", "c")
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink):
        assert names(await hub.sink.take(3)) == ["a", "b", "c"]
        hub.cut()
        assert names(await hub.sink.take(3)) == ["a", "b", "c"]
        assert outbox.depth == 3
        hub.sink.open.set()
        await until(lambda: outbox.depth == 0)
    assert uplink.counters.sent.messages == 3
    assert uplink.counters.lost >= 1
    assert outbox.losses.take() == []


async def test_no_more_than_twenty_messages_are_in_flight(hub, outbox, desires):
    """The window of the dialect holds, and moves on with each acknowledgement."""
    hub.sink.open.clear()
    put(outbox, *range(100, 150))
    async with running(uplink_to(hub, outbox, desires)):
        first = await hub.sink.take(MAX_IN_FLIGHT)
        await desires.take()
        assert hub.sink.messages.empty()
        hub.sink.open.set()
        rest = await hub.sink.take(50 - MAX_IN_FLIGHT)
        await until(lambda: outbox.depth == 0)
    assert names(first + rest) == [str(name) for name in range(100, 150)]
    assert hub.sink.most_waiting <= MAX_IN_FLIGHT


async def test_large_messages_arrive_whole(hub, outbox, desires):
    """Messages larger than a socket's buffers go out as the socket takes them."""
    for name in "abcdef":
        put(outbox, name, size=200_000)
    async with running(uplink_to(hub, outbox, desires)):
        received = await hub.sink.take(6)
        await until(lambda: outbox.depth == 0)
    assert {len(message.body) for message in received} == {200_000}


async def test_the_outbox_drains_after_the_hub_was_away(hub, outbox, desires, caplog):
    """An outage costs nothing but time; it is said once when it begins and once when it is over."""
    caplog.set_level(logging.INFO, "vedette.agent")
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink):
        await desires.take()
        await hub.stop()
        put(outbox, "a", "b")
        uplink.wake()
        await until(lambda: "Connection refused" in uplink.state)
        put(outbox, "c")
        uplink.wake()
        await hub.start()
        received = await hub.sink.take(3)
        await until(lambda: outbox.depth == 0)
        assert names(received) == ["a", "b", "c"]
        levels = said(caplog)
        assert levels[0] == levels[-1] == "INFO"
        assert levels[1:-1] in (["WARNING"], ["WARNING", "WARNING"])  # lost, then unreachable
        caplog.clear()
        await hub.stop()
        await until(lambda: "Connection refused" in uplink.state)
        assert set(said(caplog)) == {"WARNING"}


async def test_closing_waits_for_acknowledgements(hub, outbox, desires):
    """What was put just before the end still goes out, if the hub takes it in time."""
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink, drain_s=PATIENCE_S):
        await desires.take()
        put(outbox, "a", "b")
    assert outbox.depth == 0
    assert uplink.counters.sent.messages == 2


async def test_closing_does_not_wait_for_ever(hub, outbox, desires):
    """A hub that does not acknowledge does not keep the agent: the message stays in the outbox."""
    hub.sink.open.clear()
    put(outbox, "a")
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink, drain_s=0.1):
        await hub.sink.take(1)
    assert outbox.depth == 1


async def test_closing_without_a_hub_does_not_wait(hub, outbox, desires):
    """While it waits for the next attempt the uplink ends at once."""
    await hub.stop()
    put(outbox, "a")
    uplink = uplink_to(hub, outbox, desires, pace=Pace(first=1e6, ceiling=1e6))
    async with running(uplink, drain_s=1e6):
        await until(lambda: uplink.state.startswith("waiting"))
    assert outbox.depth == 1


async def test_an_uplink_that_never_ran_closes(hub, outbox, desires):
    """`close` before `run` is no fault, and `run` after it ends at once."""
    uplink = uplink_to(hub, outbox, desires)
    await uplink.close(1e6)
    await uplink.run()
    assert uplink.counters.connections == 0


async def test_no_thread_of_its_own(hub, outbox, desires):
    """Connected, the uplink has no thread of its own; the loop's workers look names up and read CA files."""
    before = {thread.name for thread in threading.enumerate()}
    async with running(uplink_to(hub, outbox, desires)):
        await desires.take()
        threads = {thread.name for thread in threading.enumerate()} - before
    assert {name.partition("_")[0] for name in threads} <= {"asyncio", "registry"}


# Credentials


async def test_tokens_are_renewed_before_they_expire(hub, outbox, desires, caplog):
    """With tokens of short life the connection is made anew, without a word in the log and without loss."""
    caplog.set_level(logging.INFO, "vedette.agent")
    uplink = uplink_to(hub, outbox, desires, token_ttl=4.0)
    async with running(uplink):
        for i in range(100, 106):
            put(outbox, i)
            uplink.wake()
            await hub.sink.take(1)
            await until(lambda i=i: uplink.counters.connections >= (i - 98) // 2)
        await until(lambda: outbox.depth == 0)
    assert uplink.counters.connections >= 3
    assert uplink.counters.lost == 0
    assert uplink.counters.sent.messages == 6
    assert said(caplog) == ["INFO"]


async def test_a_refusal_is_not_the_end(hub, outbox, desires, caplog):
    """A device that the hub does not know keeps trying, and is connected once it is registered."""
    caplog.set_level(logging.INFO, "vedette.agent")
    put(outbox, "a")
    device = Identity("press-8")
    other = "b3RoZXIga2V5LCBvdGhlciBrZXksIG90aGVyIGtleSE="
    uplink = uplink_to(hub, outbox, desires, connection=ConnectionString("127.0.0.1", device, other))
    async with running(uplink):
        await until(lambda: uplink.counters.refused >= 3)
        await until(lambda: "not authorized" in uplink.state)
        hub.registry.add(device, keys=(other, other))
        assert names(await hub.sink.take(1)) == ["a"]
    assert said(caplog) == ["WARNING", "INFO"]
    assert other not in caplog.text
    assert "sig=" not in caplog.text


async def test_a_certificate_of_another_authority_is_refused(hub, outbox, desires, tmp_path, caplog):
    """With the wrong CA file nothing is sent, and the log says what was trusted."""
    wrong = Path(ensure_pki(tmp_path / "other", ["127.0.0.1"]).ca)
    put(outbox, "a")
    uplink = uplink_to(hub, outbox, desires, ca_file=wrong)
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
    assert said(caplog) == ["WARNING"]
    assert re.search(
        rf"no connection to 127.0.0.1:{hub.port}: certificate not accepted \(.+\); trusted: CA file {wrong}",
        caplog.text,
    )
    assert outbox.depth == 1


async def test_a_certificate_for_another_name_is_refused(hub, outbox, desires):
    """The certificate has to name the address that was asked for."""
    uplink = uplink_to(hub, outbox, desires, address="localhost")
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
        assert "localhost" in uplink.state
        assert "certificate not accepted" in uplink.state
    assert uplink.counters.connections == 0


async def test_a_missing_ca_file_is_named(hub, outbox, desires):
    """The file is looked for at each attempt, so that it can be brought later."""
    missing = Path(hub.pki.ca).with_name("absent.pem")
    uplink = uplink_to(hub, outbox, desires, ca_file=missing)
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
        assert f"CA file {missing}: No such file or directory" in uplink.state
        try:
            missing.write_bytes(Path(hub.pki.ca).read_bytes())
            await desires.take()
        finally:
            missing.unlink()


async def test_the_system_authorities_do_not_know_a_private_hub(hub, outbox, desires):
    """Without a CA file the system's authorities decide, and a private one is not among them."""
    uplink = uplink_to(hub, outbox, desires, ca_file=None)
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
        assert "trusted: the system's CAs" in uplink.state


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("HostName=h;DeviceId=d;x509=true", "no SharedAccessKey"),
        ("HostName=h;DeviceId=a+b;SharedAccessKey=c2VjcmV0", "cannot be used over MQTT"),
        ("HostName=h;DeviceId=d;ModuleId=m#;SharedAccessKey=c2VjcmV0", "cannot be used over MQTT"),
    ],
)
async def test_connection_strings_that_cannot_work_are_refused(outbox, desires, text, reason):
    """What could never connect is said at once."""
    with pytest.raises(DialectError, match=reason) as caught:
        Uplink(ConnectionString.parse(text), outbox, on_desired=desires, route=Route(address="h"))
    assert "c2VjcmV0" not in str(caught.value)


# Twin


async def test_the_twin_is_handed_on_and_followed(hub, outbox, desires):
    """After connecting the whole document comes; after a change the whole document again."""
    hub.registry.patch_desired(MODULE, {"Process_CacheSize": 64, "Process_Mode": 2})
    async with running(uplink_to(hub, outbox, desires)):
        document, version = await desires.take()
        assert document == {"Process_CacheSize": 64, "Process_Mode": 2, VERSION_KEY: version}
        hub.registry.patch_desired(MODULE, {"Process_CacheSize": 128, "Process_Mode": None})
        document, newer = await desires.take()
        assert document == {"Process_CacheSize": 128, VERSION_KEY: newer}
        assert newer == version + 1


async def test_a_change_made_while_offline_is_fetched(hub, outbox, desires):
    """What changed during an outage arrives with the next connection; what did not is not handed on."""
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink):
        _, version = await desires.take()
        await hub.stop()
        hub.registry.patch_desired(MODULE, {"Process_CacheSize": 64})
        hub.registry.patch_desired(MODULE, {"Process_CacheSize": 65})
        await hub.start()
        assert await desires.take() == (
            {"Process_CacheSize": 65, VERSION_KEY: version + 2},
            version + 2,
        )
        connections = uplink.counters.connections
        hub.cut()
        await until(lambda: uplink.counters.connections > connections)
        hub.registry.patch_desired(MODULE, {"Process_CacheSize": 66})
        assert (await desires.take())[0]["Process_CacheSize"] == 66


async def test_reports_arrive(hub, outbox, desires):
    """What is reported stands in the twin; null deletes; the hub's version counts each patch."""
    uplink = uplink_to(hub, outbox, desires)
    uplink.report({"latest_state": "success", "a": 1})
    async with running(uplink):
        await until(lambda: hub.registry.twin(MODULE).reported == {"latest_state": "success", "a": 1})
        uplink.report({"a": None, "b": {"c": [1, 2]}})
        await until(
            lambda: hub.registry.twin(MODULE).reported == {"latest_state": "success", "b": {"c": [1, 2]}}
        )
    assert hub.registry.twin(MODULE).reported_version == 3


async def test_a_report_made_offline_arrives_later(hub, outbox, desires):
    """Reports are kept until the hub has them; closing waits for them."""
    await hub.stop()
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink, drain_s=PATIENCE_S):
        await until(lambda: uplink.state.startswith("waiting"))
        uplink.report({"a": 1})
        uplink.report({"b": 2})
        await hub.start()
        await desires.take()
    assert hub.registry.twin(MODULE).reported == {"a": 1, "b": 2}


async def test_a_slow_reader_gets_the_last_document(hub, outbox):
    """Changes that come while one is being applied are handed on as one."""
    seen: asyncio.Queue[int] = asyncio.Queue()
    go_on = asyncio.Event()

    async def apply(document: dict[str, Any], version: int) -> None:
        seen.put_nowait(document.get("n", 0))
        await go_on.wait()

    uplink = uplink_to(hub, outbox, apply)
    async with running(uplink):
        assert await seen.get() == 0
        for n in range(1, 6):
            hub.registry.patch_desired(MODULE, {"n": n})
        await until(lambda: uplink._twin._known.get("n") == 5)
        go_on.set()
        assert await seen.get() == 5
    assert seen.empty()


async def test_a_fault_in_applying_is_not_swallowed(hub, outbox):
    """A programming error in what `on_desired` calls ends `run` with that error."""

    async def apply(document: dict[str, Any], version: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(uplink_to(hub, outbox, apply).run(), PATIENCE_S)
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)

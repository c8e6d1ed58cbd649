"""The DNS collector: counted by name, bounded, and on only while somebody sees answers."""

import msgspec
import pytest

from vedette.agent.collectors.dns import DnsCollector
from vedette.agent.losses import CACHE_FULL
from vedette.agent.sources.dnswire import Answer
from vedette.wire.twin import Priority, Settings


def settings(**twin: object) -> Settings:
    return msgspec.convert(twin, Settings)


def answer(name: str, code: str = "NOERROR") -> Answer:
    return Answer(name, "A", code, ("192.0.2.1",), ())


@pytest.fixture
async def dns() -> DnsCollector:
    collector = DnsCollector()
    await collector.start(settings(DNS_CacheSize=2))
    return collector


async def test_answers_are_counted_by_name_type_code_and_server(dns: DnsCollector):
    """The first answer's records and time stay."""
    dns.answered(answer("a.test"), "192.0.2.53", 10.0)
    dns.answered(answer("a.test"), "192.0.2.53", 20.0)
    dns.answered(answer("a.test", "NXDOMAIN"), "192.0.2.53", 30.0)
    events, losses = await dns.collect()
    assert [(event.payload.response_code, event.hits, event.first_seen) for event in events] == [
        ("NOERROR", 2, 10.0),
        ("NXDOMAIN", 1, 30.0),
    ]
    assert losses == []


async def test_a_full_cache_drops_the_oldest_name_and_says_so(dns: DnsCollector):
    """As every cache does."""
    for name in ("a.test", "a.test", "b.test", "c.test"):
        dns.answered(answer(name), "192.0.2.53", 0.0)
    events, (loss,) = await dns.collect()
    assert [event.payload.query_name for event in events] == ["b.test", "c.test"]
    assert (loss.reason, loss.events, loss.hits) == (CACHE_FULL, 1, 2)


async def test_settings_change_without_loss(dns: DnsCollector):
    """What was counted stays, and more fits."""
    dns.answered(answer("a.test"), "192.0.2.53", 0.0)
    await dns.apply(settings(DNS_CacheSize=10))
    for name in ("b.test", "c.test"):
        dns.answered(answer(name), "192.0.2.53", 0.0)
    assert len((await dns.stop()).events) == 3


async def test_nothing_is_counted_while_it_is_off(dns: DnsCollector):
    """Answers go on being seen, for the names of flows; here they end."""
    await dns.stop()
    dns.answered(answer("a.test"), "192.0.2.53", 0.0)
    assert await dns.collect() == ([], [])


def test_it_is_on_only_with_network_activity():
    """Which sees the answers."""
    collector = DnsCollector()
    assert collector.enabled(settings())
    assert not collector.enabled(settings(DNS_Disabled=True))
    assert not collector.enabled(settings(NetworkActivity_Disabled=True))
    assert collector.priority(settings(DNS_MessageFrequency="High")) is Priority.HIGH

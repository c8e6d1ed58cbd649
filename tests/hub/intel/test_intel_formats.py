"""Files of indicators as they are found in the world."""

import json
from pathlib import Path

import pytest

from vedette.hub.intel.formats import FormatError, Reading, rated, read, sniff
from vedette.hub.intel.indicators import Indicator, Refused, indicator

SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def values(path: Path, *args: object) -> list[str]:
    """`kind value` of what was understood, `- reason` of what was not."""
    return [
        f"{one.kind} {one.value}" if isinstance(one, Indicator) else f"- {one}" for one in read(path, *args)
    ]


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("203.0.113.66", "address 203.0.113.66"),
        ("203.0.113.66/32", "address 203.0.113.66"),
        ("203.0.113.66/24", "address 203.0.113.0/24"),
        ("203.0.113.66:8443", "address 203.0.113.66"),
        ("2001:DB8::1", "address 2001:db8::1"),
        ("[2001:db8::1]:443", "address 2001:db8::1"),
        ("Bad.Example.", "name bad.example"),
        ("*.bad[.]example", "name bad.example"),
        ("böse.example", "name xn--bse-sna.example"),
        ("HXXPS://user@Bad.example:8443/a/B?c=d#e", "url bad.example/a/B?c=d"),
        ("http://[2001:db8::1]/x", "url 2001:db8::1/x"),
        ("http://bad.example", "url bad.example/"),
        (SHA256.upper(), f"hash {SHA256}"),
    ],
)
def test_each_thing_has_one_spelling(text: str, spelled: str):
    """However a source writes it, defanged or with a port, a list and a question mean the same."""
    one = indicator(text)
    assert f"{one.kind} {one.value}" == spelled


@pytest.mark.parametrize("text", ["10.0.0.0/7", "::/0", "com", "a b.example", "http://", "12345", "x" * 3000])
def test_what_would_match_everything_or_nothing_is_refused(text: str):
    """Half of the Internet, a top-level domain, and what is no indicator at all."""
    with pytest.raises(Refused):
        indicator(text)


def test_a_plain_list_has_comments_and_may_be_a_hosts_file(tmp_path: Path):
    """An entry a line; what is none is told and stops nothing."""
    file = tmp_path / "list.txt"
    file.write_text(
        "\ufeff# a list\n; another comment\n\n203.0.113.66  # c2\n0.0.0.0 ads.bad.example\nno indicator\n"
    )
    assert values(file) == [
        "address 203.0.113.66",
        "name ads.bad.example",
        "- no address, name, URL or hash",
    ]


def test_the_kind_of_all_entries_can_be_said(tmp_path: Path):
    """A list of names that holds an address is wrong in that line."""
    file = tmp_path / "list.txt"
    file.write_text("bad.example\n203.0.113.66\n")
    assert values(file, None, Reading("name")) == ["name bad.example", "- no name"]


def test_a_csv_column_is_named_and_its_header_may_be_a_comment(tmp_path: Path):
    """Quotes, prose before the header, rows that are too short."""
    file = tmp_path / "feed.csv"
    file.write_text('# all of it, daily\n# id,url,tags\n"1","http://bad.example/a.sh","elf,mips"\n"2"\n')
    assert values(file, None, Reading(column="URL")) == ["url bad.example/a.sh", "- row without the column"]
    with pytest.raises(FormatError, match=r"no column 'link'; there are id, url, tags"):
        values(file, None, Reading(column="link"))


def stix(*objects: dict[str, object]) -> str:
    shown = [{"type": "indicator", "id": f"indicator--{i}", **one} for i, one in enumerate(objects)]
    return json.dumps({"type": "bundle", "id": "bundle--1", "objects": [{"type": "identity"}, *shown]})


def test_stix_patterns_that_say_one_thing_are_taken_with_confidence_and_end(tmp_path: Path):
    """`=`, `IN` and `ISSUBSET`, joined by OR within an observation and between them."""
    file = tmp_path / "bundle.json"
    pattern = (
        "[ipv4-addr:value = '203.0.113.7' OR ipv4-addr:value ISSUBSET '198.51.100.0/24'] OR "
        "[domain-name:value IN ('a.example', 'b.example')] OR "
        f"[file:hashes.'SHA-256' = '{SHA256}'] OR [url:value = 'http://c.example/it\\'s']"
    )
    file.write_text(
        stix({"name": "C2", "pattern": pattern, "confidence": 90, "valid_until": "2030-01-01T00:00:00Z"})
    )
    found = [one for one in read(file) if isinstance(one, Indicator)]
    assert [one.value for one in found] == [
        "203.0.113.7",
        "198.51.100.0/24",
        "a.example",
        "b.example",
        SHA256,
        "c.example/it's",
    ]
    assert {(one.confidence, one.expires, one.note) for one in found} == {(90, 1893456000.0, "C2")}


@pytest.mark.parametrize(
    ("indicator", "reason"),
    [
        ({"pattern": "[ipv4-addr:value = '203.0.113.7' AND url:value = 'http://a.example/']"}, "with AND"),
        ({"pattern": "[ipv4-addr:value NOT = '203.0.113.7']"}, "with NOT"),
        ({"pattern": "[ipv4-addr:value != '203.0.113.7']"}, "pattern with"),
        ({"pattern": "[url:value LIKE 'http://%']"}, "with LIKE"),
        ({"pattern": "[ipv4-addr:value = '203.0.113.7'] FOLLOWEDBY [url:value = 'x']"}, "FOLLOWEDBY"),
        ({"pattern": "[process:name = 'x']"}, "pattern on process:name"),
        ({"pattern": "title: x", "pattern_type": "sigma"}, "pattern of type sigma"),
        ({"pattern": "[url:value = 'http://a.example/']", "revoked": True}, "revoked"),
        ({"pattern": ""}, "without a comparison"),
    ],
)
def test_other_stix_patterns_are_refused_by_reason(tmp_path: Path, indicator: dict[str, object], reason: str):
    """What is bad only together with something else, or only as a pattern, is no entry of a list."""
    file = tmp_path / "bundle.json"
    file.write_text(stix(indicator))
    [refused] = read(file)
    assert isinstance(refused, Refused)
    assert reason in str(refused)


MISP = {
    "Event": {
        "info": "a campaign",
        "Attribute": [
            {"type": "ip-dst|port", "value": "203.0.113.12|443", "to_ids": True, "comment": "panel"},
            {"type": "domain|ip", "value": "d.example|203.0.113.11", "to_ids": True},
            {"type": "filename|sha256", "value": f"x.bin|{SHA256}", "to_ids": True},
            {"type": "domain", "value": "seen.example", "to_ids": False},
            {"type": "domain", "value": "gone.example", "to_ids": True, "deleted": True},
            {"type": "comment", "value": "text", "to_ids": True},
        ],
        "Object": [
            {"name": "url", "Attribute": [{"type": "url", "value": "http://e.example/f", "to_ids": 1}]}
        ],
    }
}


@pytest.mark.parametrize("document", [MISP, {"response": [MISP]}])
def test_misp_attributes_marked_for_detection_are_taken(tmp_path: Path, document: object):
    """Of events and of the objects in them; a feed's file, or an answer with several events."""
    file = tmp_path / "event.json"
    file.write_text(json.dumps(document))
    assert values(file) == [
        "address 203.0.113.12",
        "name d.example",
        "address 203.0.113.11",
        f"hash {SHA256}",
        "- not marked for detection (to_ids)",
        "- deleted",
        "- attribute of type comment",
        "url e.example/f",
    ]


@pytest.mark.parametrize(
    ("beginning", "format"),
    [
        (b'{"type": "bundle", "objects": []}', "stix"),
        (b'{"Event": {"uuid": "x"}}', "misp"),
        (b'{"response": [{"Event": {}}]}', "misp"),
        (b"203.0.113.1\n", "list"),
    ],
)
def test_a_format_is_told_by_how_a_file_begins(beginning: bytes, format: str):
    """So that nobody has to say it."""
    assert sniff(beginning) == format


def test_a_broken_file_is_named_with_the_reason(tmp_path: Path):
    """It is the file's fault; the text says which."""
    file = tmp_path / "broken.json"
    file.write_text('{"type": "bundle", "objects": [{"type": "indicator"')
    with pytest.raises(FormatError, match=r"broken\.json"):
        list(read(file))


def test_what_is_said_of_a_list_fills_in_what_entries_do_not_say():
    """An entry's own confidence stays, and the earlier end counts."""
    entries = [indicator("a.example", confidence=10, expires=50.0), indicator("b.example"), Refused("no")]
    own, other, refused = rated(iter(entries), 80, 100.0)
    assert (own.confidence, own.expires) == (10, 50.0)
    assert (other.confidence, other.expires) == (80, 100.0)
    assert isinstance(refused, Refused)

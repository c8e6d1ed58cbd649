"""CEF lines, Sentinel rows and our own form of alerts and recommendations."""

import re

import msgspec
from format_samples import alerts_of_every_rule, recommendation

from vedette.hub.formats import FINDINGS, cef, ours, sentinel
from vedette.hub.lake.views import ALERT_COLUMNS, RECOMMENDATION_COLUMNS

EXTENSION = re.compile(r"(?:^| )(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)")
KEYS = {
    *("externalId", "cat", "act", "dvchost", "deviceExternalId", "start", "end", "rt", "cnt", "msg", "sproc"),
    *("spid", "suser", "src", "spt", "dst", "dpt", "dhost", "proto", "filePath"),
    *(f"cs{place}" for place in range(1, 7)),
    *(f"cs{place}Label" for place in range(1, 7)),
}
"""Keys of CEF's extension dictionary that may stand in a line."""


def parsed(line: str) -> tuple[list[str], dict[str, str]]:
    """A line read as receivers read it: seven header fields, then pairs."""
    *header, extension = re.split(r"(?<!\\)\|", line, maxsplit=7)
    return header, dict(EXTENSION.findall(extension))


def test_alerts_of_every_rule_are_lines_of_known_keys():
    """One line, seven header fields, a severity of 0 to 10, keys of the dictionary."""
    for alert in alerts_of_every_rule():
        line = cef.finding(alert)
        header, extension = parsed(line)
        assert len(line.splitlines()) == 1
        assert header[:3] == ["CEF:0", "Vedette", "Vedette"]
        assert header[4] == alert.type
        assert 0 <= int(header[6]) <= 10
        assert extension.keys() <= KEYS
        assert extension["externalId"] == alert.id
        assert extension["cnt"] == str(alert.hits)


def test_what_would_end_a_field_is_escaped():
    """Pipes and backslashes in the header, equals signs and line ends in values."""
    alert = msgspec.structs.replace(
        alerts_of_every_rule()[0],
        title="a|b\\c\nd",
        evidence=({"CommandLine": "x=1\ny src=203.0.113.9 \\"},),
    )
    line = cef.finding(alert)
    assert "|a\\|b\\\\c d|" in line
    assert "cs3=x\\=1\\ny src\\=203.0.113.9 \\\\" in line
    assert "src" not in parsed(line)[1]


def test_sentinel_rows_have_the_documented_columns():
    """Exactly those of the tables, and `Type`."""

    def names(columns: object) -> set[str]:
        listed = columns if isinstance(columns, dict) else re.findall(r"(\w+) [A-Z]+", str(columns))
        return {*listed, "Type"}

    for alert in alerts_of_every_rule():
        row = sentinel.finding(alert)
        assert row.keys() == names(ALERT_COLUMNS)
        assert msgspec.json.decode(row["ExtendedProperties"])["ExtraDetails"]["HitCount"] == alert.hits
    assert sentinel.finding(recommendation()).keys() == names(RECOMMENDATION_COLUMNS)


def test_our_own_form_has_every_field():
    """But for who decided what. Times are text; `kind` tells alerts and recommendations apart."""
    alert = alerts_of_every_rule()[0]
    document = ours.finding(alert)
    assert document["kind"] == "alert"
    assert document.keys() - {"kind"} == set(alert.__struct_fields__) - {"changes"}
    assert document["start"].endswith("Z")
    assert ours.finding(recommendation())["kind"] == "recommendation"


def test_every_form_takes_both_and_is_json_or_a_line():
    """What a form makes can be sent."""
    for form, make in FINDINGS.items():
        for one in (alerts_of_every_rule()[0], recommendation()):
            made = make(one)
            assert isinstance(made, str if form == "cef" else dict)
            assert msgspec.json.encode(made)

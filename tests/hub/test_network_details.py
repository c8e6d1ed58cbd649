"""EventDetails of network activity: SIEM parsers cut this text by position, so it is golden to the byte."""

import re

import pytest

from vedette.hub.intake import Inbound, rows_of
from vedette.wire.events import Event, ExtendedProperties, NetworkActivity
from vedette.wire.iothub import Identity
from vedette.wire.message import INTERFACE_ID, MTI, Window, pack

KNOWN = NetworkActivity(
    local_address="192.0.2.7",
    remote_address="198.51.100.20",
    local_port=50514,
    remote_port=443,
    bytes_in=5120,
    bytes_out=2048,
    protocol="TCP",
    process_id=812,
    user_id=0,
    application_protocol="HTTPS",
    commandline='curl -H \'x: ","DeviceId":"no"\' https://example.com',
    extended_properties=ExtendedProperties(host_name="example.com", tls_server_name="example.com"),
)
UNKNOWN = NetworkActivity(local_address="fd00::1", remote_address="ff02::1", protocol="ICMPv6", bytes_in=72)

GOLDEN = (
    '{"LocalAddress":"192.0.2.7","RemoteAddress":"198.51.100.20","LocalPort":50514,"RemotePort":443,'
    '"BytesIn":5120,"BytesOut":2048,"Protocol":"TCP","ProcessId":812,"UserId":0,'
    '"ApplicationProtocol":"HTTPS","AzureResourceId":"","DeviceId":"dev-1","MessageSource":"Linux",'
    '"OriginalEventId":"<id>","TimestampUTC":"2026-01-01T00:00:00.000Z","EventId":"<id>",'
    '"Commandline":"curl -H \'x: \\",\\"DeviceId\\":\\"no\\"\' https://example.com","HitCount":12,'
    '"ExtendedProperties":{"HostName":"example.com","TlsServerName":"example.com","Delivery":""}}'
)
GOLDEN_UNKNOWN = (
    '{"LocalAddress":"fd00::1","RemoteAddress":"ff02::1","LocalPort":0,"RemotePort":0,'
    '"BytesIn":72,"BytesOut":0,"Protocol":"ICMPv6","ProcessId":null,"UserId":null,'
    '"ApplicationProtocol":"","AzureResourceId":"","DeviceId":"dev-1","MessageSource":"Linux",'
    '"OriginalEventId":"<id>","TimestampUTC":"2026-01-01T00:00:00.000Z","EventId":"<id>",'
    '"Commandline":"","HitCount":1,'
    '"ExtendedProperties":{"HostName":"","TlsServerName":"","Delivery":""}}'
)

BY_POSITION = re.compile(
    r'\{"LocalAddress":"(?P<LocalAddress>.*?)","RemoteAddress":"(?P<RemoteAddress>.*?)",.*?'
    r'"BytesIn":(?P<BytesIn>\d+),"BytesOut":(?P<BytesOut>\d+),"Protocol":"(?P<Protocol>.*?)",'
    r'"ProcessId":(?P<ProcessId>.*?),"UserId":(?P<UserId>.*?),"ApplicationProtocol":"(?P<App>.*?)",.*?'
    r'"DeviceId":"(?P<DeviceId>.*?)","MessageSource":"(?P<MessageSource>.*?)",'
    r'"OriginalEventId":"(?P<OriginalEventId>.*?)","TimestampUTC":"(?P<TimestampUTC>.*?)",'
)
"""How a widely used SIEM parser reads the text: literal pieces, the shortest text between them."""

PORTS = re.compile(r',"LocalPort":(\d+),"RemotePort":(\d+),')


def details(payload: NetworkActivity, hits: int) -> str:
    """EventDetails as the hub stores it, for an event that came the whole way."""
    event = Event(payload, 1767225600.0, hits)
    (message,) = pack([([event], Window(1767225600.0, 1767225660.0))])
    inbound = Inbound(
        Identity("dev-1", "vedette"), {"$.ifid": INTERFACE_ID, "mti": MTI}, message.body, 1767225661.0
    )
    (row,) = rows_of(inbound, "m-1").events
    return row.EventDetails


@pytest.mark.parametrize(
    ("payload", "hits", "golden"),
    [(KNOWN, 12, GOLDEN), (UNKNOWN, 1, GOLDEN_UNKNOWN)],
    ids=["known", "unknown"],
)
def test_the_text_is_golden(payload: NetworkActivity, hits: int, golden: str):
    """Key order, compactness, null for what is not known: every byte but the event's own id."""
    assert re.sub(r"[0-9a-f]{32}", "<id>", details(payload, hits)) == golden


def test_a_parser_that_cuts_by_position_finds_every_field():
    """Even with a command line that imitates a field."""
    text = details(KNOWN, 12)
    found = BY_POSITION.match(text)
    assert found
    assert found["DeviceId"] == "dev-1"
    assert (found["BytesIn"], found["BytesOut"], found["Protocol"]) == ("5120", "2048", "TCP")
    assert (found["ProcessId"], found["UserId"], found["App"]) == ("812", "0", "HTTPS")
    assert (found["MessageSource"], found["TimestampUTC"]) == ("Linux", "2026-01-01T00:00:00.000Z")
    assert PORTS.search(text).groups() == ("50514", "443")

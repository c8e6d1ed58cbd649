"""Application protocols: first bytes before ports, and the server's port before the client's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.sources.app_protocols import TABLE, TLS_PORTS, by_first_bytes, by_port
from vedette.agent.sources.flow import FIRST_BYTES, TCP, UDP, Identity
from vedette.agent.sources.tlshello import Hello


def flow(remote_port: int, protocol: int = TCP, local_port: int = 40_000) -> Identity:
    return Identity(local_port, remote_port, protocol, "192.0.2.1", "198.51.100.1")


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize(
    ("protocol", "port", "data", "name"),
    [
        (TCP, 4444, b"SSH-2.0-OpenSSH_9.", "SSH"),
        (TCP, 4444, b"GET /index.html ", "HTTP"),
        (TCP, 4444, b"HTTP/1.1 200 OK", "HTTP"),
        (TCP, 4444, b"\x10\x25\x00\x04MQTT\x04\xc2", "MQTT"),
        (TCP, 4444, b"\x10\x8a\x02\x00\x04MQTT\x05", "MQTT"),
        (TCP, 4444, b"HELF\x38\x00\x00\x00\x00\x00", "OPC UA"),
        (TCP, 4444, b"AMQP\x00\x01\x00\x00", "AMQP"),
        (TCP, 4444, HELLO, "TLS"),
        (TCP, 443, HELLO, "HTTPS"),
        (TCP, 8883, HELLO, "MQTTS"),
        (TCP, 502, b"\x00\x01\x00\x00\x00\x06\x01\x03", "Modbus"),
        (UDP, 47808, b"\x81\x0a\x00\x0c\x01\x20", "BACnet"),
        (UDP, 50000, b"\x81\x0b\x00\x0c\x01\x20", "BACnet"),
        (UDP, 5683, b"\x40\x01\x12\x34", "CoAP"),
        (UDP, 123, b"\x23\x00\x00\x00", "NTP"),
        (UDP, 53, b"\x12\x34\x01\x00", "DNS"),
        (UDP, 443, b"\xc3\x00\x00\x00\x01\x08", "QUIC"),
        (TCP, 4444, b"\x00\x01\x00\x00\x00\x06\x01\x03", ""),
        (UDP, 4444, b"GET / HTTP/1.1\r\n", ""),
        (TCP, 80, b"\x00\x01noise", ""),
    ],
)
def test_first_bytes_name_the_protocol(protocol: int, port: int, data: bytes, name: str):
    """Telling ones on any port; weak ones only on their own."""
    assert by_first_bytes(flow(port, protocol), data[:FIRST_BYTES], None) == name


def test_a_client_hello_may_say_what_will_be_spoken():
    """ALPN comes before the port."""
    assert by_first_bytes(flow(9999), HELLO, Hello("x", ("h2",))) == "HTTPS"
    assert by_first_bytes(flow(443), HELLO, Hello("x", ("mqtt",))) == "MQTTS"
    assert by_first_bytes(flow(8883), HELLO, Hello("x", ("weird",))) == "MQTTS"


def test_the_port_of_the_server_counts():
    """A client's port is chosen by chance."""
    assert by_port(flow(22)) == "SSH"
    assert by_port(flow(40_001, local_port=22)) == "SSH"
    assert by_port(flow(22, local_port=8883), accepted=True) == "MQTTS"
    assert by_port(flow(22, local_port=8883), accepted=False) == "SSH"
    assert by_port(flow(40_001, local_port=22), accepted=False) == ""
    assert by_port(flow(53, UDP)) == "DNS"
    assert by_port(flow(0, protocol=1, local_port=0)) == ""


def test_a_port_is_not_believed_against_the_bytes():
    """What would be known by its bytes is not spoken if they are others; what would not, may be."""
    assert by_port(flow(80), contradicted=True) == ""
    assert by_port(flow(443), contradicted=True) == ""
    assert by_port(flow(5432), contradicted=True) == "PostgreSQL"


def test_the_table_is_consistent():
    """One entry a name; ports are ports; a telling entry has a pattern."""
    names = [entry.name for entry in TABLE]
    assert len(set(names)) == len(names)
    for entry in TABLE:
        assert set(entry.transports) <= {TCP, UDP}
        assert all(0 < port < 65536 for port in entry.ports)
        assert entry.opening or not entry.anywhere
    plain = {port for entry in TABLE if TCP in entry.transports for port in entry.ports}
    assert not plain & TLS_PORTS.keys()


@given(st.binary(max_size=FIRST_BYTES), st.sampled_from([TCP, UDP]), st.integers(0, 65535))
def test_any_bytes_have_a_name_of_the_table_or_none(data: bytes, protocol: int, port: int):
    """Nothing else comes out, whatever goes in."""
    known = {entry.name for entry in TABLE} | set(TLS_PORTS.values()) | {"", "TLS"}
    assert by_first_bytes(flow(port, protocol), data, None) in known

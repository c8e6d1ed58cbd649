"""Application protocols: by which ports and by which first bytes each is known. One table.

Ports are those registered with IANA, and those in common use. What the first bytes say comes before what a
port suggests: a port is a habit, and hiding behind one is another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from vedette.agent.sources.flow import TCP, UDP, Identity
from vedette.agent.sources.tlshello import Hello, is_client_hello


class AppProtocol(NamedTuple):
    """One protocol. opening: pattern of the first bytes, of either side; at most FIRST_BYTES matter.

    anywhere: the pattern is telling on whatever port; else it is weak, and only confirms the port.
    """

    name: str
    transports: tuple[int, ...]
    ports: tuple[int, ...]
    opening: re.Pattern[bytes] | None = None
    anywhere: bool = False


def _telling(name: str, transports: tuple[int, ...], ports: tuple[int, ...], opening: bytes) -> AppProtocol:
    return AppProtocol(name, transports, ports, re.compile(opening, re.DOTALL), anywhere=True)


def _weak(name: str, transports: tuple[int, ...], ports: tuple[int, ...], opening: bytes) -> AppProtocol:
    return AppProtocol(name, transports, ports, re.compile(opening, re.DOTALL))


_TCP, _UDP, _BOTH = (TCP,), (UDP,), (TCP, UDP)

TABLE: tuple[AppProtocol, ...] = (
    _telling("SSH", _TCP, (22,), rb"SSH-[12]\."),
    _telling(
        "HTTP",
        _TCP,
        (80, 8080, 8000, 8008, 8888),
        rb"(GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|CONNECT|TRACE) |HTTP/1\.|PRI \* HTTP/2",
    ),
    _telling("MQTT", _TCP, (1883,), rb"\x10[\x80-\xff]{0,3}[\x00-\x7f]\x00(\x04MQTT|\x06MQIsdp)"),
    _telling("AMQP", _TCP, (5672,), rb"AMQP[\x00-\x03]"),
    _telling("OPC UA", _TCP, (4840,), rb"(HEL|ACK|ERR|RHE)F.\x00\x00\x00|(HEL|ACK|ERR|RHE)F..\x00\x00"),
    _telling("RTSP", _TCP, (554, 8554), rb"(OPTIONS|DESCRIBE|SETUP|PLAY) rtsp:|RTSP/1\."),
    _telling("SMB", _TCP, (445, 139), rb"\x00...[\xfe\xff]SMB"),
    _telling(
        "RDP", _TCP, (3389,), rb"\x03\x00\x00.[\x06-\xff]\xe0\x00\x00..\x00Cookie|\x03\x00\x00\x13\x0e\xe0"
    ),
    _telling("VNC", _TCP, (5900, 5901), rb"RFB \d\d\d\.\d\d\d"),
    _telling("BitTorrent", _TCP, (), rb"\x13BitTorrent prot"),
    _telling("SIP", _BOTH, (5060,), rb"(INVITE|REGISTER|OPTIONS|ACK|BYE|CANCEL) sips?:|SIP/2\.0"),
    _telling("SSDP", _UDP, (1900,), rb"(M-SEARCH|NOTIFY) \* HTTP|HTTP/1\.1 200 OK"),
    _telling("BACnet", _UDP, (47808,), rb"\x81[\x00-\x0c]\x00.\x01"),
    _telling("DHCP", _UDP, (67, 68), rb"[\x01\x02]\x01\x06[\x00-\x10]"),
    _telling("WireGuard", _UDP, (51820,), rb"[\x01\x02]\x00\x00\x00"),
    _telling("QUIC", _UDP, (443,), rb"[\xc0-\xff](\x00\x00\x00\x01|\x6b\x33\x43\xcf)"),
    _weak("FTP", _TCP, (21,), rb"220[ -]|USER |AUTH "),
    _weak("SMTP", _TCP, (25, 587), rb"220[ -]|EHLO |HELO "),
    _weak("Modbus", _TCP, (502,), rb"..\x00\x00\x00."),
    _weak("S7comm", _TCP, (102,), rb"\x03\x00"),
    _weak("EtherNet/IP", _BOTH, (44818,), rb"[\x04\x63-\x66\x6f\x70]\x00"),
    _weak("DNP3", _BOTH, (20000,), rb"\x05\x64"),
    _weak("IEC 60870-5-104", _TCP, (2404,), rb"\x68"),
    _weak("CoAP", _UDP, (5683,), rb"[\x40-\x7f][\x00-\x1f\x40-\xbf]"),
    _weak("DTLS", _UDP, (5684,), rb"\x16\xfe[\xfd\xff]"),
    _weak("SNMP", _UDP, (161, 162), rb"\x30"),
    _weak("TFTP", _UDP, (69,), rb"\x00[\x01-\x06]"),
    _weak("Syslog", _BOTH, (514,), rb"<\d{1,3}>"),
    _weak("RADIUS", _UDP, (1812, 1813), rb"[\x01-\x0d]"),
    _weak("Redis", _TCP, (6379,), rb"[*+$:-]|[A-Za-z]"),
    AppProtocol("DNS", _BOTH, (53,)),
    AppProtocol("NTP", _UDP, (123,)),
    AppProtocol("Telnet", _TCP, (23, 2323)),
    AppProtocol("IKE", _UDP, (500, 4500)),
    AppProtocol("mDNS", _UDP, (5353,)),
    AppProtocol("LLMNR", _UDP, (5355,)),
    AppProtocol("NetBIOS", _UDP, (137, 138)),
    AppProtocol("POP3", _TCP, (110,)),
    AppProtocol("IMAP", _TCP, (143,)),
    AppProtocol("LDAP", _TCP, (389,)),
    AppProtocol("PostgreSQL", _TCP, (5432,)),
    AppProtocol("MySQL", _TCP, (3306,)),
    AppProtocol("NFS", _TCP, (2049,)),
    AppProtocol("PTP", _UDP, (319, 320)),
    AppProtocol("KNXnet/IP", _UDP, (3671,)),
    AppProtocol("Profinet", _UDP, (34962, 34963, 34964)),
)
"""Telling patterns are tried in this order; of two protocols on one port the first counts."""

TLS_PORTS = {
    443: "HTTPS",
    8443: "HTTPS",
    853: "DNS over TLS",
    8883: "MQTTS",
    5671: "AMQPS",
    465: "SMTPS",
    636: "LDAPS",
    990: "FTPS",
    993: "IMAPS",
    995: "POP3S",
    5061: "SIPS",
    802: "Modbus over TLS",
}
"""What speaks TLS from the first byte, by port. On other ports it is `TLS`."""

ALPN = {"h2": "HTTPS", "http/1.1": "HTTPS", "mqtt": "MQTTS", "x-amzn-mqtt-ca": "MQTTS", "dot": "DNS over TLS"}
"""What a ClientHello itself names (RFC 7301)."""

_BY_PORT: dict[tuple[int, int], AppProtocol] = {}
for _entry in TABLE:
    for _transport in _entry.transports:
        for _port in _entry.ports:
            _BY_PORT.setdefault((_transport, _port), _entry)


def by_first_bytes(identity: Identity, data: bytes, hello: Hello | None = None) -> str:
    """The protocol that first bytes name; empty if they name none. hello: what a ClientHello says."""
    if is_client_hello(data) and identity.protocol == TCP:
        offered = (ALPN[name] for name in (hello.protocols if hello else ()) if name in ALPN)
        known = (TLS_PORTS[port] for port in _ports(identity) if port in TLS_PORTS)
        return next(offered, next(known, "TLS"))
    on_port = [entry for port in _ports(identity) if (entry := _BY_PORT.get((identity.protocol, port)))]
    for entry in (*on_port, *(entry for entry in TABLE if entry.anywhere)):
        if identity.protocol in entry.transports and entry.opening and entry.opening.match(data):
            return entry.name
    return next((entry.name for entry in on_port if not entry.opening), "")


def by_port(identity: Identity, accepted: bool | None = None, *, contradicted: bool = False) -> str:
    """The protocol that a well-known port suggests; empty if none does.

    accepted: this side is the server; None where that is not known. contradicted: the first bytes were seen
    and are none of a known protocol, so one that would be known by them is not spoken.
    """
    for port in _ports(identity, accepted):
        entry = _BY_PORT.get((identity.protocol, port))
        if entry and not (contradicted and entry.opening):
            return entry.name
        if identity.protocol == TCP and port in TLS_PORTS and not contradicted:
            return TLS_PORTS[port]
    return ""


def _ports(identity: Identity, accepted: bool | None = None) -> Sequence[int]:
    """The server's port; both, where it is not known which of them that is."""
    if accepted is None:
        return identity.remote_port, identity.local_port
    return (identity.local_port,) if accepted else (identity.remote_port,)

"""Takes over what a Defender micro agent left on a device: its local files, in our own directories.

Reads that agent's directory, judges every file as ours would on its next start, and only if all are
understood writes any. What it says of a file holds no secret.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from vedette.agent.route import Proxy
from vedette.agent.settings import (
    CERTIFICATE,
    CONF,
    CONNECTION_STRING,
    PRIVATE_KEY,
    TRANSPORTS,
    read_bounded,
    write_private,
)
from vedette.wire.iothub import ConnectionString

SYSINFO = "sysinfo.json"

TRANSPORT_KEY = "IothubModule_TransportProtocol"
PROXY_KEY = "IothubModule_ProxyConfig"

AMQP = {
    "AMQP_Protocol": "MQTT_Protocol",
    "AMQP_WebSocket_Protocol": "MQTT_WebSocket_Protocol",
}
"""Ways that agent knew and we do not → what serves in their place, through the same kind of port."""


class Step(msgspec.Struct, frozen=True):
    """What becomes of one file. action: `write`, `keep` (ours is the same), `skip` (not there), `refuse`."""

    file: str
    action: str
    detail: str
    content: bytes = b""

    def __repr__(self) -> str:
        """Without the content, which may be a key."""
        return f"Step({self.file!r}, {self.action!r})"


SYSINFO_KEYS = (
    "HardwareVendor",
    "HardwareModel",
    "HardwareSerialNumber",
    "FirmwareVendor",
    "FirmwareVersion",
)
"""What a board without DMI cannot say of itself."""


def plan(source: Path, target: Path, *, replace: bool = False) -> list[Step]:
    """What a migration would do. Reads both directories and changes nothing.

    replace: overwrite files of ours that differ; without it they are refused.
    """
    return [
        _placed(step, target, replace=replace) for step in (_read(source, *reader) for reader in _READERS)
    ]


def carry_out(steps: list[Step], target: Path) -> None:
    """Write what a plan says, each file 0600 in one step. Raises OSError; the source stays as it is."""
    target.mkdir(mode=0o750, parents=True, exist_ok=True)
    for step in steps:
        if step.action == "write":
            write_private(target / step.file, step.content)


def _read(source: Path, name: str, judge: Callable[[bytes], tuple[str, bytes]]) -> Step:
    try:
        detail, content = judge(read_bounded(source / name))
    except FileNotFoundError:
        return Step(name, "skip", "not there")
    except OSError as error:
        return Step(name, "refuse", error.strerror or "cannot be read")
    except ValueError as error:
        return Step(name, "refuse", str(error))
    return Step(name, "write", detail, content)


def _placed(step: Step, target: Path, *, replace: bool) -> Step:
    """Compare with what is there."""
    if step.action != "write":
        return step
    try:
        present = read_bounded(target / step.file)
    except FileNotFoundError:
        return step
    except (OSError, ValueError) as error:
        return msgspec.structs.replace(step, action="refuse", detail=f"{target / step.file}: {error}")
    if present == step.content:
        return msgspec.structs.replace(step, action="keep", detail=f"{step.detail}; ours is the same")
    if replace:
        return msgspec.structs.replace(step, detail=f"{step.detail}; replaces ours")
    return msgspec.structs.replace(step, action="refuse", detail="ours differs; --replace overwrites it")


def _connection(content: bytes) -> tuple[str, bytes]:
    connection = ConnectionString.parse(content.decode())
    proof = "by X.509" if connection.x509 else "with a shared access key"
    return f"{connection.identity.client_id} at {connection.host}, {proof}", content.strip() + b"\n"


def _pem(kind: bytes, detail: str) -> Callable[[bytes], tuple[str, bytes]]:
    def judge(content: bytes) -> tuple[str, bytes]:
        if b"-----BEGIN " not in content or kind not in content:
            raise ValueError(f"no PEM {kind.decode().lower()} in it")
        return detail, content

    return judge


def _conf(content: bytes) -> tuple[str, bytes]:
    """The two keys that are settings of ours; the rest goes over unread."""
    document = msgspec.json.decode(content, type=dict[str, Any])
    said = []
    for key in (PROXY_KEY, TRANSPORT_KEY):
        if not isinstance(document.get(key, ""), str):
            raise ValueError(f"{key}: not a text")
    if text := document.get(PROXY_KEY):
        try:
            proxy = Proxy.parse(text)
        except ValueError as error:
            raise ValueError(f"{PROXY_KEY}: {error}") from None
        said.append(f"proxy {proxy.host}:{proxy.port}{' with credentials' if proxy.user else ''}")
    if transport := document.get(TRANSPORT_KEY):
        if transport in AMQP:
            said.append(f"{transport} becomes {AMQP[transport]}")
            document[TRANSPORT_KEY] = AMQP[transport]
        elif transport in TRANSPORTS:
            said.append(transport)
        else:
            raise ValueError(f"{TRANSPORT_KEY}: not one that we know")
    return ", ".join(said) or "nothing that concerns us", msgspec.json.encode(document)


def _system_info(content: bytes) -> tuple[str, bytes]:
    document = msgspec.json.decode(content, type=dict[str, Any])
    if wrong := [key for key in SYSINFO_KEYS if not isinstance(document.get(key, ""), str)]:
        raise ValueError(f"{wrong[0]}: not a text")
    return ", ".join(key for key in SYSINFO_KEYS if document.get(key)) or "empty", content


_READERS: tuple[tuple[str, Callable[[bytes], tuple[str, bytes]]], ...] = (
    (CONNECTION_STRING, _connection),
    (CERTIFICATE, _pem(b"CERTIFICATE", "the device's certificate")),
    (PRIVATE_KEY, _pem(b"PRIVATE KEY", "its private key")),
    (CONF, _conf),
    (SYSINFO, _system_info),
)


def refusals(steps: list[Step]) -> list[Step]:
    """What keeps a migration from being carried out: files, none for who the device is, or two at odds."""
    refused = [step for step in steps if step.action == "refuse"]
    identity = steps[0]
    if identity.action == "skip":
        refused.append(msgspec.structs.replace(identity, action="refuse", detail="no identity to take over"))
    elif not refused and ConnectionString.parse(identity.content.decode()).x509:
        refused = [
            msgspec.structs.replace(step, action="refuse", detail=detail)
            for step in steps
            if (detail := _at_odds_with_x509(step))
        ]
    return refused


def _at_odds_with_x509(step: Step) -> str:
    """Why a device with this file cannot prove itself by certificate; nothing if it can."""
    if step.file in (CERTIFICATE, PRIVATE_KEY) and step.action == "skip":
        return "not there, but the connection string says x509=true"
    if step.file == CONF and step.content:
        transport = msgspec.json.decode(step.content).get(TRANSPORT_KEY, "")
        if TRANSPORTS.get(transport):
            return f"{TRANSPORT_KEY}: {transport} carries no client certificate; MQTT_Protocol does"
    return ""

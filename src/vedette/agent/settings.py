"""What the agent is told: local files say who it is, the twin says what it does.

The twin's last accepted document is cached in the state directory, so that a reboot without network
starts with it. What the settings mean is in `wire.twin`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from vedette.agent.route import Proxy, Route
from vedette.wire.iothub import MQTT_TLS_PORT, ConnectionString
from vedette.wire.twin import InvalidSettings, Settings, settings_from

log = logging.getLogger(__name__)

CONFIG_DIR = Path("/etc/vedette")
STATE_DIR = Path("/var/lib/vedette")
CONNECTION_STRING = "connection_string.txt"
CERTIFICATE = "certificate_public.pem"
PRIVATE_KEY = "certificate_private.pem"
CONF = "conf.json"
PROVISIONING = "provisioning.json"
CA_FILE = "ca.pem"
CACHED_TWIN = "twin.json"

WEBSOCKET_PORT = 443
TRANSPORTS = {"MQTT_Protocol": False, "MQTT_WebSocket_Protocol": True}
"""The micro agent's names of the ways that we speak too → by WebSocket. It had AMQP as well; we do not."""

MAX_LOCAL_FILE = 65_536
"""Bytes read of any local file: a twin document has at most 32 KB, a connection string under 1 KB."""


class LocalError(ValueError):
    """A local file is missing or wrong; the text names the file and what to do."""


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """Who this agent is, how it reaches its hub, and where it keeps its state.

    dialect: `micro`, `classic`, or empty for the one that the module's name implies. find_hub: asks where the
    device belongs now, raising LocalError; None where a connection string says it for good.
    """

    connection: ConnectionString
    route: Route
    state: Path
    dialect: str = ""
    find_hub: Callable[[], Awaitable[Local]] | None = None


class Conf(msgspec.Struct, frozen=True):
    """`conf.json`, as the Defender micro agent reads it; keys that are not ours are left alone.

    IothubModule_ProxyConfig: `address,port[,user,password]`. IothubModule_TransportProtocol: of TRANSPORTS.
    """

    proxy: str = msgspec.field(default="", name="IothubModule_ProxyConfig")
    transport: str = msgspec.field(default="MQTT_Protocol", name="IothubModule_TransportProtocol")


def load_local(
    config: Path = CONFIG_DIR,
    state: Path = STATE_DIR,
    *,
    connection_file: Path | None = None,
    ca_file: Path | None = None,
    port: int | None = None,
) -> Local:
    """Read the local files. Raises LocalError; makes the state directory (0700) if it is not there.

    port: of the hub; None for the transport's own.
    """
    connection = read_connection(connection_file or config / CONNECTION_STRING)
    route = route_to(
        connection.gateway or connection.host, config, ca_file=ca_file, port=port, x509=connection.x509
    )
    make_state(state)
    return Local(connection=connection, route=route, state=state)


def read_connection(path: Path) -> ConnectionString:
    """The connection string of a file. Raises LocalError."""
    try:
        connection = ConnectionString.parse(read_bounded(path).decode())
    except FileNotFoundError:
        raise LocalError(
            f"{path}: not there; write the module's connection string into it"
            " (on the hub: vedette device show DEVICE --connection-string)"
        ) from None
    except (OSError, ValueError) as error:
        raise LocalError(f"{path}: {error}") from None
    _point_out_if_readable(path)
    return connection


def route_to(
    address: str, config: Path, *, ca_file: Path | None = None, port: int | None = None, x509: bool = False
) -> Route:
    """How to reach a host by what the configuration directory holds. Raises LocalError naming the file."""
    conf = read_conf(config / CONF)
    if ca_file is None and (config / CA_FILE).exists():
        ca_file = config / CA_FILE
    websocket = TRANSPORTS[conf.transport]
    route = Route(
        address=address,
        port=port or (WEBSOCKET_PORT if websocket else MQTT_TLS_PORT),
        ca_file=ca_file,
        websocket=websocket,
        proxy=_proxy(config / CONF, conf.proxy),
    )
    if not x509:
        return route
    if websocket:
        raise LocalError(
            f"{config / CONF}: IothubModule_TransportProtocol: {conf.transport} carries no client"
            " certificate, and the agent is to prove itself by X.509; use MQTT_Protocol, or a key"
        )
    certificate, key = config / CERTIFICATE, config / PRIVATE_KEY
    for path in (certificate, key):
        if not path.exists():
            raise LocalError(f"{path}: not there, but the agent is to prove itself by X.509")
    _point_out_if_readable(key)
    return msgspec.structs.replace(route, certificate=certificate, private_key=key)


def read_conf(path: Path) -> Conf:
    """`conf.json`; defaults if there is none. Raises LocalError."""
    try:
        conf = msgspec.json.decode(read_bounded(path), type=Conf)
    except FileNotFoundError:
        return Conf()
    except (OSError, ValueError) as error:
        raise LocalError(f"{path}: {error}") from None
    if conf.transport not in TRANSPORTS:
        raise LocalError(f"{path}: IothubModule_TransportProtocol is none of {', '.join(sorted(TRANSPORTS))}")
    return conf


def _proxy(path: Path, text: str) -> Proxy | None:
    try:
        return Proxy.parse(text) if text else None
    except ValueError as error:
        raise LocalError(f"{path}: IothubModule_ProxyConfig: {error}") from None


def _point_out_if_readable(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        log.warning("%s can be read by others; chmod 600 it", path)


def make_state(state: Path) -> None:
    """Make the state directory, for its owner only. Raises LocalError."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{state}: {error.strerror}; name another state directory with --state") from None


def read_bounded(path: Path) -> bytes:
    """A small file's content. Raises OSError, or ValueError if it is larger than it may be."""
    with path.open("rb") as file:
        content = file.read(MAX_LOCAL_FILE + 1)
    if len(content) > MAX_LOCAL_FILE:
        raise ValueError(f"larger than {MAX_LOCAL_FILE} bytes")
    return content


def write_private(path: Path, content: bytes) -> None:
    """Replace a 0600 file in one step: a crash leaves the old content or the new."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load_cached(state: Path) -> Settings:
    """Settings of the last accepted twin document; defaults if there is none or it cannot be read.

    A document of another version of the agent counts as far as this one understands it.
    """
    document = cached_document(state)
    try:
        return settings_from(document)
    except InvalidSettings as error:
        log.warning("cached twin is of another version; these settings have their defaults: %s", error)
        return settings_from({key: value for key, value in document.items() if key not in error.fields})


def cached_document(state: Path, name: str = CACHED_TWIN) -> dict[str, Any]:
    """The last accepted document, with its `$version`; empty if there is none or it cannot be read."""
    try:
        return msgspec.json.decode(read_bounded(state / name), type=dict[str, Any])
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("cached twin cannot be read, starting with defaults: %s", error)
    return {}


def save_cached(state: Path, document: dict[str, Any], name: str = CACHED_TWIN) -> None:
    """Keep an accepted document for the next start. Where that fails the agent goes on, and says so."""
    try:
        write_private(state / name, msgspec.json.encode(document))
    except OSError as error:
        log.warning("cached twin cannot be written; a restart offline will not know it: %s", error)

"""Where a hub keeps its state and how it is reached: one small file, written by `vedette hub init`."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote

import msgspec

from vedette.hub.introduction import networks
from vedette.hub.limits import Limits

if TYPE_CHECKING:
    from vedette.hub.lake.storage import Storage

SETTINGS_FILE = "hub.json"
DEFAULT_STATE = Path("/var/lib/vedette-hub")

Days = Annotated[int, msgspec.Meta(ge=1, le=36_500)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,62}\.?)*", re.IGNORECASE)


class HubError(Exception):
    """The hub cannot do what was asked; the text says what to do about it."""


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A hub's settings.

    host_names: names and addresses that devices may call it by; the first stands in connection strings.
    registry: URL of the registry's database, as in `postgresql://user:password@host/name`; empty for a file
    in the state directory. lake: where events are kept, as in `s3://bucket/prefix`, `az://container/prefix`,
    `gs://bucket/prefix` or a path; empty for a directory in the state directory. lake_options: what the
    client of the object store is told besides its environment variables, such as `aws_region`; may hold
    secrets. retention_days: age at which rows are removed; retention: the same for single tables.
    limits: what one client may ask of the hub. proxies: addresses and networks of load balancers; each of
    their connections has to begin with the PROXY protocol, which tells the client's address. traces: URL of
    an OpenTelemetry collector, as in `http://localhost:4318/v1/traces`; empty for none.
    """

    host_names: tuple[str, ...]
    bind: str = "0.0.0.0"  # noqa: S104 - a hub is there to be reached; TLS and keys guard it
    mqtt_port: Port = 8883
    https_port: Port = 8443
    registry: str = ""
    lake: str = ""
    lake_options: dict[str, str] = {}
    retention_days: Days = 90
    retention: dict[Literal["raw_events", "dead_letters"], Days] = {}
    limits: Limits = Limits()
    proxies: tuple[str, ...] = ()
    traces: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a proxy that is neither address nor network."""
        networks(self.proxies)


class HubState(msgspec.Struct, frozen=True):
    """The directories and files of one hub."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """This file's content is `HubSettings`."""
        return self.root / SETTINGS_FILE

    @property
    def registry_url(self) -> str:
        """Identities, keys and twins: where the settings say, else a file here. The key file is here."""
        configured = self.load().registry if self.settings_file.exists() else ""
        if not configured:
            return f"sqlite:///{self.root / 'registry.db'}"
        key_file = quote(str(self.root / "registry.key"), safe="")
        return f"{configured}{'&' if '?' in configured else '?'}key_file={key_file}"

    @property
    def lake(self) -> Storage:
        """Events: where the settings say, else in a directory here. Raises HubError."""
        return self.lake_of(self.load() if self.settings_file.exists() else HubSettings(host_names=()))

    def lake_of(self, settings: HubSettings) -> Storage:
        """Where these settings put the lake. Raises HubError."""
        from vedette.hub.lake.storage import StorageRefused, locate

        try:
            return locate(settings.lake, settings.lake_options, self.root)
        except StorageRefused as error:
            raise HubError(str(error)) from None

    @property
    def rules(self) -> Path:
        """The owner's detection rules; the directory need not exist."""
        return self.root / "rules"

    @property
    def pki(self) -> Path:
        """The private authority and the server's certificate."""
        return self.root / "pki"

    def make(self) -> None:
        """Make the state directory (0700). Raises HubError."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HubError(f"{self.root}: {error.strerror}; name another directory with --state") from None

    def load(self) -> HubSettings:
        """The settings. Raises HubError if there are none or they are wrong."""
        try:
            return msgspec.json.decode(self.settings_file.read_bytes(), type=HubSettings)
        except FileNotFoundError:
            raise HubError(f"{self.root} holds no hub; make one with: vedette hub init") from None
        except (OSError, msgspec.DecodeError) as error:
            raise HubError(f"{self.settings_file}: {error}") from None

    def save(self, settings: HubSettings) -> None:
        """Write the settings. Raises HubError for a host name that is none."""
        for name in settings.host_names:
            if not valid_host(name):
                raise HubError(f"host name: {name!r} is neither a name nor an address")
        self.make()
        self.settings_file.touch(mode=0o600)  # a database's password may stand in it
        self.settings_file.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))


def default_state() -> Path:
    """`$VEDETTE_STATE`, else the system's place for root and the user's for others."""
    if configured := os.environ.get("VEDETTE_STATE"):
        return Path(configured)
    if os.geteuid() == 0:
        return DEFAULT_STATE
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state")) / DEFAULT_STATE.name


def valid_host(name: str) -> bool:
    """True for a DNS name or an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _HOST.fullmatch(name) is not None
    return True


def check_port(bind: str, port: int, option: str) -> None:
    """Raise HubError, naming the option, if nothing can listen on this port."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            raise HubError(
                f"cannot listen on {bind}:{port}: {error.strerror}; choose another with {option}"
            ) from None

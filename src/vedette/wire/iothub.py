"""The Azure IoT Hub dialect: topics, property bags, connection strings, SAS tokens. Pure; time passed in.

What it does on a connection lives elsewhere: `agent.uplink` for the device, `hub.gateway` for the server.
Facts: the official SDKs' behaviour and the service's public documentation.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import msgspec

API_VERSION = "2021-04-12"
MQTT_TLS_PORT = 8883
KEEPALIVE_S = 240
MAX_IN_FLIGHT = 20
"""Unacknowledged QoS 1 messages of one connection; the SDKs' own bound."""

CLASSIC_MODULE = "azureiotsecurity"
"""Module id by which the classic security agent is registered; its successors have others."""

TOKEN_TTL_S = 3600
"""Lifetime of the SAS tokens that the agent makes, as the SDKs' default."""

REMEMBERED_CHARS = 128
"""Longest key or value of a property bag whose decoded form is remembered: 256 of them are 100 KB at most."""

_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@$']{1,128}")
"""Device and module ids: the service's alphabet and length."""


class DialectError(ValueError):
    """Text that is not of this dialect; the message names the field and never holds a secret."""


class Identity(msgspec.Struct, frozen=True, order=True):
    """A device, or a module on it."""

    device_id: str
    module_id: str = ""

    @property
    def client_id(self) -> str:
        """As MQTT client id: `device` or `device/module`."""
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id

    @property
    def resource(self) -> str:
        """Path below the host name: `devices/d[/modules/m]`, each id percent-encoded."""
        path = f"devices/{quote(self.device_id, safe='')}"
        return f"{path}/modules/{quote(self.module_id, safe='')}" if self.module_id else path

    @property
    def events_topic(self) -> str:
        """Topic prefix of device-to-cloud messages; the property bag follows."""
        module = f"/modules/{self.module_id}" if self.module_id else ""
        return f"devices/{self.device_id}{module}/messages/events/"

    @classmethod
    def parse(cls, client_id: str) -> Identity:
        """From an MQTT client id. Raises DialectError."""
        device, slash, module = client_id.partition("/")
        if not valid_id(device) or (slash and not valid_id(module)):
            raise DialectError("client id: not `device` or `device/module`")
        return cls(device, module)


def valid_id(text: str) -> bool:
    """True for a legal device or module id."""
    return _ID.fullmatch(text) is not None


class ConnectionString(msgspec.Struct, frozen=True):
    """`HostName=…;DeviceId=…[;ModuleId=…];SharedAccessKey=…`. Its repr hides the key."""

    host: str
    identity: Identity
    key: str = ""
    x509: bool = False
    gateway: str = ""

    def __repr__(self) -> str:
        """Without the key: this value is printed in logs."""
        return f"ConnectionString(host={self.host!r}, identity={self.identity.client_id!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for `rich`, which would otherwise ask msgspec for all fields."""
        return [("host", self.host), ("identity", self.identity.client_id)]

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """Raises DialectError naming the part that is missing or wrong, never its value."""
        parts: dict[str, str] = {}
        for part in text.strip().split(";"):
            name, equals, value = part.partition("=")
            if part and not equals:
                raise DialectError("connection string: a part has no `=`")
            if part:
                parts[name.strip().lower()] = value.strip()
        for required in ("hostname", "deviceid"):
            if not parts.get(required):
                raise DialectError(f"connection string: no {required}")
        device, module = parts["deviceid"], parts.get("moduleid", "")
        if not valid_id(device) or (module and not valid_id(module)):
            raise DialectError("connection string: DeviceId or ModuleId holds a character that ids may not")
        x509 = parts.get("x509", "").lower() == "true"
        key = parts.get("sharedaccesskey", "")
        if not x509:
            decode_key(key)
        return cls(parts["hostname"], Identity(device, module), key, x509, parts.get("gatewayhostname", ""))

    def format(self) -> str:
        """The text again, with its key: write it to a 0600 file only."""
        module = f"ModuleId={self.identity.module_id};" if self.identity.module_id else ""
        secret = "x509=true" if self.x509 else f"SharedAccessKey={self.key}"
        return f"HostName={self.host};DeviceId={self.identity.device_id};{module}{secret}"


def decode_key(key: str) -> bytes:
    """A base64 key as bytes. Raises DialectError without showing it."""
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise DialectError("shared access key: not base64") from None
    if not raw:
        raise DialectError("shared access key: empty")
    return raw


def signature(key: str, resource: str, expiry: str) -> str:
    """base64(HMAC-SHA256(key, resource + newline + expiry)) over both exactly as they are sent."""
    digest = hmac.new(decode_key(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def make_token(host: str, identity: Identity, key: str, *, now: float, ttl: float = TOKEN_TTL_S) -> str:
    """A SAS token for an identity; expiry is in whole Unix seconds."""
    resource = quote(f"{host}/{identity.resource}", safe="")
    expiry = str(int(now + ttl))
    return (
        f"SharedAccessSignature sr={resource}"
        f"&sig={quote(signature(key, resource, expiry), safe='')}&se={expiry}"
    )


class Token(msgspec.Struct, frozen=True):
    """A parsed SAS token. `resource` is as it was sent; nothing here has been verified."""

    resource: str
    signature: str
    expiry: str
    policy: str = ""

    def __repr__(self) -> str:
        """Without the signature."""
        return f"Token(resource={self.resource!r}, expiry={self.expiry!r}, policy={self.policy!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for `rich`."""
        return [("resource", self.resource), ("expiry", self.expiry), ("policy", self.policy)]

    @classmethod
    def parse(cls, text: str) -> Token:
        """Parts in any order. Raises DialectError naming the part, never its value."""
        scheme, _, rest = text.partition(" ")
        if scheme != "SharedAccessSignature":
            raise DialectError("token: not a SharedAccessSignature")
        parts = dict(part.partition("=")[::2] for part in rest.split("&"))
        missing = [name for name in ("sr", "sig", "se") if not parts.get(name)]
        if missing:
            raise DialectError(f"token: no {missing[0]}")
        if not parts["se"].isascii() or not parts["se"].isdigit():
            raise DialectError("token: se is not a number of seconds")
        return cls(parts["sr"], unquote(parts["sig"]), parts["se"], unquote(parts.get("skn", "")))

    def expired(self, now: float) -> bool:
        """True at and after the expiry."""
        return now >= int(self.expiry)

    def signed_by(self, keys: Iterable[str]) -> bool:
        """True if one of the base64 keys made the signature. Takes equally long for every wrong one."""
        given = self.signature.encode()
        matches = [
            hmac.compare_digest(signature(key, self.resource, self.expiry).encode(), given) for key in keys
        ]
        return any(matches)


def username(host: str, identity: Identity) -> str:
    """MQTT user name of a client of ours."""
    return f"{host}/{identity.client_id}/?api-version={API_VERSION}&DeviceClientType=vedette"


def encode_properties(properties: Iterable[tuple[str, str]]) -> str:
    """A property bag: percent-encoded `k=v&…`."""
    return "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in properties)


def decode_properties(bag: str) -> dict[str, str]:
    """The property bag behind a topic. `+` is not a space; a key without `=` has an empty value."""
    pairs = (part.partition("=")[::2] for part in bag.strip("/").split("&") if part)
    return {_plain(key): _plain(value) for key, value in pairs}


def _plain(text: str) -> str:
    """Percent-decoded; what comes with every message is remembered."""
    if "%" not in text:
        return text
    return _remembered(text) if len(text) <= REMEMBERED_CHARS else unquote(text)


@lru_cache(maxsize=256)
def _remembered(text: str) -> str:
    return unquote(text)


TWIN_RESPONSE = "$iothub/twin/res/"
TWIN_DESIRED = "$iothub/twin/PATCH/properties/desired/"
TWIN_GET = "$iothub/twin/GET/"
TWIN_REPORTED = "$iothub/twin/PATCH/properties/reported/"
METHOD_REQUEST = "$iothub/methods/POST/"
METHOD_RESPONSE = "$iothub/methods/res/"


def query_of(topic: str) -> dict[str, str]:
    """The `?a=b&…` part of a twin or method topic."""
    return decode_properties(topic.rpartition("?")[2]) if "?" in topic else {}

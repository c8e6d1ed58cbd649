"""Identities and twins as the service API writes them, and what it reads. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from vedette.hub.registry import Draft, Entry, TwinChange
from vedette.hub.registry.metadata import shown
from vedette.hub.registry.profiles import MAX_STATUS_REASON, Authentication
from vedette.hub.registry.times import NEVER, time_text
from vedette.wire.iothub import Identity

_THUMBPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")


class SymmetricKey(msgspec.Struct, rename="camel"):
    """Base64 keys; none or both."""

    primary_key: str | None = None
    secondary_key: str | None = None


class Thumbprints(msgspec.Struct, rename="camel"):
    """SHA-1 or SHA-256 of certificates, hexadecimal."""

    primary_thumbprint: str | None = None
    secondary_thumbprint: str | None = None


class AuthenticationBody(msgspec.Struct, rename="camel"):
    """How an identity is to authenticate."""

    type: Authentication | None = None
    symmetric_key: SymmetricKey | None = None
    x509_thumbprint: Thumbprints | None = None


class IdentityBody(msgspec.Struct, rename="camel"):
    """What is read of a device or module; all else in it is the service's to write."""

    status: Literal["enabled", "disabled"] | None = None
    status_reason: str | None = None
    authentication: AuthenticationBody | None = None


class Properties(msgspec.Struct):
    """Of a twin that its owner writes; reported properties are the device's."""

    desired: dict[str, Any] | None = None


class TwinBody(msgspec.Struct):
    """What is read of a twin."""

    tags: dict[str, Any] | None = None
    properties: Properties | None = None

    def change(self, *, whole: bool = False) -> TwinChange:
        """The change; with `whole`, a section that is left out becomes empty."""
        nothing: dict[str, Any] | None = {} if whole else None
        desired = self.properties.desired if self.properties else None
        return TwinChange(
            nothing if self.tags is None else self.tags, nothing if desired is None else desired
        )


class BulkItem(IdentityBody, rename="camel"):
    """One operation of a bulk request."""

    id: str = ""
    module_id: str | None = None
    e_tag: str | None = None
    import_mode: str = "create"
    tags: dict[str, Any] | None = None
    properties: Properties | None = None

    @property
    def identity(self) -> Identity:
        """Whom it is about."""
        return Identity(self.id, self.module_id or "")


def draft(identity: Identity, body: IdentityBody, before: Entry | None = None) -> Draft:
    """The record that a body asks for; what it leaves out stays. Raises ValueError naming the field."""
    old = _draft_of(before) if before else Draft(identity)
    given = body.authentication or AuthenticationBody()
    reason = old.status_reason if body.status_reason is None else body.status_reason
    if len(reason) > MAX_STATUS_REASON:
        raise ValueError(f"statusReason: longer than {MAX_STATUS_REASON} characters")
    thumbprints = _thumbprints(given.x509_thumbprint) or old.thumbprints
    kind = given.type or ("selfSigned" if any(thumbprints) else old.authentication)
    if kind == "selfSigned" and not any(thumbprints):
        raise ValueError("authentication.x509Thumbprint: is needed for selfSigned")
    return Draft(
        identity,
        _keys(given.symmetric_key) or old.keys,
        old.enabled if body.status is None else body.status == "enabled",
        kind,
        thumbprints if kind == "selfSigned" else ("", ""),
        reason,
    )


def _draft_of(entry: Entry) -> Draft:
    device, profile = entry.device, entry.profile
    return Draft(
        device.identity,
        (device.primary_key, device.secondary_key),
        device.enabled,
        profile.authentication,
        (profile.primary_thumbprint, profile.secondary_thumbprint),
        profile.status_reason,
    )


def _keys(given: SymmetricKey | None) -> tuple[str, str] | None:
    if given is None or not (given.primary_key or given.secondary_key):
        return None
    if not (given.primary_key and given.secondary_key):
        raise ValueError("authentication.symmetricKey: primaryKey and secondaryKey, or neither")
    return given.primary_key, given.secondary_key


def _thumbprints(given: Thumbprints | None) -> tuple[str, str] | None:
    if given is None or not (given.primary_thumbprint or given.secondary_thumbprint):
        return None
    return _thumbprint(given.primary_thumbprint), _thumbprint(given.secondary_thumbprint)


def _thumbprint(text: str | None) -> str:
    plain = (text or "").replace(":", "").upper()
    if plain and not _THUMBPRINT.fullmatch(plain):
        raise ValueError("authentication.x509Thumbprint: not 40 or 64 hexadecimal digits")
    return plain


def identity_document(entry: Entry) -> dict[str, Any]:
    """A device or module as the service shows it, keys included."""
    device, profile = entry.device, entry.profile
    sas = profile.authentication == "sas"
    document = {
        "deviceId": device.identity.device_id,
        "generationId": str(int(device.created * 1_000_000)),
        "etag": device.etag,
        "connectionState": _state(entry),
        "connectionStateUpdatedTime": _time(device.last_activity),
        "lastActivityTime": _time(device.last_activity),
        "cloudToDeviceMessageCount": entry.waiting,
        "authentication": {
            "symmetricKey": {
                "primaryKey": device.primary_key if sas else None,
                "secondaryKey": device.secondary_key if sas else None,
            },
            "x509Thumbprint": _thumbprint_document(entry),
            "type": profile.authentication,
        },
    }
    if device.identity.module_id:
        return {"moduleId": device.identity.module_id, "managedBy": None, **document}
    return {
        **document,
        "status": _status(entry),
        "statusReason": profile.status_reason or None,
        "statusUpdatedTime": NEVER,
        "capabilities": {"iotEdge": False},
    }


def twin_document(entry: Entry) -> dict[str, Any]:
    """A twin as the service shows it."""
    device, profile = entry.device, entry.profile
    module = {"moduleId": device.identity.module_id} if device.identity.module_id else {}
    return {
        "deviceId": device.identity.device_id,
        **module,
        "etag": entry.twin_etag,
        "deviceEtag": device.etag,
        "status": _status(entry),
        "statusReason": profile.status_reason or None,
        "statusUpdateTime": NEVER,
        "connectionState": _state(entry),
        "lastActivityTime": _time(device.last_activity),
        "cloudToDeviceMessageCount": entry.waiting,
        "authenticationType": profile.authentication,
        "x509Thumbprint": _thumbprint_document(entry),
        "modelId": "",
        "version": entry.twin_version,
        "tags": profile.tags,
        "properties": _properties(entry),
        "capabilities": {"iotEdge": False},
    }


def _properties(entry: Entry) -> dict[str, Any]:
    """Both sections, each with the times of its changes."""
    sections = entry.twin.document()
    for name, section in sections.items():
        section["$metadata"] = shown(getattr(entry.metadata, name))
    return sections


def _thumbprint_document(entry: Entry) -> dict[str, str | None]:
    return {
        "primaryThumbprint": entry.profile.primary_thumbprint or None,
        "secondaryThumbprint": entry.profile.secondary_thumbprint or None,
    }


def _state(entry: Entry) -> str:
    return "Connected" if entry.device.connected else "Disconnected"


def _status(entry: Entry) -> str:
    return "enabled" if entry.device.enabled else "disabled"


def _time(seconds: float | None) -> str:
    return NEVER if seconds is None else time_text(datetime.fromtimestamp(seconds, UTC))

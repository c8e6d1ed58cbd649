"""What the hub's own API takes and gives, as OpenAPI shows it. Times are ISO 8601 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vedette.hub.lake.query import QUERY_CHARS
from vedette.hub.registry import Entry
from vedette.hub.registry.audit import AuditEntry
from vedette.hub.registry.tokens import Grant
from vedette.hub.registry.users import MAX_PASSWORD, MIN_PASSWORD

ID_PATTERN = r"^[A-Za-z0-9\-:.+%_#*?!(),=@$']{1,128}$"
"""Device and module ids; see `wire.iothub`."""

MAX_GROUP = 1_000
"""Identities that one change of a group may concern; a larger group is changed in parts."""

Id = Annotated[str, Field(pattern=ID_PATTERN)]
RoleName = Literal["viewer", "analyst", "operator", "admin"]


class Form(BaseModel):
    """A request's body: unknown fields are errors, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """Why a request was not served."""

    detail: str


class NewIdentity(Form):
    """A device, or a module of a registered device."""

    device_id: Id
    module_id: Id | None = None


class IdentityChange(Form):
    """enabled: may it connect?"""

    enabled: bool


class IdentityForm(BaseModel):
    """A device or module as registered; keys are not shown."""

    device_id: str
    module_id: str
    enabled: bool
    connected: bool
    created: datetime
    last_activity: datetime | None
    etag: str
    tags: dict[str, Any]


class NewIdentityForm(IdentityForm):
    """The same with the connection string for its agent: a secret, shown this once."""

    connection_string: str


class TwinForm(BaseModel):
    """A twin: what is wanted of a device or module, and what it says of itself."""

    device_id: str
    module_id: str
    tags: dict[str, Any]
    desired: dict[str, Any]
    desired_version: int
    reported: dict[str, Any]
    reported_version: int


class TwinPatch(Form):
    """Merge patches (RFC 7396: null deletes) of tags and desired properties."""

    desired: dict[str, Any] | None = None
    tags: dict[str, Any] | None = None


class GroupPatch(Form):
    """A merge patch of the desired properties of all devices that a condition holds for.

    where: a condition of the IoT Hub query language on device twins, as in `tags.site = 'north'`. module_id:
    change the twin of this module of each device instead of the device's own.
    """

    where: Annotated[str, Field(min_length=1, max_length=4_000)]
    module_id: Id | None = None
    desired: dict[str, Any]


class GroupMember(BaseModel):
    """What a change of a group means for one identity. patch: what differs; empty: nothing does."""

    device_id: str
    module_id: str
    desired_version: int
    patch: dict[str, Any]
    error: str = ""


class GroupForm(BaseModel):
    """The identities that a change of a group concerns. without_module: devices that lack the module."""

    members: list[GroupMember]
    without_module: list[str]


class Question(Form):
    """A query over the event tables."""

    query: Annotated[str, Field(min_length=1, max_length=QUERY_CHARS)]
    language: Literal["kql", "sql"] = "kql"


class Answer(BaseModel):
    """Rows of a query. truncated: there were more than a query may return; an export has them all."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool


class NewToken(Form):
    """expires_in_days: None for never."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@\-]{0,63}$")]
    role: RoleName
    expires_in_days: Annotated[int, Field(ge=1, le=3_650)] | None = None


class TokenForm(BaseModel):
    """A token without its secret."""

    id: str
    name: str
    role: RoleName
    created: datetime
    expires: datetime | None


class NewTokenForm(TokenForm):
    """The same with the token itself, shown this once."""

    token: str


class SignIn(Form):
    """new_password: to replace the password; needed where it is one that was given out."""

    user: Annotated[str, Field(min_length=1, max_length=64)]
    password: Annotated[str, Field(max_length=MAX_PASSWORD)]
    new_password: Annotated[str, Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)] | None = None


class SessionForm(BaseModel):
    """A session. token: shown this once; for `Authorization: Bearer`."""

    token: str
    user: str
    role: RoleName
    expires: datetime


class AuditForm(BaseModel):
    """One change: who made it, of what, and what changed."""

    seq: int
    time: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


def moment(seconds: float) -> datetime:
    """A time of ours as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC)


def identity_form(entry: Entry) -> IdentityForm:
    """A record without its keys."""
    device = entry.device
    return IdentityForm(
        device_id=device.identity.device_id,
        module_id=device.identity.module_id,
        enabled=device.enabled,
        connected=device.connected,
        created=moment(device.created),
        last_activity=None if device.last_activity is None else moment(device.last_activity),
        etag=device.etag,
        tags=entry.profile.tags,
    )


def twin_form(entry: Entry) -> TwinForm:
    """A twin with its identity."""
    twin = entry.twin
    return TwinForm(
        device_id=twin.identity.device_id,
        module_id=twin.identity.module_id,
        tags=entry.profile.tags,
        desired=twin.desired,
        desired_version=twin.desired_version,
        reported=twin.reported,
        reported_version=twin.reported_version,
    )


def token_form(grant: Grant) -> TokenForm:
    """A token without its secret."""
    return TokenForm(
        id=grant.id,
        name=grant.name,
        role=grant.role.name.lower(),  # type: ignore[arg-type]  # the literals are its names
        created=moment(grant.created),
        expires=None if grant.expires is None else moment(grant.expires),
    )


def audit_form(entry: AuditEntry) -> AuditForm:
    """One change."""
    return AuditForm(
        seq=entry.seq,
        time=moment(entry.time),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        detail=entry.detail,
    )

"""Our events in Sigma's words: which log source an event belongs to, and its fields there.

A category turns the EventDetails of an event into rows; a rule fires if one row satisfies it. Most events are
one row; a process event is one for each command that its line runs (`detect.commandline`).
docs/rules.md is the user's side of this table.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import msgspec

from vedette.hub.decode.classic import EVENTS as CLASSIC_EVENTS
from vedette.hub.detect.commandline import Command, decode, script
from vedette.wire.events import EVENT_TYPES

Value = str | int | float | None
Row = dict[str, Value]
Details = Mapping[str, Any]


class Observed(NamedTuple):
    """A committed event. Times are Unix seconds; all but `received` are by the device's clock.

    id: unique to the event, the same if it is stored twice. details: EventDetails.
    first: first observation; end: end of the aggregation window. message: the message that brought it.
    size: characters of the details as they are stored; 0 where that is not known.
    """

    id: str
    device: str
    module: str
    name: str
    details: Details
    first: float
    end: float
    received: float
    hits: int
    message: str
    size: int = 0


REMEMBERED = 16_384
"""Decoded lines kept: a fleet runs the same commands over and over. An ordinary one takes about 1 KB."""


class Unsupported(ValueError):
    """A rule asks for what no event here can tell; the text says what."""


class Category(NamedTuple):
    """A log source. events: the RawEventNames it takes, none for all but BY_HUB; rows: EventDetails → rows.

    inputs: the keys of EventDetails that the rows are made of; None where these are the rows themselves.
    """

    name: str
    events: frozenset[str]
    fields: frozenset[str]
    inputs: tuple[str, ...] | None
    rows: Callable[[Details], Sequence[Row]]


PARENT_IMAGE, PARENT_LINE = "ParentExecutable", "ParentCommandline"
"""Keys beside those of EventDetails, where it is known what a process's parent ran; see `parents`."""

COMMON = ("DeviceId", "ModuleId", "RawEventName", "HitCount")
"""Fields of every event, whatever its log source."""


def common(event: Observed) -> Row:
    """The values of COMMON."""
    return {
        "DeviceId": event.device,
        "ModuleId": event.module,
        "RawEventName": event.name,
        "HitCount": event.hits,
    }


def _framed(parts: Sequence[str], mark: str) -> str:
    """Parts with a mark before, between and behind, so that a rule can name a whole one; empty for none."""
    return f"{mark}{mark.join(parts)}{mark}" if parts else ""


_UNQUOTED = re.compile(r"[\w@%+=:,./ -]*", re.ASCII)


def _joined(words: tuple[str, ...]) -> str:
    """Words as `shlex.join` has them, which looks at each: most lines have none that needs quotes."""
    text = " ".join(words)
    return text if _UNQUOTED.fullmatch(text) and (*text.split(),) == words else shlex.join(words)


@lru_cache(maxsize=REMEMBERED)
def _commands(commandline: str) -> tuple[Row, ...]:
    """The decoded fields of each command of a line."""
    commands = decode(commandline) or (Command(),)
    text = script(commands) if len(commands) > 1 else commands[0].program
    return tuple(
        {
            "Program": command.program,
            "Path": command.path,
            "Arguments": _joined(command.arguments),
            "Flags": _framed(command.flags, " "),
            "Operands": _framed(command.operands, "\n"),
            "Redirects": _framed(command.redirects, "\n"),
            "Environment": _framed(command.environment, "\n"),
            "Script": text,
            "Via": _framed(command.via, " "),
        }
        for command in commands
    )


def _process(details: Details) -> Sequence[Row]:
    """Executions only: a fork repeats its parent's command line, and an exit tells nothing new.

    The classic agent's ProcessCreate has no type and spells the line `CommandLine`.
    """
    if details.get("EventType", "EXEC") != "EXEC":
        return ()
    line, parent, image = _line(details), details.get(PARENT_LINE), details.get(PARENT_IMAGE)
    own: Row = {
        "CommandLine": line,
        "Image": _image(details.get("Executable"), line),
        "User": details.get("UserName") or "",
        "UserId": details.get("UserId"),
        "ParentCommandLine": parent,
        "ParentImage": _image(image, parent) if parent is not None else None,
    }
    return [own | command for command in _commands(line)]


def _line(details: Details) -> str:
    return details.get("Commandline") or details.get("CommandLine") or ""


def _image(path: str | None, line: str) -> str:
    """A path that `Image|endswith: /NAME` finds even where the directory is not known."""
    image = path or line.partition(" ")[0].strip("'\"")
    return image if "/" in image or not image else f"/{image}"


def _network(details: Details) -> Sequence[Row]:
    known = details.get("ExtendedProperties") or {}
    line = _line(details)
    return (
        {
            "SourceIp": details.get("LocalAddress"),
            "SourcePort": details.get("LocalPort"),
            "DestinationIp": details.get("RemoteAddress"),
            "DestinationPort": details.get("RemotePort"),
            "DestinationHostname": known.get("HostName") or known.get("TlsServerName") or "",
            "Protocol": details.get("Protocol"),
            "ApplicationProtocol": details.get("ApplicationProtocol"),
            "Initiated": _initiated(details),
            "Image": _image(details.get("Executable"), line),
            "CommandLine": line,
            "User": details.get("UserName") or "",
            "UserId": details.get("UserId"),
            "BytesIn": details.get("BytesIn"),
            "BytesOut": details.get("BytesOut"),
        },
    )


def _initiated(details: Details) -> str:
    """Whether the device opened the connection. Where that is not said, the higher port is the client's."""
    direction = details.get("Direction")
    if direction in ("In", "Out"):
        return "true" if direction == "Out" else "false"
    local, remote = (int(details.get(key) or 0) for key in ("LocalPort", "RemotePort"))
    return "true" if local > remote else "false"


def _dns(details: Details) -> Sequence[Row]:
    return (
        {
            "QueryName": details.get("QueryName"),
            "QueryType": details.get("QueryType"),
            "QueryStatus": details.get("ResponseCode"),
            "QueryResults": _framed(details.get("Answers") or (), "\n"),
            "Server": details.get("RespondingServer"),
        },
    )


def _file(*actions: str) -> Callable[[Details], Sequence[Row]]:
    """Rows of file events with these words in `Mask`."""
    wanted = frozenset(actions)
    return lambda details: _file_row(details) if details.get("Mask", actions[0]) in wanted else ()


def _file_row(details: Details) -> Sequence[Row]:
    target = details.get("TargetPath")
    return (
        {
            "TargetFilename": target or details.get("Path"),
            "SourceFilename": details.get("Path") if target else None,
            "Action": details.get("Mask"),
            "MaskNumber": details.get("MaskNumber"),
        },
    )


def _login(details: Details) -> Sequence[Row]:
    return (
        {
            "User": details.get("UserName"),
            "SourceIp": details.get("RemoteAddress"),
            "Terminal": details.get("Executable"),
            "ProcessId": details.get("ProcessId"),
            "Action": details.get("Operation"),
        },
    )


_PERIPHERAL = {
    "Action": "ActionType",
    "Type": "PeripheralType",
    "Cause": "Cause",
    "VendorId": "VendorId",
    "ProductId": "ProductId",
    "Vendor": "VendorName",
    "Product": "ProductName",
    "Interface": "InterfaceName",
    "DeviceClass": "DeviceClass",
    "InterfaceClass": "InterfaceClass",
}


def _peripheral(details: Details) -> Sequence[Row]:
    return ({name: details.get(key) for name, key in _PERIPHERAL.items()},)


def plain(value: Any) -> Value:
    """A value for a column: what has parts as JSON, truth as Sigma writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str | int | float):
        return value
    return msgspec.json.encode(value).decode()


def _as_is(details: Details) -> Sequence[Row]:
    return ({key: plain(value) for key, value in details.items()},)


class _Asked(dict[str, Any]):
    """Empty EventDetails that note what they are asked for."""

    def get(self, key: str, default: Any = None) -> Any:
        """The default."""
        self[key] = None
        return default


def _category(name: str, events: Sequence[str], rows: Callable[[Details], Sequence[Row]]) -> Category:
    """A category whose fields are those that its rows have."""
    asked = _Asked()
    fields = rows(asked)[0]
    return Category(name, frozenset(events), frozenset((*COMMON, *fields)), tuple(asked), rows)


ANY = Category("any", frozenset(), frozenset(COMMON), (), lambda _: ({},))
PROCESS = _category("process_creation", ["Process", "ProcessCreate"], _process)
AUTHENTICATION = _category("authentication", ["Login"], _login)

_BY_CATEGORY = {
    category.name: category
    for category in (
        PROCESS,
        _category("network_connection", ["NetworkActivity", "ConnectionCreate"], _network),
        _category("dns_query", ["DNS"], _dns),
        _category("file_event", ["FileSystem"], _file("Created", "Modified", "Moved")),
        _category("file_change", ["FileSystem"], _file("Modified", "Metadata changed")),
        _category("file_delete", ["FileSystem"], _file("Deleted")),
        _category("file_access", ["FileSystem"], _file("Access", "Opened")),
        AUTHENTICATION,
        _category("peripheral", ["Peripheral"], _peripheral),
    )
}
_NUMBERS = frozenset(
    (
        *("HitCount", "UserId", "ProcessId", "SourcePort", "DestinationPort", "BytesIn", "BytesOut"),
        *("MaskNumber", "DeviceClass", "InterfaceClass"),
    )
)
_PRODUCTS = (None, "linux", "vedette")


def column_type(category: Category, field: str) -> str:
    """The SQLite type of a field: comparison ignores case, and numbers compare with numbers in text."""
    if field in _NUMBERS:
        return "NUMERIC"
    return "COLLATE NOCASE" if category.name.startswith("event_") else "TEXT COLLATE NOCASE"


def details_of(event: str) -> Sequence[str]:
    """The keys of an event's EventDetails, those of the classic agent included; none if there is no such."""
    declared = EVENT_TYPES.get(event)
    return declared.details if declared else CLASSIC_EVENTS.get(event, ())


@cache
def resolve(product: str | None, category: str | None, service: str | None) -> Category:
    """The category of a log source. Raises Unsupported."""
    if product not in _PRODUCTS:
        raise Unsupported(f"logsource: product {product} is not Linux")
    if category is not None:
        found = _BY_CATEGORY.get(category)
        if found is None:
            raise Unsupported(f"logsource: no event here is a {category}")
        return found
    if service in ("auth", "sshd", "pam"):
        return AUTHENTICATION
    if product == "linux" and service is None:
        return PROCESS
    if product == "vedette" and service == "any":
        return ANY
    if product == "vedette" and service and (details := details_of(service)):
        fields = frozenset((*COMMON, *details))
        return Category(f"event_{service}", frozenset([service]), fields, None, _as_is)
    raise Unsupported(f"logsource: no event here is of service {service}")

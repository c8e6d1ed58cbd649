"""What stands in the payloads of the classic agent's events, item by item, and nothing else may."""

from __future__ import annotations

from typing import Literal

import msgspec


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """One entry of a payload."""

    extra_details: dict[str, str] = {}


class ProcessCreate(Item, frozen=True, kw_only=True, rename="pascal"):
    """A program that was executed."""

    executable: str
    process_id: int
    parent_process_id: int
    user_id: str
    user_name: str
    command_line: str


class ProcessTerminate(Item, frozen=True, kw_only=True, rename="pascal"):
    """A process that ended. exit_status: as a shell has it, 128 and the number of a signal that ended it."""

    executable: str
    process_id: int
    exit_status: int


class ConnectionCreate(Item, frozen=True, kw_only=True, rename="pascal"):
    """A connection, as its initiator and its target see it."""

    remote_address: str
    remote_port: str
    local_address: str
    local_port: str
    direction: Literal["In", "Out"]
    protocol: str
    process_id: int
    user_id: str
    executable: str
    command_line: str


class ClassicLogin(Item, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """An attempt to sign in, or a sign-out."""

    process_id: int
    user_name: str
    operation: str
    executable: str
    result: Literal["Success", "Fail"]
    remote_address: str = ""


class ClassicPort(Item, frozen=True, kw_only=True, rename="pascal"):
    """A socket that waits for peers."""

    protocol: str
    local_address: str
    local_port: str


class ClassicUser(Item, frozen=True, kw_only=True, rename="pascal"):
    """An account; lists are joined by semicolons."""

    user_name: str
    user_id: str
    group_ids: str
    group_names: str


class ClassicRule(Item, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """A firewall rule."""

    enabled: bool
    action: Literal["Allow", "Deny", "Other"]
    priority: int
    chain_name: str
    direction: str = ""
    source_address: str = ""
    source_port: str = ""
    destination_address: str = ""
    destination_port: str = ""
    protocol: str = ""


class ClassicHardware(Item, frozen=True, kw_only=True, rename="pascal"):
    """A device on a bus."""

    hardware_category: str
    hardware_sub_category: str
    hardware_name: str


class ClassicSystem(Item, frozen=True, kw_only=True, omit_defaults=True):
    """What the device is."""

    os_name: str = msgspec.field(name="OSName")
    os_version: str = msgspec.field(name="OSVersion")
    os_architecture: str = msgspec.field(name="OsArchitecture")
    host_name: str = msgspec.field(default="", name="HostName")
    bios_version: str = msgspec.field(default="", name="BIOSVersion")


class OSBaseline(Item, frozen=True, kw_only=True, rename="pascal"):
    """What one check found."""

    description: str
    cce_id: str
    result: Literal["Pass", "Fail", "Err"]
    error: str
    severity: str


class Diagnostic(Item, frozen=True, kw_only=True, rename="pascal"):
    """A warning or error of the agent."""

    severity: Literal["Fatal", "Error", "Warning"]
    message: str
    process_id: int
    thread_id: int


ErrorType = Literal["TypeMismatch", "NotOptimal", "Conflict"]
"""Refused by itself; in force, but wasteful; refused beside another."""


class ConfigurationError(Item, frozen=True, kw_only=True, rename="pascal"):
    """A setting that is not as it should be, and what is in force."""

    configuration_name: str
    error_type: ErrorType
    used_configuration: str
    message: str


class DroppedEvents(Item, frozen=True, kw_only=True, rename="pascal"):
    """How many events came into being for a queue, and how many of them were dropped."""

    queue: Literal["High", "Low"]
    collected_events: int
    dropped_events: int


class MessageStatistics(Item, frozen=True, kw_only=True, omit_defaults=True):
    """What became of messages."""

    messages_sent: int = msgspec.field(name="MessagesSent")
    small: int = msgspec.field(name="MessagesUnder4KB")
    failed: int = msgspec.field(name="TotalFailed")

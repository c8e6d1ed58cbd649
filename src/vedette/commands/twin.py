"""`vedette twin`: what a device should do, and what it says it does."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec

from vedette.commands import UsageError, add_command, add_common, print_json, print_table
from vedette.commands.device import DEFAULT_MODULE
from vedette.commands.state import opened
from vedette.wire.classic import classic_from
from vedette.wire.iothub import CLASSIC_MODULE, Identity
from vedette.wire.twin import InvalidSettings, settings_from


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    twin = add_command(subparsers, "twin", "see and change the settings of a device's agent")
    actions = twin.add_subparsers(metavar="ACTION", required=True)

    get = add_command(actions, "get", "show desired and reported settings side by side")
    _common(get)
    get.set_defaults(run=_get)

    change = add_command(
        actions,
        "set",
        "change desired settings",
        "Values are JSON; what is not JSON is taken as text; null returns a setting to its default. The agent"
        " sends what it holds, then applies the change, and reports its verdict.",
        "  vedette twin set pump-17 Process_CacheSize=512 Process_MessageFrequency=High\n"
        "  vedette twin set pump-17 CollectorsCore_PriorityIntervals=5,30,720\n"
        "  vedette twin set pump-17 --file desired.json",
    )
    _common(change)
    change.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    change.add_argument("--file", type=Path, metavar="JSON", help="a JSON object of settings")
    change.add_argument(
        "--force", action="store_true", help="set even what this version of the agent would refuse"
    )
    change.set_defaults(run=_set)


def _common(action: argparse.ArgumentParser) -> None:
    action.add_argument("id", metavar="DEVICE")
    action.add_argument("--module", default=DEFAULT_MODULE, metavar="NAME", help="(default: %(default)s)")
    add_common(action)


def _get(options: argparse.Namespace) -> int:
    with opened(options) as (_, registry):
        twin = registry.twin(Identity(options.id, options.module))
    if options.json:
        print_json(
            {
                "desired": twin.desired | {"$version": twin.desired_version},
                "reported": twin.reported | {"$version": twin.reported_version},
            }
        )
        return 0
    keys = sorted(twin.desired.keys() | twin.reported.keys())
    print_table(
        [
            "setting",
            f"desired (version {twin.desired_version})",
            f"reported (version {twin.reported_version})",
        ],
        [[key, _shown(twin.desired, key), _shown(twin.reported, key)] for key in keys],
    )
    return 0


def _shown(document: dict[str, Any], key: str) -> str:
    return json.dumps(document[key]) if key in document else ""


def _set(options: argparse.Namespace) -> int:
    from vedette.hub.registry import merge

    identity = Identity(options.id, options.module)
    patch = _patch(options)
    with opened(options) as (_, registry):
        try:
            if not options.force:
                judge = classic_from if identity.module_id == CLASSIC_MODULE else settings_from
                judge(merge(registry.twin(identity).desired, patch))
            twin = registry.patch_desired(identity, patch)
        except InvalidSettings as error:
            lines = "\n".join(f"  {key}: {why}" for key, why in error.fields.items())
            raise UsageError(
                f"the agent would refuse this (--force sets it all the same):\n{lines}"
            ) from None
    if options.json:
        print_json(twin.desired | {"$version": twin.desired_version})
    else:
        print(f"desired version {twin.desired_version}: {len(twin.desired)} settings")
    return 0


def _patch(options: argparse.Namespace) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    if options.file:
        try:
            patch = msgspec.json.decode(options.file.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError) as error:
            raise UsageError(f"{options.file}: {error}") from None
    for text in options.settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is not KEY=VALUE")
        try:
            patch[key] = json.loads(value)
        except ValueError:
            patch[key] = value
    if not patch:
        raise UsageError("name at least one KEY=VALUE, or a --file")
    return patch

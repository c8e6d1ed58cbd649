"""`vedette enrollment`: which devices may register themselves (DPS)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.commands import (
    UsageError,
    add_command,
    add_common,
    print_json,
    print_record,
    print_removed,
    print_rows,
)
from vedette.commands.state import opened

if TYPE_CHECKING:
    from vedette.hub.registry.enrollments import Enrollment


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    enrollment = add_command(subparsers, "enrollment", "let devices register themselves, singly or in groups")
    actions = enrollment.add_subparsers(metavar="ACTION", required=True)

    make = add_command(
        actions,
        "add",
        "let a device, or a group that shares a key, register itself",
        "The hub answers the device provisioning protocol (DPS) on its MQTT port, for any id scope. A device"
        " of a group needs a key of its own, made from the group's: see `vedette enrollment show --for`."
        " Without --key a key is made. With --certificate a device proves itself by a certificate whose"
        " common name is its registration id: the given one or, of a group, one that was issued under the"
        " given authority.",
        '  vedette enrollment add pumps --group --tags \'{"site": "north"}\'\n'
        "  vedette enrollment add pump-17 --device-id pump-north-17\n"
        "  vedette enrollment add presses --group --certificate factory-ca.pem",
    )
    make.add_argument("name", help="the group's name, or the device's registration id")
    make.add_argument("--device-id", default="", metavar="ID", help="of a single device (default: NAME)")
    make.add_argument("--key", default="", metavar="BASE64", help="the primary key, as it is elsewhere")
    make.add_argument("--secondary-key", default="", metavar="BASE64", help="the secondary key")
    make.add_argument(
        "--certificate",
        action="append",
        default=[],
        type=Path,
        metavar="PEM",
        help="instead of keys: the device's certificate, or the group's authority (twice: the next one)",
    )
    make.add_argument("--tags", default="{}", metavar="JSON", help="tags of the devices' first twin")
    make.add_argument("--desired", default="{}", metavar="JSON", help="their first desired properties")
    make.set_defaults(run=_add)

    listing = add_command(actions, "list", "list enrollments, without their keys")
    listing.set_defaults(run=_list)

    show = add_command(actions, "show", "show one enrollment with its keys (secrets)")
    show.add_argument("name")
    show.add_argument(
        "--for", dest="registration_id", metavar="ID", help="print alone the key that this device needs"
    )
    show.set_defaults(run=_show)

    remove = add_command(actions, "remove", "end an enrollment; the devices that came of it stay")
    remove.add_argument("name")
    remove.set_defaults(run=_remove)

    for action in (make, show, remove):
        action.add_argument("--group", action="store_true", help="it is a group")
    for action in (make, listing, show, remove):
        add_common(action)


def _add(options: argparse.Namespace) -> int:
    from vedette.hub.registry.enrollments import Enrollment

    wanted = Enrollment(
        options.name,
        options.group,
        options.key,
        options.secondary_key,
        options.device_id,
        tags=_object(options.tags, "--tags"),
        desired=_object(options.desired, "--desired"),
        certificates=tuple(map(_pem, options.certificate)),
    )
    with opened(options) as (_, registry):
        try:
            made = registry.enrollments.add(wanted)
        except ValueError as error:
            raise UsageError(str(error)) from None
    _print(made, options)
    return 0


def _pem(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise UsageError(f"{option}: {error}") from None


def _list(options: argparse.Namespace) -> int:
    with opened(options) as (_, registry):
        found = registry.enrollments.list()
    rows = [_shown(enrollment) for enrollment in found]
    print_rows(("name", "group", "device", "enabled", "tags", "desired", "proof"), rows, options)
    return 0


def _show(options: argparse.Namespace) -> int:
    enrollment = _known(options)
    if options.registration_id and enrollment.certificates:
        raise UsageError(f"{enrollment.name}: its devices have certificates, no keys")
    if options.registration_id:
        print(enrollment.device_keys(options.registration_id)[0])
    else:
        _print(enrollment, options)
    return 0


def _remove(options: argparse.Namespace) -> int:
    _known(options)
    with opened(options) as (_, registry):
        registry.enrollments.remove(options.name, grouped=options.group)
    print_removed(options.name, options)
    return 0


def _known(options: argparse.Namespace) -> Enrollment:
    from vedette.hub.registry.enrollments import UnknownEnrollment

    with opened(options) as (_, registry):
        try:
            return registry.enrollments.get(options.name, grouped=options.group)
        except UnknownEnrollment as error:
            raise UsageError(f"{error}; see: vedette enrollment list") from None


def _shown(enrollment: Enrollment) -> dict[str, Any]:
    return {
        "name": enrollment.name,
        "group": enrollment.grouped,
        "device": enrollment.device_id,
        "enabled": enrollment.enabled,
        "tags": enrollment.tags,
        "desired": enrollment.desired,
        "proof": "certificate" if enrollment.certificates else "key",
    }


def _print(enrollment: Enrollment, options: argparse.Namespace) -> None:
    proof = (
        {"certificates": list(enrollment.certificates)}
        if enrollment.certificates
        else {"primary_key": enrollment.primary_key, "secondary_key": enrollment.secondary_key}
    )
    shown = _shown(enrollment) | proof
    print_json(shown) if options.json else print_record(shown)

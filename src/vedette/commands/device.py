"""`vedette device`: the identities that a hub knows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from vedette.wire.iothub import ConnectionString, Identity, valid_id

if TYPE_CHECKING:
    from vedette.hub.registry import Device, Entry, Registry
    from vedette.hub.settings import HubSettings

DEFAULT_MODULE = "DefenderIotMicroAgent"
"""The module name of the micro agent whose devices and scripts we serve."""

MAX_LISTED = 1000


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    device = add_command(subparsers, "device", "register, list and remove devices")
    actions = device.add_subparsers(metavar="ACTION", required=True)

    make = add_command(
        actions,
        "add",
        "register a device with its agent's module identity",
        "Prints the connection string that the device's agent needs. By default it holds a key; with"
        " --certificate or --by-authority the device shows certificate_public.pem instead, with the key of it"
        " in certificate_private.pem beside the connection string.",
        "  vedette device add pump-17 >connection_string.txt\n"
        "  vedette device add press-7 --certificate certificate_public.pem >connection_string.txt",
    )
    make.add_argument("id")
    proof = make.add_mutually_exclusive_group()
    proof.add_argument(
        "--certificate", type=Path, metavar="PEM", help="the device proves itself by this certificate"
    )
    proof.add_argument(
        "--by-authority",
        action="store_true",
        help="… by one that names it and that a registered authority has issued (see: vedette authority)",
    )
    _module(make)
    make.set_defaults(run=_add)

    listing = add_command(actions, "list", f"list devices and modules (the first {MAX_LISTED})")
    listing.set_defaults(run=_list)

    show = add_command(actions, "show", "show one identity")
    show.add_argument("id")
    _module(show)
    show.add_argument(
        "--connection-string", action="store_true", help="print the connection string (a secret) alone"
    )
    show.set_defaults(run=_show)

    remove = add_command(actions, "remove", "remove a device, its modules and twins; its events stay")
    remove.add_argument("id")
    remove.set_defaults(run=_remove)

    for action in (make, listing, show, remove):
        add_common(action)


def _module(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--module", default=DEFAULT_MODULE, metavar="NAME", help="the agent's module (default: %(default)s)"
    )


def _identity(options: argparse.Namespace) -> Identity:
    for text in (options.id, options.module):
        if not valid_id(text):
            raise UsageError(f"{text!r} is not an id: 1 to 128 of letters, digits and -:.+%_#*?!(),=@$'")
    return Identity(options.id, options.module)


def _proof(options: argparse.Namespace) -> dict[str, Any]:
    """How the identity will prove itself, as fields of a Draft."""
    if options.by_authority:
        return {"authentication": "certificateAuthority"}
    if options.certificate is None:
        return {}
    from cryptography import x509

    from vedette.hub.gateway.certificates import thumbprints

    try:
        certificate = x509.load_pem_x509_certificate(options.certificate.read_bytes())
    except OSError as error:
        raise UsageError(f"{options.certificate}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{options.certificate}: not the PEM text of a certificate") from None
    return {"authentication": "selfSigned", "thumbprints": (thumbprints(certificate)[1], "")}


def _connection(settings: HubSettings, entry: Entry) -> ConnectionString:
    host, identity = settings.host_names[0], entry.device.identity
    if entry.profile.authentication == "sas":
        return ConnectionString(host, identity, entry.device.primary_key)
    return ConnectionString(host, identity, x509=True)


def _add(options: argparse.Namespace) -> int:
    from vedette.hub.registry import Draft

    identity = _identity(options)
    with opened(options) as (settings, registry):
        if registry.get(identity) is not None:
            raise UsageError(
                f"{identity.client_id} is registered already; see: vedette device show {options.id}"
            )
        proof = _proof(options)
        if registry.get(Identity(options.id)) is None:
            registry.fleet.create(Draft(Identity(options.id), **proof))
        connection = _connection(settings, registry.fleet.create(Draft(identity, **proof)))
    if options.json:
        print_json({"device": options.id, "module": options.module, "connection_string": connection.format()})
    else:
        print(connection.format())
    return 0


def _list(options: argparse.Namespace) -> int:
    with opened(options) as (_, registry):
        records = registry.list(limit=MAX_LISTED)
    rows = [
        {
            "device": record.identity.device_id,
            "module": record.identity.module_id,
            "enabled": record.enabled,
            "connected": record.connected,
            "last_activity": record.last_activity,
        }
        for record in records
    ]
    print_rows(("device", "module", "enabled", "connected", "last activity"), rows, options)
    return 0


def _show(options: argparse.Namespace) -> int:
    identity = _identity(options)
    with opened(options) as (settings, registry):
        record = _known(registry, identity)
        connection = _connection(settings, registry.fleet.get(identity))
    if options.connection_string:
        print(connection.format())
        return 0
    shown = {
        "device": identity.device_id,
        "module": identity.module_id,
        "enabled": record.enabled,
        "connected": record.connected,
        "last_activity": record.last_activity,
        "etag": record.etag,
        "host": connection.host,
    }
    print_json(shown) if options.json else print_record(shown)
    return 0


def _remove(options: argparse.Namespace) -> int:
    with opened(options) as (_, registry):
        _known(registry, Identity(options.id))
        registry.remove(Identity(options.id))
    print_removed(options.id, options)
    return 0


def _known(registry: Registry, identity: Identity) -> Device:
    record = registry.get(identity)
    if record is None:
        raise UsageError(f"{identity.client_id} is not registered; see: vedette device list")
    return record

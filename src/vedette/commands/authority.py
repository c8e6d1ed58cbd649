"""`vedette authority`: certificate authorities whose devices a hub lets in."""

from __future__ import annotations

import argparse
from pathlib import Path

from vedette.commands import UsageError, add_command, add_common, print_removed, print_rows
from vedette.commands.state import opened


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    authority = add_command(subparsers, "authority", "let in devices by certificates of an authority")
    actions = authority.add_subparsers(metavar="ACTION", required=True)

    make = add_command(
        actions,
        "add",
        "register an authority's certificate",
        "A device that is registered with authentication by an authority connects with a certificate that"
        " names it (common name) and leads to a registered authority.",
        "  vedette authority add factory factory-ca.pem",
    )
    make.add_argument("name")
    make.add_argument("certificate", type=Path, metavar="PEM")
    make.set_defaults(run=_add)

    listing = add_command(actions, "list", "list the registered authorities")
    listing.set_defaults(run=_list)

    remove = add_command(actions, "remove", "let in an authority's devices no more")
    remove.add_argument("name")
    remove.set_defaults(run=_remove)

    for action in (make, listing, remove):
        add_common(action)


def _add(options: argparse.Namespace) -> int:
    try:
        pem = options.certificate.read_bytes()
    except OSError as error:
        raise UsageError(f"{options.certificate}: {error.strerror}") from None
    with opened(options) as (_, registry):
        try:
            registry.authorities.add(options.name, pem)
        except ValueError as error:
            raise UsageError(str(error)) from None
    return _list(options)


def _list(options: argparse.Namespace) -> int:
    with opened(options) as (_, registry):
        found = registry.authorities.list()
    rows = [
        {
            "name": authority.name,
            "subject": authority.certificate.subject.rfc4514_string(),
            "until": authority.certificate.not_valid_after_utc.date().isoformat(),
        }
        for authority in found
    ]
    print_rows(("name", "subject", "until"), rows, options)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from vedette.hub.registry import RegistryError

    with opened(options) as (_, registry):
        try:
            registry.authorities.remove(options.name)
        except RegistryError as error:
            raise UsageError(f"{error}; see: vedette authority list") from None
    print_removed(options.name, options)
    return 0

"""`vedette token`: who may use the hub's own API, and as what."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from vedette.commands import UsageError, add_command, add_common, print_json, print_removed, print_rows
from vedette.commands.state import opened
from vedette.wire.events import utc_text

if TYPE_CHECKING:
    from vedette.hub.registry.tokens import Grant

ROLES = ("viewer", "analyst", "operator", "admin")
"""See `vedette.hub.registry.tokens.Role`, which a device does not carry."""

DAY_S = 86_400.0


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    token = add_command(subparsers, "token", "make, list and remove tokens for the hub's API")
    actions = token.add_subparsers(metavar="ACTION", required=True)

    make = add_command(
        actions,
        "add",
        "make a token",
        "Prints the token (a secret) this once. A viewer sees devices, twins and alerts; an analyst also asks"
        " and exports; an operator also changes devices and twins; an admin also tokens.",
        "  vedette token add nightly-export --role analyst --days 365 >token.txt",
    )
    make.add_argument("name")
    make.add_argument("--role", choices=ROLES, default="viewer", help="what it may do (default: %(default)s)")
    make.add_argument("--days", type=int, metavar="N", help="days until it expires (default: never)")
    make.set_defaults(run=_add)

    listing = add_command(actions, "list", "list tokens, without their secrets")
    listing.set_defaults(run=_list)

    remove = add_command(actions, "remove", "make a token worthless at once")
    remove.add_argument("name")
    remove.set_defaults(run=_remove)

    for action in (make, listing, remove):
        add_common(action)


def _add(options: argparse.Namespace) -> int:
    from vedette.hub.registry.tokens import Role

    if options.days is not None and options.days < 1:
        raise UsageError("--days: at least 1")
    expires = None if options.days is None else time.time() + options.days * DAY_S
    with opened(options) as (_, registry):
        try:
            grant, text = registry.tokens.add(options.name, Role[options.role.upper()], expires=expires)
        except ValueError as error:
            raise UsageError(str(error)) from None
    print_json({**_shown(grant), "token": text}) if options.json else print(text)
    return 0


def _list(options: argparse.Namespace) -> int:
    with opened(options) as (_, registry):
        rows = [_shown(grant) for grant in registry.tokens.list()]
    print_rows(("name", "role", "created", "expires"), rows, options)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from vedette.hub.registry import UnknownIdentity

    with opened(options) as (_, registry):
        try:
            registry.tokens.remove(options.name)
        except UnknownIdentity as error:
            raise UsageError(f"{error}; see: vedette token list") from None
    print_removed(options.name, options)
    return 0


def _shown(grant: Grant) -> dict[str, Any]:
    return {
        "name": grant.name,
        "role": grant.role.name.lower(),
        "created": utc_text(grant.created),
        "expires": None if grant.expires is None else utc_text(grant.expires),
    }

"""`vedette notify`: who is told of alerts and recommendations, where, and whether it arrived."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.commands import UsageError, add_command, add_common, print_json, print_removed, print_table
from vedette.commands.state import opened_database
from vedette.wire.events import utc_text

if TYPE_CHECKING:
    from vedette.hub.detect.schema import Database
    from vedette.hub.notify.routes import Route, Routes, RouteState

FORMS = ("json", "cef", "ocsf", "ecs", "sentinel")
SEVERITIES = ("Informational", "Low", "Medium", "High")
"""See `vedette.hub.notify.routes`, which a device does not carry."""

URL_HELP = "where to (kept sealed, as a webhook's often is a secret); - reads standard input"

EXAMPLES = """\
  vedette notify add chat 'https://hooks.example.net/T0/B1' --severity High
  vedette notify add siem syslog+tls://siem.example.net --form cef --window 0
  vedette notify add duty 'smtp://hub@mail.example.net?from=hub@example.net&to=duty@example.net' \\
      --secret-file password.txt --where "tags.site = 'north'" --window 300
  vedette notify add bus mqtts://broker.example.net/plant/alerts --type 'IoT_USB*' --form ocsf
  vedette notify test chat"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    notify = add_command(subparsers, "notify", "tell people and systems of alerts and recommendations")
    actions = notify.add_subparsers(metavar="ACTION", required=True)
    _declare_add(actions)
    _declare_change(actions)
    listing = add_command(actions, "list", "list routes and how they do")
    listing.set_defaults(run=_list)
    test = add_command(
        actions,
        "test",
        "send a made-up alert over a route now",
        "Says at once whether it arrived, or why not.",
    )
    test.set_defaults(run=_test)
    stop = add_command(actions, "disable", "tell a route nothing for now; what waits for it is kept")
    stop.set_defaults(run=_switch, enabled=False)
    start = add_command(actions, "enable", "tell a route again")
    start.set_defaults(run=_switch, enabled=True)
    remove = add_command(actions, "remove", "remove a route and all that waits for it")
    remove.set_defaults(run=_remove)
    for action in (test, stop, start, remove):
        action.add_argument("name", help="the route's name")
    for action in (listing, test, stop, start, remove):
        add_common(action)
    _declare_deliveries(actions)


def _declare_add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    make = add_command(
        actions,
        "add",
        "add a route",
        "The URL's scheme says how: https (webhook), syslog+tls, syslog+tcp, syslog+udp, smtp (STARTTLS),"
        " smtps, smtp+plain, mqtts, mqtt. A webhook is signed as Standard Webhooks specifies; its signing"
        " secret is printed this once. Without options a route is told of all alerts, in JSON, after they"
        " have gathered for 30 seconds.",
        EXAMPLES,
    )
    make.add_argument("name", help="letters, digits, dots, dashes and underscores")
    make.add_argument("url", help=URL_HELP)
    make.set_defaults(run=_add)
    _declare_route(make)


def _declare_change(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    change = add_command(
        actions,
        "change",
        "change a route",
        "What is not named stays as it is, the secret too. What waits for the route is kept; messages that"
        " are made already keep their form. A route stays of its kind: a webhook does not become mail.",
        "  vedette notify change chat --severity Medium --group north\n"
        "  vedette notify change siem --url syslog+tls://siem2.example.net --type '*' --no-changes",
    )
    change.add_argument("name", help="the route's name")
    change.add_argument("--url", help=URL_HELP)
    change.set_defaults(run=_change)
    _declare_route(change)


def _declare_route(parser: argparse.ArgumentParser) -> None:
    """What a new route and a changed one may be told; none of it has a default here."""
    parser.add_argument("--form", choices=FORMS, help="how findings are written")
    parser.add_argument("--severity", choices=SEVERITIES, help="the least")
    parser.add_argument(
        "--type",
        dest="types",
        action="append",
        metavar="PATTERN",
        help="alert type, recommendation or rule id, as in 'IoT_USB*'; may be given several times",
    )
    devices = parser.add_mutually_exclusive_group()
    devices.add_argument(
        "--where", metavar="CONDITION", help="only such devices, as in \"tags.site = 'north'\"; '': all"
    )
    devices.add_argument(
        "--group", metavar="NAME", help="the same by a saved group's condition, as it is now"
    )
    parser.add_argument("--about", choices=("alerts", "recommendations", "all"))
    parser.add_argument(
        "--changes",
        action=argparse.BooleanOptionalAction,
        help="also when a finding is dismissed, resolved or taken up",
    )
    parser.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="how long findings gather for one message; 0: each is a message of its own",
    )
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help="password for mail or MQTT, or a webhook's own signing secret; - reads standard input",
    )
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="certificates (PEM) to trust instead of the system's"
    )
    parser.add_argument(
        "--allow-private",
        action=argparse.BooleanOptionalAction,
        help="let a webhook lead to addresses that are not public",
    )
    add_common(parser)


def _declare_deliveries(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = add_command(
        actions,
        "deliveries",
        "list messages and what became of them, the newest first",
        "A message is pending, sent, or dead: given up after ten attempts in four and a half hours, or"
        " refused.",
        "  vedette notify deliveries --only dead\n  vedette notify redeliver --route chat",
    )
    listing.add_argument("--route", default="", metavar="NAME")
    listing.add_argument("--only", default="", choices=("pending", "sent", "dead"))
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="default: %(default)s")
    listing.set_defaults(run=_deliveries)
    again = add_command(actions, "redeliver", "send dead messages again")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", default="", help="the message's id, or its beginning")
    which.add_argument("--route", default="", metavar="NAME", help="all of a route")
    again.set_defaults(run=_redeliver)
    for action in (listing, again):
        add_common(action)


def _routes(database: Database) -> Routes:
    from vedette.hub.notify.routes import Routes

    return Routes(database.read, database.write)


def _add(options: argparse.Namespace) -> int:
    from vedette.hub.notify.routes import Route

    with opened_database(options) as database:
        route = _revised(Route(name=options.name, url=""), options, database)
        made = _routes(database).add(route)
    new = "" if route.secret else made.secret
    if options.json:
        print_json(_shown(made) | ({"signing_secret": new} if new else {}))
    else:
        print(f"{made.name} leads to {made.target.shown}; try it: vedette notify test {made.name}")
        if new:
            print(f"signing secret: {new}")
    return 0


def _change(options: argparse.Namespace) -> int:
    with opened_database(options) as database:
        routes = _routes(database)
        route = routes.change(_revised(routes.get(options.name), options, database))
    if options.json:
        print_json(_shown(route))
    else:
        print(f"{route.name} leads to {route.target.shown} ({_words(route)})")
    return 0


def _revised(route: Route, options: argparse.Namespace, database: Database) -> Route:
    """A route with what the options say, and the rest as it is."""
    from msgspec.structs import replace

    def given(*names: str) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(options, name)) is not None}

    wanted = given("severity", "where", "about", "changes")
    if options.types:
        wanted["types"] = tuple(options.types)
    if options.group:
        wanted["where"] = _condition(options.group, database)
    parts = given("url", "form", "window", "allow_private")
    if options.url == "-":
        parts["url"] = _line("url", sys.stdin.readline())
    if options.secret_file:
        parts["secret"] = _secret(options.secret_file)
    if options.ca:
        parts["authority"] = _text(options.ca)
    return replace(route, wanted=replace(route.wanted, **wanted), **parts)


def _condition(group: str, database: Database) -> str:
    """The condition of a saved group. Raises UsageError."""
    from vedette.hub.registry.shelf import Shelf

    conditions = {one.name: one.condition for one in Shelf(database.read, database.write).groups()}
    if group not in conditions:
        raise UsageError(f"--group: there is no group {group}")
    return conditions[group]


def _secret(file: str) -> str:
    """The first line of a file, or of standard input."""
    return _line("--secret-file", sys.stdin.readline() if file == "-" else _text(Path(file)))


def _line(what: str, text: str) -> str:
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise UsageError(f"{what}: nothing was given")
    return lines[0]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', '') or 'is no text'}") from None


def _shown(route: Route) -> dict[str, Any]:
    """A route without what is secret."""
    import msgspec

    return {
        "name": route.name,
        "to": route.target.shown,
        "enabled": route.enabled,
        "form": route.form,
        "wanted": msgspec.to_builtins(route.wanted),
        "window": route.window,
        "allow_private": route.allow_private,
        "created": utc_text(route.created),
        "dropped": route.dropped,
    }


def _list(options: argparse.Namespace) -> int:
    with opened_database(options) as database:
        states = _routes(database).list()
    if options.json:
        print_json([_shown(one.route) | _how(one) for one in states])
        return 0
    columns = ("name", "to", "form", "wanted", "window", "waiting", "pending", "dead", "last error")
    rows = [
        (
            one.route.name + ("" if one.route.enabled else " (disabled)"),
            one.route.target.shown,
            one.route.form,
            _words(one.route),
            f"{one.route.window:g} s",
            *_how(one).values(),
        )
        for one in states
    ]
    print_table(columns, rows)
    return 0


def _how(state: RouteState) -> dict[str, Any]:
    return {
        "waiting": state.waiting,
        "pending": state.pending,
        "dead": state.dead,
        "error": state.error,
    }


def _words(route: Route) -> str:
    wanted = route.wanted
    parts = [wanted.about, f"from {wanted.severity}", *wanted.types, wanted.where]
    return ", ".join([part for part in parts if part] + ["changes"] * wanted.changes)


def _test(options: argparse.Namespace) -> int:
    from vedette.hub.notify import probe
    from vedette.hub.notify.notifier import deliver
    from vedette.hub.notify.ways import Undelivered

    with opened_database(options) as database:
        route = _routes(database).get(options.name)
    try:
        asyncio.run(deliver(route, probe.message(route)))
    except Undelivered as error:
        raise UsageError(f"{route.name}: {error.reason}") from None
    if options.json:
        print_json({"name": route.name, "delivered": True})
    else:
        print(f"{route.name}: delivered to {route.target.shown}")
    return 0


def _switch(options: argparse.Namespace) -> int:
    with opened_database(options) as database:
        route = _routes(database).set_enabled(options.name, options.enabled)
    print_json(_shown(route)) if options.json else print(
        f"{route.name} is {'en' if route.enabled else 'dis'}abled"
    )
    return 0


def _remove(options: argparse.Namespace) -> int:
    with opened_database(options) as database:
        _routes(database).remove(options.name)
    print_removed(options.name, options)
    return 0


def _deliveries(options: argparse.Namespace) -> int:
    import msgspec

    from vedette.hub.notify.deliveries import Deliveries

    with opened_database(options) as database:
        found = Deliveries(database).list(options.route, options.only, options.limit)
    if options.json:
        print_json(msgspec.to_builtins(found))
        return 0
    columns = ("id", "made (UTC)", "route", "state", "attempts", "findings", "title", "last error")
    rows = [
        (d.id[:8], utc_text(d.created)[:19], d.route, d.state, d.attempts, d.findings, d.title, d.error)
        for d in found
    ]
    print_table(columns, rows)
    return 0


def _redeliver(options: argparse.Namespace) -> int:
    from vedette.hub.notify.deliveries import Deliveries

    with opened_database(options) as database:
        number = Deliveries(database).again(options.id, options.route)
    if options.json:
        print_json({"again": number})
    else:
        print(f"{number} message{'s' if number > 1 else ''} will be sent again")
    return 0

"""`vedette alerts`: what detection found, what was decided about it, and what is weak about the devices."""

from __future__ import annotations

import argparse
import getpass
import time
from typing import TYPE_CHECKING, Any

from vedette.commands import add_command, add_common, print_json, print_record, print_removed, print_table
from vedette.commands.state import opened_database

if TYPE_CHECKING:
    from vedette.hub.detect.alerts import Alert

OPEN = ("Active", "InProgress")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    alerts = add_command(
        subparsers,
        "alerts",
        "list, show, dismiss and resolve alerts; list recommendations",
        "In queries they are the tables SecurityAlert and SecurityRecommendation.",
    )
    actions = alerts.add_subparsers(metavar="ACTION", required=True)
    _declare_list(actions)
    show = add_command(actions, "show", "show one alert: what was seen, what to do, what was decided")
    show.add_argument("id", help="the alert's id, or its beginning")
    show.set_defaults(run=_show)
    for name, status, summary in (
        ("dismiss", "Dismissed", "dismiss an alert; it takes in what comes within its 24 hours"),
        ("resolve", "Resolved", "resolve an alert; what comes next is a new one"),
        ("start", "InProgress", "say that somebody looks into an alert"),
        ("reopen", "Active", "make a dismissed or resolved alert active again"),
    ):
        action = add_command(actions, name, summary)
        action.add_argument("id", help="the alert's id, or its beginning")
        action.add_argument("--why", default="", metavar="TEXT", help="the reason, kept with the alert")
        action.add_argument("--who", default="", metavar="NAME", help="who decides (default: the user)")
        action.set_defaults(run=_decide, status=status)
        add_common(action)
    _declare_suppress(actions)
    suppressions = add_command(actions, "suppressions", "list what raises no alert")
    suppressions.set_defaults(run=_suppressions)
    unsuppress = add_command(actions, "unsuppress", "remove a suppression")
    unsuppress.add_argument("id")
    unsuppress.set_defaults(run=_unsuppress)
    _declare_recommendations(actions)
    score = add_command(
        actions,
        "score",
        "show the secure score of each device and of the fleet",
        "The weight of what passes in percent of the weight of all that was assessed: High 10, Medium 5,"
        " Low 1. The fleet's is the mean.",
    )
    score.set_defaults(run=_score)
    for action in (show, suppressions, unsuppress, score):
        add_common(action)


def _declare_list(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = add_command(
        actions,
        "list",
        "list alerts, the newest first",
        examples="  vedette alerts list\n  vedette alerts list --all --device pump-17 --json",
    )
    listing.add_argument("--all", action="store_true", help="dismissed and resolved ones, too")
    listing.add_argument("--device", default="", metavar="ID")
    listing.add_argument("--type", default="", metavar="TYPE", help="alert type, as in IoT_ReverseShell")
    listing.add_argument("--severity", default="", choices=("High", "Medium", "Low", "Informational"))
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="default: %(default)s")
    listing.set_defaults(run=_list)
    add_common(listing)


def _declare_suppress(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    suppress = add_command(
        actions,
        "suppress",
        "let something raise no alert for a time",
        "What is not named means all of it.",
        "  vedette alerts suppress --device 'pump-*' --type IoT_USBConnection --for 8h --why maintenance\n"
        "  vedette alerts suppress --type IoT_FileCreated --where 'TargetFilename=/opt/app/*' --for 30d",
    )
    suppress.add_argument("--device", default="", metavar="PATTERN", help="device ids, as in pump-*")
    suppress.add_argument(
        "--group", default="", metavar="NAME", help="security group (twin tag SecurityGroup)"
    )
    suppress.add_argument("--type", default="", metavar="TYPE", help="alert type")
    suppress.add_argument(
        "--where", default="", metavar="EXPRESSION", help="Field=pattern [and Field=pattern …]"
    )
    suppress.add_argument("--for", dest="span", required=True, metavar="SPAN", help="90m, 8h, 30d")
    suppress.add_argument("--why", default="", metavar="TEXT")
    suppress.add_argument("--who", default="", metavar="NAME")
    suppress.set_defaults(run=_suppress)
    add_common(suppress)


def _declare_recommendations(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    recommendations = add_command(
        actions,
        "recommendations",
        "list what is weak about the devices",
        examples="  vedette alerts recommendations --fleet\n"
        "  vedette alerts recommendations --device pump-17",
    )
    recommendations.add_argument(
        "--fleet", action="store_true", help="each once: how many devices, since when"
    )
    recommendations.add_argument("--all", action="store_true", help="resolved ones, too")
    recommendations.add_argument("--device", default="", metavar="ID")
    recommendations.add_argument("--name", default="", metavar="NAME", help="as in IoT_CISBenchmarks_5.2.10")
    recommendations.set_defaults(run=_recommendations)
    add_common(recommendations)


def _when(at: float) -> str:
    from vedette.hub.detect.correlate import utc_text

    return utc_text(at)[:19].replace("T", " ")


def _list(options: argparse.Namespace) -> int:
    from vedette.hub.detect.alerts import Alerts

    with opened_database(options) as database:
        found = Alerts(database).list(
            status=() if options.all else OPEN,
            device=options.device,
            kind=options.type,
            severity=options.severity,
            limit=options.limit,
        )
    if options.json:
        print_json(_plain(found))
        return 0
    rows = [
        (a.id[:8], _when(a.created), a.severity, a.status, a.device_id, a.type, a.entity, a.count, a.hits)
        for a in found
    ]
    columns = ("id", "raised (UTC)", "severity", "status", "device", "type", "entity", "events", "hits")
    print_table(columns, rows)
    return 0


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _show(options: argparse.Namespace) -> int:
    from vedette.hub.detect.alerts import Alerts

    with opened_database(options) as database:
        alert = Alerts(database).get(options.id)
    print_json(_plain(alert)) if options.json else _print_alert(alert)
    return 0


def _print_alert(alert: Alert) -> None:
    print_record(
        {
            "id": alert.id,
            "title": alert.title,
            "type": alert.type,
            "severity": alert.severity,
            "status": alert.status,
            "device": alert.device_id,
            "entity": alert.entity,
            "first (UTC)": _when(alert.start),
            "last (UTC)": _when(alert.end),
            "events": alert.count,
            "hits": alert.hits,
            "tactics": ", ".join(alert.tactics),
            "techniques": ", ".join(alert.subtechniques or alert.techniques),
            "description": alert.description,
        }
    )
    for heading, lines in (
        ("what to do", alert.remediation),
        ("what was seen", [", ".join(f"{k}={v}" for k, v in seen.items()) for seen in alert.evidence]),
        ("decided", [f"{_when(c.at)} {c.who}: {c.status} {c.why}".rstrip() for c in alert.changes]),
    ):
        if lines:
            print(f"\n{heading}:")
            for line in lines:
                print_record({"-": line})


def _decide(options: argparse.Namespace) -> int:
    from vedette.hub.detect.alerts import Alerts, Status

    with opened_database(options) as database:
        who = options.who or getpass.getuser()
        alert = Alerts(database).set_status(options.id, Status(options.status), who=who, why=options.why)
    if options.json:
        print_json(_plain(alert))
    else:
        print(f"{alert.id} {alert.type} on {alert.device_id}: {alert.status}")
    return 0


def _suppress(options: argparse.Namespace) -> int:
    from vedette.hub.detect.alerts import Alerts, Suppression
    from vedette.hub.detect.rules import seconds

    with opened_database(options) as database:
        made = Alerts(database).suppress(
            Suppression(
                device=options.device,
                group=options.group,
                type=options.type,
                expression=options.where,
                until=time.time() + seconds(options.span),
                who=options.who or getpass.getuser(),
                why=options.why,
            )
        )
    print_json(_plain(made)) if options.json else print(f"{made.id} until {_when(made.until)} UTC")
    return 0


def _suppressions(options: argparse.Namespace) -> int:
    from vedette.hub.detect.alerts import Alerts

    with opened_database(options) as database:
        found = Alerts(database).suppressions()
    if options.json:
        print_json(_plain(found))
        return 0
    columns = ("id", "until (UTC)", "device", "group", "type", "where", "hits", "who", "why")
    rows = [
        (s.id, _when(s.until), s.device, s.group, s.type, s.expression, s.hits, s.who, s.why) for s in found
    ]
    print_table(columns, rows)
    return 0


def _unsuppress(options: argparse.Namespace) -> int:
    from vedette.hub.detect.alerts import Alerts

    with opened_database(options) as database:
        Alerts(database).unsuppress(options.id)
    print_removed(options.id, options)
    return 0


def _recommendations(options: argparse.Namespace) -> int:
    from vedette.hub.posture import ACTIVE, Recommendations

    with opened_database(options) as database:
        known = Recommendations(database)
        if options.fleet:
            fleet = known.fleet()
        else:
            found = known.list(device=options.device, name=options.name, state="" if options.all else ACTIVE)
    if options.json:
        print_json(_plain(fleet if options.fleet else found))
    elif options.fleet:
        rows: list[Any] = [(r.devices, _when(r.since), r.severity, r.name, r.title) for r in fleet]
        print_table(("devices", "since (UTC)", "severity", "name", "title"), rows)
    else:
        rows = [(r.device_id, r.state, _when(r.changed), r.severity, r.name, r.title) for r in found]
        print_table(("device", "state", "since (UTC)", "severity", "name", "title"), rows)
    return 0


def _score(options: argparse.Namespace) -> int:
    from vedette.hub.posture import Recommendations, fleet_score

    with opened_database(options) as database:
        scores = Recommendations(database).scores()
    if options.json:
        print_json({"fleet": fleet_score(scores), "devices": scores})
        return 0
    print_table(("device", "score"), sorted(scores.items(), key=lambda item: item[1]))
    print(f"fleet: {fleet_score(scores)}" if scores else "nothing was assessed yet")
    return 0

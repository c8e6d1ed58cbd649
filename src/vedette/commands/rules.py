"""`vedette rules`: which detection rules there are, whether they hold, and what they would find."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.commands import UsageError, add_command, add_common, print_json, print_table, rules_check
from vedette.commands.state import opened_database, state_of

if TYPE_CHECKING:
    from vedette.hub.detect.rules import Rule, RuleSet


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    rules = add_command(subparsers, "rules", "list, test and try detection rules")
    actions = rules.add_subparsers(metavar="ACTION", required=True)

    listing = add_command(
        actions,
        "list",
        "list the rules that a hub runs, and the files that it refuses",
        "Without PLACE: the built-in rules and those in the hub's state directory.",
        "  vedette rules list\n  vedette rules list sigma/rules/linux",
    )
    _places(listing)
    listing.set_defaults(run=_list)

    test = add_command(
        actions,
        "test",
        "run the examples inside rules",
        "The exit status is 1 if an example does not come out as it says, or a file is refused.",
        "  vedette rules test\n  vedette rules test my-rule.yml",
    )
    _places(test)
    test.set_defaults(run=_test)

    trial = add_command(
        actions,
        "try",
        "show what a rule would have found in the events that the hub holds",
        "RULE is a file, or the alert type, title or id of a rule that is loaded. The hub's own alerts stay"
        " as they are.",
        "  vedette rules try my-rule.yml --since 7d",
    )
    trial.add_argument("rule", metavar="RULE")
    trial.add_argument(
        "--since", default="1d", metavar="SPAN", help="how far back: 90m, 12h, 7d (default: %(default)s)"
    )
    trial.set_defaults(run=_try)

    for action in (listing, test, trial):
        add_common(action)
    rules_check.add(actions)


def _places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("places", nargs="*", type=Path, metavar="PLACE", help="rule files or directories")


def _loaded(options: argparse.Namespace) -> RuleSet:
    """The rules of the places that were named; else what the hub runs."""
    from vedette.hub.detect.rules import load

    if options.places:
        for place in options.places:
            if not place.exists():
                raise UsageError(f"{place}: no such file or directory")
        return load(*options.places, built_in=False)
    return _of_hub(options)


def _of_hub(options: argparse.Namespace) -> RuleSet:
    """What the hub runs, with what its registry holds of rules; the built-in ones where there is no hub."""
    from vedette.hub.detect.rulebook import Rulebook
    from vedette.hub.detect.rules import load

    state = state_of(options)
    if not state.settings_file.exists():
        return load(state.rules)
    with opened_database(options) as database:
        return Rulebook(database, state.rules).rules()


def _list(options: argparse.Namespace) -> int:
    rules = _loaded(options)
    rows = [_shown(rule) for rule in sorted(rules.rules, key=lambda rule: (rule.alert, rule.path))]
    refused = [{"path": refused.path, "reason": refused.reason} for refused in rules.refused]
    if options.json:
        print_json({"rules": rows, "refused": refused})
        return 0
    columns = ("type", "severity", "enabled", "events", "title")
    print_table(columns, [[row[column] for column in columns] for row in rows])
    if refused:
        print(f"\n{len(refused)} files are not used:")
        for one in refused:
            print(f"{one['path']}: {one['reason']}")
    return 0


def _shown(rule: Rule) -> dict[str, Any]:
    return {
        "type": rule.alert,
        "severity": rule.severity,
        "enabled": rule.enabled,
        "events": ", ".join(rule.events) or "all",
        "title": rule.title,
        "id": rule.id,
        "path": rule.path,
        "tactics": list(rule.tactics),
        "techniques": list(rule.techniques),
    }


def _test(options: argparse.Namespace) -> int:
    from vedette.hub.detect import examples

    rules = _loaded(options)
    outcomes = list(examples.run(rules, rules.rules))
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if options.json:
        shown = [
            {
                "type": outcome.rule.alert,
                "path": outcome.rule.path,
                "example": f"{outcome.kind} {outcome.number}",
                "passed": outcome.passed,
                "reason": outcome.reason,
            }
            for outcome in outcomes
        ]
        refused = [{"path": one.path, "reason": one.reason} for one in rules.refused]
        print_json({"examples": shown, "refused": refused})
        return 1 if failed or refused else 0
    for outcome in failed:
        came = outcome.reason or ("it fired" if outcome.fired else "it did not fire")
        print(f"{outcome.rule.path}: {outcome.rule.alert}: {outcome.kind} {outcome.number}: {came}")
    for refused_file in rules.refused:
        print(f"{refused_file.path}: {refused_file.reason}")
    counts = (len(rules.rules), len(outcomes), len(failed), len(rules.refused))
    print("{} rules, {} examples, {} wrong, {} refused".format(*counts))
    return 1 if failed or rules.refused else 0


def _try(options: argparse.Namespace) -> int:
    from vedette.hub.detect import examples, history
    from vedette.hub.detect.correlate import utc_text
    from vedette.hub.detect.rules import seconds
    from vedette.hub.intel.watch import lookup_now

    rules, rule = _chosen(options)
    with opened_database(options) as database:
        span, listed = seconds(options.since), lookup_now(database)
    only = examples.only(rules, rule)
    events, found = history.replay(state_of(options).lake, only, time.time() - span, lookup=listed)
    if options.json:
        print_json({"events": events, "alerts": [_alert(alert) for alert in found]})
        return 0
    print_table(
        ("device", "entity", "events", "hits", "first (UTC)", "last (UTC)"),
        [(a.device_id, a.entity, a.count, a.hits, utc_text(a.start), utc_text(a.end)) for a in found],
    )
    print(f"{len(found)} alerts {rule.alert} of {events} events")
    return 0


def _alert(alert: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(alert)


def _chosen(options: argparse.Namespace) -> tuple[RuleSet, Rule]:
    """The one rule that was asked for, and the set it is in."""
    from vedette.hub.detect.rules import load

    path = Path(options.rule)
    rules = load(path, built_in=False) if path.exists() else _of_hub(options)
    if path.exists() and rules.refused:
        raise UsageError(f"{path}: {rules.refused[0].reason}")
    wanted = options.rule
    found = [rule for rule in rules.rules if path.exists() or wanted in (rule.alert, rule.title, rule.id)]
    if len(found) != 1:
        raise UsageError(f"{wanted}: {len(found)} rules of that name; see: vedette rules list")
    return rules, found[0]

"""Detection rules: the catalogue, and one of them with its text, its examples, and a trial over the past."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import SEVERITY_TONE, Column, at, count
from vedette.hub.console.rule_trial import trial_panel
from vedette.hub.detect import examples
from vedette.hub.detect.examples import Outcome
from vedette.hub.detect.rulebook import PLACE
from vedette.hub.detect.rules import BUILT_IN, Refused, Rule, RuleError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role
from vedette.wire.events import EVENT_TYPES

PAGE = 100
"""Rules a page."""

STATES = {"All": "", "On": "on", "Off": "off", "Own": "own"}


def routes(backend: Backend) -> None:
    """Add the pages."""

    @ui.page("/rules", response_timeout=30)
    async def rules(
        request: Request, q: str = "", state: str = "", severity: str = "", page: int = 1
    ) -> None:
        known = await call(backend.rulebook.rules)
        alerts = await call(backend.alerts.by_rule)
        found = sorted(
            (rule for rule in known.rules if _fits(rule, q, state, severity)),
            key=lambda rule: (rule.title.casefold(), rule.id),
        )

        def here(**changed: str | int) -> str:
            return at("/rules", **{"q": q, "state": state, "severity": severity, **changed})

        with parts.frame(request, "Rules", "/rules") as beside:
            with beside:
                running = sum(rule.enabled for rule in known.rules)
                parts.text(f"{count(running)} of {count(len(known.rules))} rules run", "dim num")
                if parts.may(request, Role.OPERATOR):
                    parts.link_button("New rule", at("/rule-editor"), icon="add")
            with parts.block("stack"):
                _refusals(known.refused)
                with parts.panel():
                    with parts.block("row"):
                        parts.search("Search rules", q, lambda text: here(q=text))
                        states = {name: here(state=value) for name, value in STATES.items()}
                        parts.segments(states, next((n for n, v in STATES.items() if v == state), ""))
                        levels = {"Any severity": here(severity="")} | {
                            name: here(severity=name) for name in ("High", "Medium", "Low", "Informational")
                        }
                        parts.segments(levels, severity or "Any severity")
                    first = (max(1, page) - 1) * PAGE
                    _table(found[first : first + PAGE], alerts)
                    more = len(found) > first + PAGE
                    parts.pages(max(1, page), more, lambda number: here(page=number))

    @ui.page("/rule/{rule_id:path}", response_timeout=30)
    async def rule(request: Request, rule_id: str) -> None:
        known = await call(backend.rulebook.rules)
        found = next((rule for rule in known.rules if rule.id == rule_id), None)
        if found is None:
            with parts.frame(request, "Rule", "/rules"):
                parts.text("There is no rule of this id.", "empty")
            return
        try:
            text = await call(lambda: text_of(backend, found))
        except RuleError as error:
            text = str(error)
        outcomes = await call(lambda: list(examples.run(known, [found])))
        with parts.frame(request, found.title, "/rules") as beside:
            with beside:
                parts.badge(found.severity, SEVERITY_TONE.get(found.severity, ""))
                parts.badge(*(("on", "good") if found.enabled else ("off", "")))
                if parts.may(request, Role.OPERATOR):
                    _switch(backend, request, found)
                    name = "Edit" if found.path.startswith(PLACE) else "Edit a copy"
                    parts.link_button(name, at("/rule-editor", rule=found.id), icon="edit")
            with parts.block("cols wide-left"):
                with parts.block("stack"):
                    with parts.panel("Rule"):
                        ui.codemirror(text, language="YAML", theme="githubLight", line_wrapping=True).style(
                            "height: 520px"
                        ).set_enabled(False)
                    if parts.may(request, Role.ANALYST):
                        trial_panel(backend, request, lambda: examples.only(known, found))
                with parts.block("stack"):
                    _about(found, (await call(backend.alerts.by_rule)).get(found.id, 0))
                    with parts.panel("Examples", "Run just now, as events of a device through the engine."):
                        outcome_list(outcomes)


def rule_at(rule_id: str) -> str:
    """The address of a rule's page."""
    return at(f"/rule/{quote(rule_id, safe='')}")


def text_of(backend: Backend, rule: Rule) -> str:
    """The text in which a rule stands. Raises RuleError if it went meanwhile."""
    if rule.path.startswith(PLACE):
        name = rule.path.removeprefix(PLACE)
        found = next((own.text for own in backend.rulebook.own() if own.name == name), None)
        if found is None:
            raise RuleError(f"{name}: the rule was removed")
        return found
    try:
        return Path(rule.path).read_text()
    except OSError as error:
        raise RuleError(f"{rule.path}: {error.strerror}") from None


def _source(rule: Rule) -> str:
    if rule.path.startswith(PLACE):
        return "own"
    return "built in" if Path(rule.path).is_relative_to(BUILT_IN) else "own, file"


def needed(rule: Rule) -> Sequence[str]:
    """The events that a rule looks at, without the classic agent's names where there are others."""
    return [name for name in rule.events if name in EVENT_TYPES] or rule.events


def _some(words: Sequence[str]) -> str:
    """The first two."""
    return ", ".join(words[:2]) + (f" +{len(words) - 2}" if len(words) > 2 else "")


def _fits(rule: Rule, q: str, state: str, severity: str) -> bool:
    words = f"{rule.title} {rule.alert} {rule.description} {' '.join(rule.techniques)} {rule.path}".casefold()
    wanted = {"on": rule.enabled, "off": not rule.enabled, "own": _source(rule) != "built in"}
    return q.casefold() in words and wanted.get(state, True) and severity in ("", rule.severity)


def _refusals(refused: Sequence[Refused]) -> None:
    if refused:
        with parts.panel("Not used", "What is wrong with these; all others run."):
            for one in refused[:PAGE]:
                parts.text(f"{one.path}: {one.reason}", "error-line")


def _table(rules: Sequence[Rule], alerts: Mapping[str, int]) -> None:
    rows = [
        {
            "title": rule.title,
            "title_href": rule_at(rule.id),
            "state": "on" if rule.enabled else "off",
            "state_tone": "good" if rule.enabled else "",
            "severity": rule.severity,
            "severity_tone": SEVERITY_TONE.get(rule.severity, ""),
            "alert": rule.alert,
            "alerts": count(alerts.get(rule.id)),
            "alerts_href": at("/alerts", status="all", kind=rule.alert),
            "attack": _some(rule.subtechniques or rule.techniques),
            "needs": _some(needed(rule)) or "any event",
            "source": _source(rule),
        }
        for rule in rules
    ]
    columns = (
        Column("title", "Rule", "link"),
        Column("state", "State", "badge"),
        Column("severity", "Severity", "badge"),
        Column("alerts", "Alerts", "link"),
        Column("source", "Source"),
        Column("needs", "Needs"),
        Column("attack", "ATT&CK", "mono"),
        Column("alert", "Alert type", "mono"),
    )
    parts.table(columns, rows, empty="No rule fits.")


def _switch(backend: Backend, request: Request, rule: Rule) -> None:
    async def turn(*_: object) -> None:
        user = await backend.demand(request, Role.OPERATOR)
        with acting_as(f"user:{user.name}"):
            await call(lambda: backend.rulebook.switch(rule.id, not rule.enabled, user.name))
        ui.navigate.reload()

    name = "Switch off" if rule.enabled else "Switch on"
    ui.button(name, on_click=parts.guarded(turn)).props("outline dense").classes("small")


def _about(rule: Rule, alerts: int) -> None:
    with parts.panel("What it is for"):
        parts.text(rule.description).style("margin-bottom: 10px")
        parts.facts(
            [
                ("Alert type", rule.alert),
                ("Needs", ", ".join(needed(rule)) or "any event"),
                ("Devices", ", ".join(rule.devices) or "all"),
                ("Tactics", ", ".join(rule.tactics)),
                ("Techniques", ", ".join((*rule.techniques, *rule.subtechniques))),
                ("Not to be mixed up with", " ".join(rule.falsepositives)),
                ("Source", _source(rule)),
                ("Id", rule.id if not rule.id.startswith("/") else ""),
            ]
        )
        with parts.block("row").style("margin-top: 10px"):
            parts.link(
                "1 alert" if alerts == 1 else f"{count(alerts)} alerts",
                at("/alerts", status="all", kind=rule.alert),
            )
    if rule.remediation:
        with parts.panel("What to do about its alerts"):
            for step in rule.remediation:
                parts.text(step).style("margin-bottom: 6px")


def outcome_list(outcomes: Sequence[Outcome]) -> None:
    """What came of the examples of a rule."""
    if not outcomes:
        parts.text("The rule has no examples.", "empty")
    for one in outcomes:
        with parts.block("example"):
            came = "fires" if one.fired else "quiet"
            parts.badge(
                came if one.passed else f"{came}, should be {one.kind}", "good" if one.passed else "bad"
            )
            example = getattr(one.rule.examples, one.kind)[one.number - 1]
            parts.text(one.reason or _written(example), "code" if not one.reason else "error-line")


def _written(example: Any) -> str:
    """An example in a line or a few: a command line as it is."""
    steps = example if isinstance(example, list) else [example]
    return "\n".join(
        step["Process"]
        if isinstance(step, dict) and step.keys() == {"Process"} and isinstance(step["Process"], str)
        else json.dumps(step, ensure_ascii=False, default=str)
        for step in steps
    )

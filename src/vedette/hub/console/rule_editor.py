"""Write a rule: its text is judged while it is typed, and its examples are run."""

from __future__ import annotations

import re

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import at
from vedette.hub.console.rule_trial import trial_panel
from vedette.hub.console.rules import outcome_list, rule_at, text_of
from vedette.hub.detect import examples
from vedette.hub.detect.examples import Outcome
from vedette.hub.detect.rulebook import PLACE
from vedette.hub.detect.rules import Rule, RuleError, RuleSet
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role

PAUSE_S = 0.8
"""Without typing, after which the text is judged: it takes a second of a core."""

TEMPLATE = """\
title: A word in a command
description: >-
  Why it matters that this happens.
level: medium
tags: [attack.execution, attack.t1059.004]
logsource: {product: linux, category: process_creation}
detection:
  selection:
    CommandLine|contains: example
  condition: selection
vedette:
  remediation:
    - What to do about it.
  examples:
    fires:
      - Process: "echo example"
    quiet:
      - Process: "echo something else"
"""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/rule-editor", response_timeout=30)
    async def rule_editor(request: Request, rule: str = "") -> None:
        with parts.frame(request, "Edit a rule" if rule else "New rule", "/rules"):
            if not parts.may(request, Role.OPERATOR):
                parts.text("Writing a rule needs the role operator.", "empty")
                return
            known = await call(backend.rulebook.rules)
            found = next((one for one in known.rules if one.id == rule), None)
            if rule and found is None:
                parts.text("There is no rule of this id.", "empty")
                return
            text = await call(lambda: text_of(backend, found)) if found else TEMPLATE
            editor = _Editor(backend, request, _name(found), text)
        await editor.judge()


def _name(rule: Rule | None) -> str:
    """A name for the rule in the registry: its own, or one made of its title."""
    if rule is None:
        return ""
    if rule.path.startswith(PLACE):
        return rule.path.removeprefix(PLACE)
    return re.sub(r"[^a-z0-9]+", "-", rule.title.lower()).strip("-")[:64]


class _Editor:
    """Text, verdict and examples."""

    def __init__(self, backend: Backend, request: Request, name: str, text: str) -> None:
        self._backend = backend
        self._request = request
        self._rules: RuleSet | None = None
        self._round = 0
        with parts.block("cols wide-left"):
            with parts.panel("Rule", "Sigma, with a section “vedette” for what it adds."):
                with parts.block("row").style("margin-bottom: 10px"):
                    self._name = ui.input("Name in the registry", value=name).props("outlined dense")
                    self._name.style("width: 280px").on_value_change(self._typed)
                    self._save = ui.button("Save", icon="check").props("unelevated dense").classes("small")
                    remove = ui.button("Remove").props("outline dense").classes("small")
                self._text = ui.codemirror(text, language="YAML", theme="githubLight", on_change=self._typed)
                self._text.style("height: 560px").props('aria-label="Rule"')
            with parts.block("stack"):
                with parts.panel("Verdict"):
                    self._verdict = parts.block("")
                trial_panel(backend, request, self._own)
        self._save.on_click(parts.guarded(self._keep))
        remove.on_click(parts.guarded(self._remove))

    def _typed(self, *_: object) -> None:
        """Judge once nothing more is typed."""
        self._round += 1
        number = self._round

        async def later() -> None:
            if number == self._round:
                await self.judge()

        ui.timer(PAUSE_S, later, once=True)

    async def judge(self) -> None:
        """Say whether the rule can be used, and what its examples do."""
        name, text = self._name.value or "new", self._text.value
        outcomes: list[Outcome] = []
        wrong = ""
        try:
            self._rules = rules = await call(lambda: self._backend.rulebook.trial(name, text))
            mine = [rule for rule in rules.rules if rule.path == PLACE + name]
            outcomes = await call(lambda: list(examples.run(rules, mine)))
        except RuleError as error:
            self._rules, wrong = None, str(error)
        self._save.set_enabled(not wrong and bool(self._name.value))
        self._verdict.clear()
        with self._verdict:
            if wrong:
                parts.text(wrong, "error-line")
                return
            for rule in mine:
                parts.text(f"{rule.title}: {rule.alert}, {rule.severity}", "dim")
            if not self._name.value:
                parts.text("A name is needed to save it.", "dim")
            outcome_list(outcomes)

    def _own(self) -> RuleSet:
        name = self._name.value or "new"
        if self._rules is None:
            raise RuleError("The rule cannot be used as it is; see the verdict.")
        mine = tuple(rule for rule in self._rules.rules if rule.path == PLACE + name)
        sets = [examples.only(self._rules, rule) for rule in mine]
        if len(sets) != 1:
            raise RuleError(f"One rule can be tried at a time, not {len(sets)}.")
        return sets[0]

    async def _keep(self, *_: object) -> None:
        user = await self._backend.demand(self._request, Role.OPERATOR)
        name, text = self._name.value or "", self._text.value
        with acting_as(f"user:{user.name}"):
            await call(lambda: self._backend.rulebook.save(name, text, user.name))
        rules = await call(self._backend.rulebook.rules)
        mine = next((rule for rule in rules.rules if rule.path == PLACE + name), None)
        parts.go(rule_at(mine.id) if mine else at("/rules", state="own"))

    async def _remove(self, *_: object) -> None:
        user = await self._backend.demand(self._request, Role.OPERATOR)
        name = self._name.value or ""
        with acting_as(f"user:{user.name}"):
            await call(lambda: self._backend.rulebook.remove(name))
        parts.go(at("/rules"))

"""The rules of a hub: the built-in ones, its owner's files, and what the registry holds beside them.

A rule that was written in the console, and whether a rule is switched on, stands in the registry: every hub
on it sees the same. A rule of the registry replaces one of a file by its `id`, as a later file does.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, select

from vedette.hub.detect.rules import RuleError, RuleSet, load
from vedette.hub.detect.schema import Database, OwnRuleRow, RuleSwitchRow

PLACE = "registry:"
"""What stands before the name of a rule of the registry, where others have the path of their file."""

MAX_OWN = 2_000
"""Rules in the registry: half of the largest public collection, which is better kept as files."""

MAX_RULE_BYTES = 256_000
"""Of one of them; the largest rule known has 200 KB."""

LOOK_S = 5.0
"""How often a worker looks whether anything changed: a query and a look at each file's date."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class OwnRule(msgspec.Struct, frozen=True):
    """See OwnRuleRow."""

    name: str
    text: str
    who: str
    changed: float


class _Mark(NamedTuple):
    """Differs when anything differs: numbers and latest times of the rows, dates and sizes of the files."""

    rows: tuple[Any, ...]
    files: tuple[tuple[str, int, int], ...]


class Rulebook:
    """The rules as they are now, for any thread.

    files: the owner's directory, which need not exist. Raises RuleError where what is given is wrong.
    """

    def __init__(self, database: Database, files: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._files = files
        self._clock = clock
        self._mark: _Mark | None = None
        self._rules = RuleSet((), {}, (), ())
        self._looked = float("-inf")
        self._loading = threading.Lock()

    def rules(self) -> RuleSet:
        """Every rule, those that are switched off included. Loading takes about a second."""
        with self._loading:
            if (mark := self._marked()) != self._mark:
                texts = {own.name: own.text for own in self.own()}
                self._rules, self._mark = self._load(texts), mark
            return self._rules

    def changed(self) -> RuleSet | None:
        """The rules if they are not those of the last call; at most every LOOK_S."""
        if self._clock() - self._looked < LOOK_S:
            return None
        self._looked = self._clock()
        before = self._rules
        rules = self.rules()
        return None if rules is before else rules

    def own(self) -> Sequence[OwnRule]:
        """The rules of the registry, by name."""
        with self._database.read.begin() as session:
            rows = session.scalars(select(OwnRuleRow).order_by(OwnRuleRow.name).limit(MAX_OWN))
            return [OwnRule(row.name, row.text, row.who, row.changed) for row in rows]

    def trial(self, name: str, text: str) -> RuleSet:
        """All rules with this one among them, as it would be. Raises RuleError if it would be refused."""
        if not _NAME.fullmatch(name):
            raise RuleError(f"name: {name[:64]!r}: up to 64 of a-z, 0-9, - and _ are allowed")
        if len(text.encode(errors="surrogatepass")) > MAX_RULE_BYTES:
            raise RuleError(f"rule: larger than {MAX_RULE_BYTES} bytes")
        found = self._load({own.name: own.text for own in self.own()} | {name: text})
        for refused in found.refused:
            if refused.path == PLACE + name:
                raise RuleError(refused.reason)
        return found

    def save(self, name: str, text: str, who: str) -> None:
        """Keep a rule. Raises RuleError."""
        self.trial(name, text)
        with self._database.write.begin() as session:
            others = select(func.count()).where(OwnRuleRow.name != name)
            if (session.scalar(others) or 0) >= MAX_OWN:
                raise RuleError(f"rules: {MAX_OWN} are allowed in the registry; keep more as files")
            session.merge(OwnRuleRow(name=name, text=text, who=who, changed=time.time()))

    def remove(self, name: str) -> None:
        """Forget a rule of the registry; what it replaced is back. Raises RuleError."""
        with self._database.write.begin() as session:
            row = session.get(OwnRuleRow, name)
            if row is None:
                raise RuleError(f"{name}: the registry has no such rule")
            session.delete(row)

    def switch(self, rule_id: str, enabled: bool, who: str) -> None:
        """Switch a rule on or off. Raises RuleError."""
        if not any(rule.id == rule_id for rule in self.rules().rules):
            raise RuleError(f"{rule_id}: no such rule")
        with self._database.write.begin() as session:
            session.merge(RuleSwitchRow(rule_id=rule_id, enabled=enabled, who=who, changed=time.time()))

    def _load(self, texts: Mapping[str, str]) -> RuleSet:
        found = load(self._files, texts={PLACE + name: text for name, text in texts.items()})
        with self._database.read.begin() as session:
            switches = {row.rule_id: row.enabled for row in session.scalars(select(RuleSwitchRow))}
        rules = tuple(
            msgspec.structs.replace(rule, enabled=switches.get(rule.id, rule.enabled)) for rule in found.rules
        )
        return msgspec.structs.replace(found, rules=rules)

    def _marked(self) -> _Mark:
        with self._database.read.begin() as session:
            rows = [
                tuple(session.execute(select(func.count(), func.max(table.changed))).one())
                for table in (OwnRuleRow, RuleSwitchRow)
            ]
        return _Mark(tuple(rows), tuple(_dated(self._files)))


def _dated(directory: Path) -> Sequence[tuple[str, int, int]]:
    """Name, date and size of each file below a directory."""
    found = []
    for path in sorted(directory.rglob("*.y*ml")):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.append((str(path), state.st_mtime_ns, state.st_size))
    return found

"""Rule files → rules that can run: Sigma, with what `vedette:` adds. The format is in docs/rules.md.

A file that is broken or asks for what no event here tells is refused with its reason; the rest load.
pySigma reads the rules and writes the SQL that `judge` runs. It is imported when rules are loaded: it takes a
third of a second.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from vedette.hub.detect.taxonomy import AUTHENTICATION, Category, Unsupported, resolve
from vedette.hub.errors import DomainError

if TYPE_CHECKING:
    from sigma.correlations import SigmaCorrelationRule
    from sigma.rule import SigmaRule

log = logging.getLogger(__name__)

BUILT_IN = Path(__file__).parent.parent / "rules"

MAX_FILE_BYTES = 1_000_000
MAX_FILES = 10_000
"""SigmaHQ's whole collection is some 4,000 files of a few KB; the largest known rule has 200 KB."""

SPAN_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_SPAN_S = 30 * 86400
"""Longest window: what falls into it is kept in the registry until it ends."""


SEVERITIES = {"critical": "High", "high": "High", "medium": "Medium", "informational": "Informational"}
"""Sigma's levels as `AlertSeverity`; Low for the rest, and for a rule that does not say."""


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An allowed number of hits, events or messages in a whole window."""

    of: Literal["hits", "events", "messages"]
    timespan: str
    min: Annotated[int, msgspec.Meta(ge=0)] = 0
    max: Annotated[int, msgspec.Meta(ge=0)] | None = None

    @property
    def seconds(self) -> int:
        """Length of the window."""
        return seconds(self.timespan)


class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events that must fire and look-alikes that must not; see `detect.examples`.

    listed: indicators that the hub's lists hold meanwhile.
    """

    fires: tuple[Any, ...] = ()
    quiet: tuple[Any, ...] = ()
    listed: tuple[str, ...] = ()


class Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `vedette` section of a rule."""

    alert: str = ""
    entity: tuple[str, ...] = ()
    enabled: bool = True
    devices: tuple[str, ...] = ()
    scope: Literal["device", "fleet"] = "device"
    remediation: tuple[str, ...] = ()
    range: Range | None = None
    silence: str = ""
    examples: Examples = Examples()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What makes alerts: a selection or a correlation, and everything that an alert says.

    key: of the selection or correlation. events: RawEventNames it needs, empty for all.
    silence: seconds, 0 if the rule is none of silence.
    """

    key: str
    id: str
    path: str
    title: str
    alert: str
    severity: str
    description: str
    remediation: tuple[str, ...]
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    subtechniques: tuple[str, ...]
    falsepositives: tuple[str, ...]
    events: tuple[str, ...]
    entity: tuple[str, ...]
    enabled: bool
    devices: tuple[str, ...]
    range: Range | None
    silence: int
    examples: Examples

    def concerns(self, device: str) -> bool:
        """Whether the rule is for this device."""
        return not self.devices or any(fnmatch.fnmatchcase(device, pattern) for pattern in self.devices)


class Selection(msgspec.Struct, frozen=True):
    """A condition on single events; see `sql.Condition`."""

    key: str
    category: Category
    where: str
    columns: frozenset[str]
    patterns: frozenset[tuple[str, str]]
    questions: frozenset[tuple[str, str]]

    @property
    def fields(self) -> frozenset[str]:
        """The fields that it looks at in any way."""
        return self.columns | {field for field, _ in self.patterns | self.questions}


class Correlation(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on several events. sources: keys of selections and correlations, in the order given.

    threshold: how many at least (one of each source for the temporal kinds); field: whose values count.
    """

    key: str
    kind: Literal["event_count", "value_count", "temporal", "temporal_ordered"]
    sources: tuple[str, ...]
    group_by: tuple[str, ...]
    seconds: int
    threshold: int = 0
    field: str = ""
    fleet: bool = False


class Refused(msgspec.Struct, frozen=True):
    """A file that cannot be used, and why."""

    path: str
    reason: str


class RuleSet(msgspec.Struct, frozen=True):
    """Rules that can run. correlations: each behind those that it refers to."""

    rules: tuple[Rule, ...]
    selections: Mapping[str, Selection]
    correlations: tuple[Correlation, ...]
    refused: tuple[Refused, ...]

    def running(self) -> RuleSet:
        """Without the disabled rules and what only they need."""
        rules = tuple(rule for rule in self.rules if rule.enabled)
        needed = {rule.key for rule in rules}
        for correlation in reversed(self.correlations):
            if correlation.key in needed:
                needed |= set(correlation.sources)
        return RuleSet(
            rules,
            {key: selection for key, selection in self.selections.items() if key in needed},
            tuple(correlation for correlation in self.correlations if correlation.key in needed),
            self.refused,
        )


class RuleError(DomainError, ValueError):
    """A rule is wrong; the text names the field and the reason."""


def seconds(text: str) -> int:
    """A time span such as `90s`, `10m`, `72h`, `7d`. Raises RuleError."""
    number, unit = text[:-1], text[-1:]
    span = int(number) * SPAN_SECONDS.get(unit, 0) if number.isdecimal() and len(number) < 10 else 0
    if not 0 < span <= MAX_SPAN_S:
        raise RuleError(f"timespan: {text[:32]!r} is not a number with s, m, h or d, up to 30d")
    return span


def load(*places: Path, built_in: bool = True, texts: Mapping[str, str] | None = None) -> RuleSet:
    """The built-in rules and those of files and directories; a later one replaces an earlier by `id`.

    A place that does not exist is passed over: an owner need not have rules. texts: the content of files that
    are kept elsewhere, by what stands for their path; they come last.
    """
    documents: list[_Document] = []
    refused: list[Refused] = []
    sources: list[tuple[str, Callable[[], str]]] = [
        (str(path), partial(_text, path))
        for path in _files([BUILT_IN, *places] if built_in else places, refused)
    ]
    sources += [(name, partial(str, text)) for name, text in (texts or {}).items()]
    for path, text_of in sources:
        try:
            read = _read(path, text_of())
        except (RuleError, Unsupported) as error:
            refused.append(Refused(path, str(error)))
            continue
        ids = {document.id for document in read if document.id}
        replaced = {document.path for document in documents if document.id in ids}
        documents = [document for document in documents if document.path not in replaced] + read
    return _link(documents, refused)


def _files(places: Iterable[Path], refused: list[Refused]) -> Iterator[Path]:
    found = 0
    for place in filter(Path.exists, places):
        paths = (
            sorted(p for p in place.rglob("*") if p.suffix in (".yml", ".yaml"))
            if place.is_dir()
            else [place]
        )
        for path in paths:
            found += 1
            if found > MAX_FILES:
                refused.append(Refused(str(path), f"beyond the first {MAX_FILES} files"))
                return
            yield path


class _Document(NamedTuple):
    """One YAML document of a rule file, understood."""

    path: str
    id: str
    names: tuple[str, ...]
    item: Selection | Correlation
    rule: Rule
    generate: bool


def _text(path: Path) -> str:
    """What a file holds. Raises RuleError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RuleError(f"larger than {MAX_FILE_BYTES} bytes")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(" ".join(str(error).split())) from None


def _read(path: str, text: str) -> list[_Document]:
    """The documents of a file. Raises RuleError, Unsupported."""
    import yaml

    try:
        documents = [d for d in yaml.load_all(text, yaml.CSafeLoader) if d is not None]
    except yaml.YAMLError as error:
        raise RuleError(" ".join(str(error).split())) from None
    if not documents:
        raise RuleError("the file holds no rule")
    return [_document(path, index, document) for index, document in enumerate(documents)]


def _document(path: str, index: int, document: Any) -> _Document:
    from sigma.correlations import SigmaCorrelationRule
    from sigma.exceptions import SigmaError
    from sigma.rule import SigmaRule

    if not isinstance(document, dict):
        raise RuleError(f"document {index + 1}: not a mapping")
    if "filter" in document or document.get("action"):
        raise Unsupported("filters and `action` documents")
    try:
        extension = msgspec.convert(document.get("vedette") or {}, Extension)
        if "correlation" in document:
            parsed: SigmaRule | SigmaCorrelationRule = SigmaCorrelationRule.from_dict(document)
        else:
            parsed = SigmaRule.from_dict(document)
        key = str(parsed.id) if parsed.id else f"{path}#{index}"
        item = (
            _correlation(key, parsed, extension)
            if isinstance(parsed, SigmaCorrelationRule)
            else _selection(key, parsed, extension)
        )
        rule = _rule(path, key, parsed, item, extension)
    except msgspec.ValidationError as error:
        raise RuleError(f"vedette: {error}") from None
    except SigmaError as error:
        raise RuleError(" ".join(str(error).split())) from None
    names = tuple(name for name in (parsed.name, str(parsed.id) if parsed.id else None) if name)
    generate = isinstance(parsed, SigmaCorrelationRule) and parsed.generate
    return _Document(path, str(parsed.id or ""), names, item, rule, generate)


def _check_fields(where: str, category: Category, fields: Iterable[str]) -> None:
    if unknown := sorted(set(fields) - category.fields):
        raise Unsupported(f"{where}: {category.name} events have no {', '.join(unknown)}")


def _selection(key: str, parsed: SigmaRule, extension: Extension) -> Selection:
    from vedette.hub.detect.sql import FULLTEXT, convert

    source = parsed.logsource
    category = resolve(source.product, source.category, source.service)
    columns = frozenset(_columns(parsed))
    if FULLTEXT in columns and category is AUTHENTICATION:
        raise Unsupported("detection: keywords: Login events do not carry the text of a log")
    _check_fields("detection", category, columns - {FULLTEXT})
    _check_fields("vedette.entity", category, extension.entity)
    return Selection(key, category, *convert(parsed, columns))


def _columns(parsed: SigmaRule) -> Iterator[str]:
    """The fields that a rule looks at."""
    from sigma.rule import SigmaDetection, SigmaDetectionItem
    from sigma.types import SigmaFieldReference

    from vedette.hub.detect.sql import FULLTEXT

    left: list[SigmaDetection | SigmaDetectionItem] = list(parsed.detection.detections.values())
    while left:
        item = left.pop()
        if isinstance(item, SigmaDetection):
            left += item.detection_items
            continue
        yield item.field or FULLTEXT
        values = item.value if isinstance(item.value, list) else [item.value]
        yield from (value.field for value in values if isinstance(value, SigmaFieldReference))


_KINDS = ("event_count", "value_count", "temporal", "temporal_ordered")


def _correlation(key: str, parsed: SigmaCorrelationRule, extension: Extension) -> Correlation:
    kind = parsed.type.name.lower() if parsed.type else ""
    if kind not in _KINDS:
        raise Unsupported(f"correlation: type {kind}")
    if parsed.aliases.aliases:
        raise Unsupported("correlation: aliases")
    threshold, field = 0, ""
    if kind in ("event_count", "value_count"):
        threshold, field = _threshold(parsed.condition)
    elif parsed.condition is not None and not _is_default(parsed):
        raise Unsupported("correlation: a condition of a temporal rule")
    return Correlation(
        key=key,
        kind=kind,  # type: ignore[arg-type]  # one of _KINDS
        sources=tuple(reference.reference for reference in parsed.rules or ()),
        group_by=tuple(parsed.group_by or ()),
        seconds=seconds(parsed.timespan.spec) if parsed.timespan else 0,
        threshold=threshold,
        field=field,
        fleet=extension.scope == "fleet",
    )


def _is_default(parsed: SigmaCorrelationRule) -> bool:
    """Whether the condition is the one that pySigma supplies where a rule has none: all of them."""
    return parsed.custom_attributes.get("correlation", {}).get("condition") is None


def _threshold(condition: Any) -> tuple[int, str]:
    """(at least so many, of the values of a field)."""
    op = getattr(getattr(condition, "op", None), "name", "")
    if op not in ("GTE", "GT", "EQ") or not isinstance(condition.count, int):
        raise Unsupported(f"correlation: condition {op.lower() or 'with several operators'}")
    field = condition.fieldref or ""
    if not isinstance(field, str):
        raise Unsupported("correlation: a condition on several fields")
    return condition.count + (op == "GT"), field


def _rule(
    path: str,
    key: str,
    parsed: SigmaRule | SigmaCorrelationRule,
    item: Selection | Correlation,
    extension: Extension,
) -> Rule:
    tags = [tag.name for tag in parsed.tags if tag.namespace == "attack"]
    techniques = [tag.upper() for tag in tags if tag[:1] == "t" and tag[1:2].isdigit()]
    if extension.range and extension.silence:
        raise RuleError("vedette: range and silence exclude each other")
    if (extension.range or extension.silence) and isinstance(item, Correlation):
        raise RuleError("vedette: range and silence belong to a rule without correlation")
    if extension.range:
        seconds(extension.range.timespan)
    return Rule(
        key=key,
        id=key,
        path=path,
        title=parsed.title,
        alert=extension.alert or parsed.title,
        severity=SEVERITIES.get(parsed.level.name.lower() if parsed.level else "", "Low"),
        description=" ".join((parsed.description or "").split()),
        remediation=extension.remediation,
        tactics=tuple(_tactic(tag) for tag in tags if not (tag[:1] in "tgs" and tag[1:2].isdigit())),
        techniques=tuple(dict.fromkeys(technique.partition(".")[0] for technique in techniques)),
        subtechniques=tuple(technique for technique in techniques if "." in technique),
        falsepositives=tuple(parsed.falsepositives),
        events=tuple(sorted(item.category.events)) if isinstance(item, Selection) else (),
        entity=extension.entity,
        enabled=extension.enabled,
        devices=extension.devices,
        range=extension.range,
        silence=seconds(extension.silence) if extension.silence else 0,
        examples=extension.examples,
    )


def _tactic(tag: str) -> str:
    """`command-and-control` → `CommandAndControl`, as the documented table has it."""
    return "".join(word.capitalize() for word in tag.replace("_", "-").split("-"))


def _link(documents: Sequence[_Document], refused: list[Refused]) -> RuleSet:
    """Resolve what correlations refer to; refuse those that refer to what is not there."""
    names = {name: document for document in documents for name in document.names}
    selections = {d.item.key: d.item for d in documents if isinstance(d.item, Selection)}
    fields = {key: selection.category.fields for key, selection in selections.items()}
    events = {d.item.key: frozenset(d.rule.events) for d in documents if isinstance(d.item, Selection)}
    linked: dict[str, Correlation] = {}
    inner: set[str] = set()
    for document in _in_order(documents, names):
        correlation = document.item
        assert isinstance(correlation, Correlation)
        sources = tuple(names[name].item.key for name in correlation.sources if name in names)
        if why := _unlinked(correlation, sources, names, fields):
            refused.append(Refused(document.path, f"correlation: {why}"))
            continue
        linked[correlation.key] = msgspec.structs.replace(correlation, sources=sources)
        # What comes of a correlation has the fields that it was grouped by, and no others.
        fields[correlation.key] = frozenset(correlation.group_by)
        events[correlation.key] = frozenset[str]().union(*(events[source] for source in sources))
        inner |= set() if document.generate else set(sources)
    rules = tuple(
        msgspec.structs.replace(d.rule, events=tuple(sorted(events[d.item.key])))
        for d in documents
        if d.item.key in events and d.item.key not in inner
    )
    return RuleSet(rules, selections, tuple(linked.values()), tuple(refused))


def _in_order(documents: Sequence[_Document], names: Mapping[str, _Document]) -> list[_Document]:
    """The correlations, each behind those that it refers to; what refers to itself stays in place."""
    ordered: dict[str, _Document] = {}
    waiting = [document for document in documents if isinstance(document.item, Correlation)]

    def visit(document: _Document, above: frozenset[str]) -> None:
        if document.item.key in ordered or document.item.key in above:
            return
        assert isinstance(document.item, Correlation)
        for name in document.item.sources:
            if name in names and isinstance(names[name].item, Correlation):
                visit(names[name], above | {document.item.key})
        ordered[document.item.key] = document

    for document in waiting:
        visit(document, frozenset())
    return list(ordered.values())


def _unlinked(
    correlation: Correlation,
    sources: Sequence[str],
    names: Mapping[str, _Document],
    fields: Mapping[str, frozenset[str]],
) -> str:
    """Why a correlation cannot be used; empty if it can."""
    if missing := [name for name in correlation.sources if name not in names]:
        return f"refers to {', '.join(missing)}, which is not loaded"
    if not sources or any(source not in fields for source in sources):
        return "refers to nothing, to itself, or to a rule that was refused"
    needed = {*correlation.group_by, correlation.field} - {"", "DeviceId"}
    for source in sources:
        if unknown := sorted(needed - fields[source]):
            return f"{', '.join(unknown)} is no field of everything that it refers to"
    return ""

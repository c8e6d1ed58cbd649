"""What of a directory of Sigma rules can run here, and why the rest cannot: by log source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vedette.hub.detect.rules import RuleSet, load

UNREADABLE = "no log source"
"""What stands for the log source of a file that names none, or is no rule."""


class File(NamedTuple):
    """A rule file, the log source that it names, and why it is refused; empty where it is not."""

    path: str
    source: str
    reason: str


class Tally(NamedTuple):
    """The files of a log source. reasons: why files are refused, the most frequent first."""

    source: str
    loaded: int
    refused: int
    reasons: Sequence[tuple[str, int]]


def survey(*places: Path) -> list[File]:
    """Every rule file of these places."""
    found = load(*places, built_in=False)
    reasons = {refused.path: refused.reason for refused in found.refused}
    return [File(path, _source(Path(path)), reasons.get(path, "")) for path in sorted(_paths(found))]


def tallies(files: Iterable[File]) -> list[Tally]:
    """The files counted by log source."""
    by_source: dict[str, list[File]] = {}
    for file in files:
        by_source.setdefault(file.source, []).append(file)
    return [_tally(source, of_it) for source, of_it in sorted(by_source.items())]


def _tally(source: str, files: Sequence[File]) -> Tally:
    reasons = Counter(file.reason for file in files if file.reason)
    refused = sum(reasons.values())
    return Tally(source, len(files) - refused, refused, reasons.most_common())


def _paths(found: RuleSet) -> set[str]:
    return {rule.path for rule in found.rules} | {refused.path for refused in found.refused}


def _source(path: Path) -> str:
    """`linux process_creation`, `linux service sshd`: as the first document with a log source says."""
    import yaml

    try:
        documents = list(yaml.load_all(path.read_text(), yaml.CSafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return UNREADABLE
    for document in documents:
        source = document.get("logsource") if isinstance(document, dict) else None
        if isinstance(source, dict):
            return _named(source) or UNREADABLE
    return UNREADABLE


def _named(source: dict[str, Any]) -> str:
    service = source.get("service")
    parts = (source.get("product"), source.get("category"), f"service {service}" if service else None)
    return " ".join(str(part) for part in parts if part)

"""Checks of one's own, from a local YAML file whose SHA-256 the twin pins.

    checks:
      - id: modbus-local
        description: The Modbus gateway listens on the loopback interface only.
        remediation: Set `listen = 127.0.0.1` in /etc/modbus.conf.
        severity: Important
        file: /etc/modbus.conf
        contains: '^listen *= *127\\.0\\.0\\.1$'

Each check names one `file` and at least one expectation of it: `exists` (true unless said otherwise),
`contains` and `lacks` (regular expressions, tried on each line), `mode` (the most permissions, octal),
`owner` (a user id). What is wrong with the file itself is one ERROR, and the other checks go on.
"""

from __future__ import annotations

import hashlib
import re
from importlib import import_module
from typing import Annotated, Any

import msgspec

from vedette.agent.baseline.declare import Finding, Result, Severity, Tally, failed, passed
from vedette.agent.baseline.device import MAX_FILE_BYTES, CannotTell, Device
from vedette.agent.baseline.scan import Outcome, bounded, presentable

GROUP = "Custom"

MAX_CUSTOM_CHECKS = 500
"""Twice the catalogue: more would not fit the messages of a quiet device."""

Text = Annotated[str, msgspec.Meta(max_length=1_000)]


class CustomCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file."""

    id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
    description: Text
    file: Annotated[str, msgspec.Meta(pattern="^/", max_length=4_096)]
    remediation: Text = ""
    severity: Severity = Severity.WARNING
    exists: bool = True
    contains: Text | None = None
    lacks: Text | None = None
    mode: Annotated[str, msgspec.Meta(pattern="^0?[0-7]{3,4}$")] | None = None
    owner: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _CustomFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    checks: Annotated[list[CustomCheck], msgspec.Meta(max_length=MAX_CUSTOM_CHECKS)]


def custom_checks(device: Device, path: str, sha256: str) -> list[CustomCheck]:
    """The checks in a file. Raises CannotTell if it is not the pinned one or cannot be understood."""
    text = device.text(path)
    if text is None:
        raise CannotTell(f"{path}: there is no such file")
    if not sha256:
        raise CannotTell(f"{path}: not used without its SHA-256 in Baseline_CustomChecksSha256")
    if hashlib.sha256(text.encode()).hexdigest() != sha256.lower():
        raise CannotTell(f"{path}: is not the file whose SHA-256 is in Baseline_CustomChecksSha256")
    try:
        checks = msgspec.convert(_parsed(text), _CustomFile).checks
        for check in checks:
            re.compile(check.contains or "")
            re.compile(check.lacks or "")
    except (ValueError, re.error) as error:
        raise CannotTell(f"{path}: {error}") from None
    return checks


def _parsed(text: str) -> Any:
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise CannotTell("custom checks need PyYAML on the device (package python3-yaml)") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from None


def judge(check: CustomCheck, device: Device) -> Finding:
    """What a check of one's own finds. A line that does not fit is not quoted: it may hold a secret."""
    found = device.stat(check.file)
    if found is None or not check.exists:
        there = "is there" if found else "is not there"
        return (passed if (found is not None) == check.exists else failed)(f"{check.file} {there}")
    tally = Tally()
    lines = (device.text(check.file, MAX_FILE_BYTES) or "").splitlines()
    if check.contains is not None:
        tally.add(_hits(check.contains, lines) > 0, f"{check.file}: {_hits(check.contains, lines)} lines fit")
    if check.lacks is not None:
        tally.add(
            _hits(check.lacks, lines) == 0,
            f"{check.file}: {_hits(check.lacks, lines)} lines that should not be",
        )
    if check.mode is not None:
        good = not found.permissions & ~int(check.mode, 8)
        tally.add(good, f"{check.file}: mode {found.permissions:04o}")
    if check.owner is not None:
        tally.add(found.uid == check.owner, f"{check.file}: uid {found.uid}")
    finding = tally.finding("")
    return finding if finding.evidence else passed(f"{check.file} is there")


def _hits(pattern: str, lines: list[str]) -> int:
    return sum(1 for line in lines if re.search(pattern, line))


def custom_outcomes(device: Device, path: str, sha256: str, *, source: Device | None = None) -> list[Outcome]:
    """What the checks of a file say; one ERROR if the file cannot be used.

    source: where the file is, if not on the device that is checked.
    """
    try:
        checks = custom_checks(source or device, path, sha256)
    except (CannotTell, OSError) as why:
        file = CustomCheck("file", "The file of custom checks can be used.", path)
        return [_outcome(file, Finding(Result.ERROR, reason=str(why)))]
    return [_outcome(check, _safely(check, device)) for check in checks]


def _safely(check: CustomCheck, device: Device) -> Finding:
    try:
        return judge(check, device)
    except OSError as error:
        return Finding(Result.ERROR, reason=f"{error.filename}: {error.strerror}")


def _outcome(check: CustomCheck, finding: Finding) -> Outcome:
    return Outcome(
        check_id=f"{GROUP}-{check.id}",
        number=check.id,
        group=GROUP,
        severity=check.severity,
        result=finding.result,
        description=check.description,
        remediation=check.remediation,
        evidence=bounded(finding.evidence),
        reason=presentable(finding.reason),
    )

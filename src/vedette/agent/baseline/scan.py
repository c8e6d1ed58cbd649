"""A scan: the chosen checks on one device, in small steps, each with a bounded outcome."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator

import msgspec

from vedette.agent.baseline.declare import Check, Finding, Profile, Result, Severity, failed, skipped
from vedette.agent.baseline.device import CannotTell, Device, os_release
from vedette.agent.baseline.search import search
from vedette.wire.baseline import check_id

log = logging.getLogger(__name__)

EVIDENCE_LINES = 8
EVIDENCE_CHARS = 240
"""Evidence of one check: at most 2 KB, so that 237 results fit three messages even if all are long."""

READ_CHARS = 4 * EVIDENCE_CHARS
"""Of a text, looked at: a secret that begins within the bound is seen whole."""

SEARCH_SLICE = 500
"""Files looked at in one step: 4 ms on a server core."""

TRIGGER = "/tmp/DefenderForIoTOSBaselineTrigger.txt"  # noqa: S108 - documented; never opened
TRIGGER_NUMBER = "DIoTTest"
TRIGGER_GROUP = "Defender for IoT test checks"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a check said. reason: why there is no verdict, for SKIP and ERROR."""

    check_id: str
    number: str
    group: str
    severity: Severity
    result: Result
    description: str
    remediation: str
    evidence: tuple[str, ...] = ()
    reason: str = ""


def scan(device: Device, checks: Iterable[Check], profile: Profile) -> Iterator[Outcome | None]:
    """Run checks one by one; None stands for a step without an outcome, after which one may rest."""
    chosen = list(checks)
    if any(check.searches and profile in check.profiles for check in chosen):
        with contextlib.suppress(OSError):  # which each check that asks for the search then reports
            while search(device).step(SEARCH_SLICE):
                yield None
    for check in chosen:
        yield outcome(device, check, examine(check, device, profile))
    if device.exists(TRIGGER):
        yield _triggered(device)


def examine(check: Check, device: Device, profile: Profile = Profile.FULL) -> Finding:
    """One check's finding; whatever goes wrong on a strange device becomes an ERROR of this check alone."""
    try:
        if reason := check.reason_off(device, profile):
            return skipped(f"off in profile {profile}: {reason}")
        return check.probe(device)
    except CannotTell as why:
        return Finding(Result.ERROR, reason=str(why))
    except OSError as error:
        return Finding(Result.ERROR, reason=f"{error.filename}: {error.strerror}")
    except Exception as error:  # noqa: BLE001 - one check must not cost the others
        # Only the type: a message may quote what was read, and that may be secret.
        log.error("baseline check %s stumbled over this device: %s", check.number, type(error).__name__)
        return Finding(Result.ERROR, reason=f"could not understand what was read ({type(error).__name__})")


def outcome(device: Device, check: Check, finding: Finding) -> Outcome:
    """A finding with everything that a reader needs to know about the check."""
    return Outcome(
        check_id=identify(device, check.group, check.number),
        number=check.number,
        group=check.group,
        severity=check.severity,
        result=finding.result,
        description=check.description,
        remediation=check.remediation,
        evidence=bounded(finding.evidence),
        reason=presentable(finding.reason),
    )


def identify(device: Device, group: str, number: str) -> str:
    """A check's id on this device: distribution and version as os-release gives them."""
    release = os_release(device)
    return check_id(release.get("ID", "linux"), release.get("VERSION_ID", "rolling"), group, number)


_SECRET = re.compile(
    r"""(?P<key>(?<![/\w-])(?:pass(?:word|wd|phrase)?|pwd|secret|token)["']?\s*[=:]\s*["']?)[^\s"',;]+"""
    r"|(?P<login>//[^/\s:@]*:)[^/\s@]+(?=@)"
    r"|\$\w+\$\S+|grub\.pbkdf2\S+",
    re.IGNORECASE,
)
"""What looks like a password in a setting or address, or a hash of crypt(5) or GRUB. Checks take care not
to quote such lines; this is the second lock."""


def bounded(evidence: tuple[str, ...]) -> tuple[str, ...]:
    """Evidence cut to its bounds, and saying so if there was more."""
    kept = tuple(presentable(line) for line in evidence[:EVIDENCE_LINES])
    more = len(evidence) - len(kept)
    return (*kept, f"and {more} more") if more else kept


def presentable(text: str) -> str:
    """Text of a device, bounded, printable and without secrets."""
    plain = "".join(
        sign if sign.isprintable() else " " if sign.isspace() else "�" for sign in text[:READ_CHARS]
    )
    return _SECRET.sub(lambda found: f"{found['key'] or found['login'] or ''}***", plain)[:EVIDENCE_CHARS]


def _triggered(device: Device) -> Outcome:
    found = failed(TRIGGER)
    return Outcome(
        check_id=identify(device, TRIGGER_GROUP, TRIGGER_NUMBER),
        number=TRIGGER_NUMBER,
        group=TRIGGER_GROUP,
        severity=Severity.INFORMATIONAL,
        result=found.result,
        description="A test of the way from this device to the recommendations: the trigger file is there.",
        remediation=f"Remove {TRIGGER}.",
        evidence=found.evidence,
    )

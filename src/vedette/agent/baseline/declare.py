"""How a check is declared: number, words, severity, examples, and the function that looks.

To add a check to a chapter, write one function:

    @check(
        "1.5.4",
        "Programs are not rewritten by prelink, which defeats address randomisation.",
        "Restore the binaries with `prelink -ua` and remove the package.",
        passing={"/usr/bin/env": ""},
        failing={"/usr/sbin/prelink": ""},
    )
    def prelink(device: Device) -> Finding: ...

Its group comes from the catalogue (`wire.baseline`). The test suite runs every example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from vedette.agent.baseline.device import Device
from vedette.agent.baseline.tree import Example
from vedette.wire.baseline import GROUP_OF


class Result(StrEnum):
    """A check's verdict."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    SKIP = "SKIP"
    ERROR = "ERROR"


class Severity(StrEnum):
    """How much a failure matters."""

    CRITICAL = "Critical"
    IMPORTANT = "Important"
    WARNING = "Warning"
    INFORMATIONAL = "Informational"


class Profile(StrEnum):
    """Which checks apply; see the setting `Baseline_Profile`."""

    DEVICE = "device"
    SERVER = "server"
    FULL = "full"


class Finding(NamedTuple):
    """What a check found. evidence: what was read. reason: why there is no verdict."""

    result: Result
    evidence: tuple[str, ...] = ()
    reason: str = ""


def passed(*evidence: object) -> Finding:
    """The device is as it should be."""
    return Finding(Result.PASS, tuple(map(str, evidence)))


def failed(*evidence: object) -> Finding:
    """The device is not as it should be."""
    return Finding(Result.FAIL, tuple(map(str, evidence)))


def skipped(reason: str) -> Finding:
    """There is nothing to check here."""
    return Finding(Result.SKIP, reason=reason)


def verdict(good: bool, *evidence: object) -> Finding:
    """Passed or failed on the same evidence."""
    return passed(*evidence) if good else failed(*evidence)


class Tally:
    """Many things looked at for one finding: it fails if one of them is wrong."""

    def __init__(self) -> None:
        self._seen: list[object] = []
        self._wrong: list[object] = []

    def add(self, good: bool, evidence: object) -> None:
        """One thing that was looked at."""
        (self._seen if good else self._wrong).append(evidence)

    def finding(self, nothing: str) -> Finding:
        """Failed with what is wrong, passed with what was seen, or skipped because of `nothing`."""
        if self._wrong:
            return failed(*self._wrong)
        return passed(*self._seen) if self._seen else skipped(nothing)


Probe = Callable[[Device], Finding]
Reason = str | Callable[[Device], str | None]
"""Why a check does not apply under a profile: always, or where the function has a reason."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check of the catalogue."""

    number: str
    description: str
    remediation: str
    severity: Severity
    probe: Probe
    passing: Example
    failing: Example
    skipping: Example | None
    off: Mapping[Profile, Reason]
    searches: bool
    """True if it asks `search`, which walks the file system."""

    @property
    def group(self) -> str:
        """Its group in the catalogue."""
        return GROUP_OF[self.number]

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The profiles in which it is not switched off as a whole."""
        return tuple(profile for profile in Profile if not isinstance(self.off.get(profile), str))

    def reason_off(self, device: Device, profile: Profile) -> str | None:
        """Why it does not apply to this device under this profile; None if it does."""
        reason = self.off.get(profile)
        return reason(device) if callable(reason) else reason


CHECKS: dict[str, Check] = {}
"""Every check declared so far; `vedette.agent.baseline.catalogue` declares them all."""


def on_device(reason: Reason) -> Mapping[Profile, Reason]:
    """Off in the profile `device`."""
    return {Profile.DEVICE: reason}


def only_full(reason: Reason) -> Mapping[Profile, Reason]:
    """Off in all profiles but `full`."""
    return {Profile.DEVICE: reason, Profile.SERVER: reason}


def check(
    number: str,
    description: str,
    remediation: str,
    *,
    severity: Severity = Severity.WARNING,
    passing: Example,
    failing: Example,
    skipping: Example | None = None,
    off: Mapping[Profile, Reason] = MappingProxyType({}),
    searches: bool = False,
) -> Callable[[Probe], Probe]:
    """Register a function as the check of this number. Raises ValueError if the number is wrong or taken.

    passing, failing, skipping: miniature devices on which the check must answer so.
    """
    if number not in GROUP_OF:
        raise ValueError(f"the catalogue has no check {number}")
    if number in CHECKS:
        raise ValueError(f"check {number} is declared twice")

    def register(probe: Probe) -> Probe:
        CHECKS[number] = Check(
            number=number,
            description=description,
            remediation=remediation,
            severity=severity,
            probe=probe,
            passing=passing,
            failing=failing,
            skipping=skipping,
            off=off,
            searches=searches,
        )
        return probe

    return register

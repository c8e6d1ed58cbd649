"""A whole scan as the settings ask for it: chosen checks, profile, trigger file, custom checks."""

from __future__ import annotations

from collections.abc import Iterator

from vedette.agent.baseline.catalogue import chosen_checks
from vedette.agent.baseline.custom import custom_outcomes
from vedette.agent.baseline.declare import Check, Profile, Result
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.scan import Outcome, scan
from vedette.agent.baseline.tree import DiskTree, Tree
from vedette.wire.baseline import disabled_checks, disabled_groups
from vedette.wire.twin import Settings


def planned(settings: Settings) -> list[Check]:
    """The checks of the catalogue that the settings leave on."""
    return chosen_checks(
        disabled_groups(settings.baseline_groups_disabled), disabled_checks(settings.baseline_checks_disabled)
    )


def run(tree: Tree, settings: Settings) -> Iterator[Outcome | None]:
    """Scan the system in a tree, step by step; None stands for a step after which one may rest.

    Nothing happens before the first step, the import of the chapters included: steps may run in a thread.
    """
    device = Device(tree, one_file_system=settings.baseline_one_file_system)
    yield from scan(device, planned(settings), Profile(settings.baseline_profile))
    if settings.baseline_custom_checks:
        yield from custom_outcomes(
            device,
            settings.baseline_custom_checks,
            settings.baseline_custom_checks_sha256,
            source=Device(DiskTree()),
        )


def wanted(outcome: Outcome, settings: Settings) -> bool:
    """Whether a result is sent or shown under `Baseline_Results`."""
    return settings.baseline_results == "all" or outcome.result in {Result.FAIL, Result.ERROR}

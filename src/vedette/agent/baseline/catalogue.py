"""All checks, declared by importing the chapters; in the order of their numbers."""

from __future__ import annotations

import importlib
from collections.abc import Collection

from vedette.agent.baseline.declare import CHECKS, Check
from vedette.wire.baseline import sort_key

CHAPTERS = (
    "ch1_filesystem",
    "ch1_software",
    "ch1_boot",
    "ch1_access",
    "ch2_services",
    "ch3_network",
    "ch3_firewall",
    "ch4_auditing",
    "ch4_logging",
    "ch5_cron",
    "ch5_sshd",
    "ch5_accounts",
    "ch6_files",
    "ch6_accounts",
)


def all_checks() -> list[Check]:
    """Every check. Chapters are imported now, not with the agent: a device that never scans has no use
    for them."""
    for chapter in CHAPTERS:
        importlib.import_module(f"vedette.agent.baseline.{chapter}")
    return sorted(CHECKS.values(), key=lambda check: sort_key(check.number))


def chosen_checks(groups_off: Collection[str] = (), numbers_off: Collection[str] = ()) -> list[Check]:
    """Every check but those of some groups and some numbers."""
    return [
        check for check in all_checks() if check.group not in groups_off and check.number not in numbers_off
    ]

"""Log lines that cannot become a flood."""

import logging

import pytest

from vedette.hub.gateway import journal
from vedette.hub.gateway.journal import WARNINGS_A_MINUTE, Fault, Warnings

log = logging.getLogger("test.journal")


def test_a_fault_is_told_on_transitions(caplog: pytest.LogCaptureFixture):
    """One error when it breaks, one line when it works again, however often both happen in between."""
    caplog.set_level(logging.INFO)
    fault = Fault(log, "disk")
    fault.works()
    for _ in range(3):
        fault.breaks(OSError("full"))
    for _ in range(3):
        fault.works()
    fault.breaks(OSError("full"))
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("ERROR", "disk fails"),
        ("INFO", "disk works again"),
        ("ERROR", "disk fails"),
    ]


def test_warnings_are_bounded_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """So many a minute; the next minute begins with how many were left out."""
    now = 60.0
    monkeypatch.setattr(journal.time, "monotonic", lambda: now)
    warnings = Warnings(log)
    for n in range(WARNINGS_A_MINUTE + 5):
        warnings.write("refused %d", n)
    now = 120.0
    warnings.write("refused again")
    messages = [record.message for record in caplog.records]
    assert messages[WARNINGS_A_MINUTE - 1 :] == [
        f"refused {WARNINGS_A_MINUTE - 1}",
        "5 warnings about clients were left out",
        "refused again",
    ]

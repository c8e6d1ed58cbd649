"""Failed checks of the baseline: a recommendation for each, named as the check is."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture.assess import Assessment, Weakness

_BASELINE_SEVERITIES = {"Critical": "High", "Important": "High", "Warning": "Medium", "Informational": "Low"}


def check(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    """A check that fails or passes; SKIP passes (there is nothing to check any more), ERROR tells nothing."""
    details = event.details
    result = str(details.get("BaselineCheckResult") or details.get("Result") or "").upper()
    check = str(details.get("BaselineCheckId") or details.get("CceId") or "")
    if result not in ("PASS", "FAIL", "SKIP") or not check:
        return
    stated = str(details.get("BaselineCheckSeverity") or details.get("Severity") or "").capitalize()
    title = str(details.get("BaselineCheckDescription") or details.get("Description") or "")
    weakness = Weakness(
        f"IoT_CISBenchmarks_{check.rpartition('-')[2] if check.startswith('CIS-') else check}",
        _BASELINE_SEVERITIES.get(stated, "Medium"),
        title.partition(". ")[0],
        title,
        str(details.get("BaselineCheckRemediation") or ""),
    )
    data = {
        "BaselineCheckId": check,
        "Group": details.get("BaselineCheckGroup") or "",
        "Evidence": list(details.get("BaselineCheckEvidence") or ()),
    }
    yield Assessment(weakness, event.device, event.module, result != "FAIL", event.first, data)

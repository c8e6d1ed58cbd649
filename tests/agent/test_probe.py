"""`vedette agent probe`: what this machine offers, which source is used, and what would help."""

from pathlib import Path

import pytest
from spawning import needs_bpf

from vedette.agent.probe import Finding, probe
from vedette.agent.sources import bpf
from vedette.wire.twin import ProcessMode, Settings


def by_source(settings: Settings | None = None) -> dict[str, Finding]:
    return {finding.source: finding for finding in probe(settings)}


def test_one_source_at_most_is_used():
    """Whatever the machine offers, the collector takes one."""
    used = [finding for finding in probe() if finding.used]
    assert len(used) <= 1
    assert all(finding.available for finding in used)


def test_what_is_missing_has_a_remedy():
    """No finding leaves its reader without a next step."""
    for finding in probe():
        assert finding.detail
        assert finding.available or finding.remedy


class TestOnThisKernel:
    pytestmark = needs_bpf

    def test_the_best_source_is_used_and_the_others_say_why_not(self):
        """In automatic mode that is eBPF."""
        found = by_source()
        assert found["eBPF"].used
        assert "eBPF is better" in found["polling of /proc"].detail

    def test_the_mode_decides(self):
        """What the mode leaves out is available and not used."""
        found = by_source(Settings(process_mode=ProcessMode.POLLING))
        assert found["polling of /proc"].used
        assert "Process_Mode 3 leaves it out" in found["eBPF"].detail

    def test_every_obstacle_is_told_at_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        """Two things missing are two remedies, and the next source is used."""
        monkeypatch.setattr(bpf, "BTF", tmp_path / "vmlinux")
        monkeypatch.setattr(bpf, "KERNEL_FLOOR", (99, 0))
        found = by_source()
        assert not found["eBPF"].available
        assert "run a newer kernel; run a kernel built with CONFIG_DEBUG_INFO_BTF=y" in found["eBPF"].remedy
        assert found["netlink process connector"].used

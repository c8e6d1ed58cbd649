"""Checks of one's own are used only as they were pinned, and tell what is wrong with them."""

import hashlib
import sys

import pytest

from vedette.agent.baseline.custom import custom_outcomes
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.tree import Example, File, MemoryTree

PATH = "/etc/vedette/checks.yaml"
CHECKS = """
checks:
  - id: modbus-local
    description: The gateway listens on the loopback interface only.
    remediation: Set listen in /etc/modbus.conf.
    severity: Important
    file: /etc/modbus.conf
    contains: '^listen *= *127\\.0\\.0\\.1$'
    lacks: '^password'
    mode: "0640"
    owner: 0
  - id: no-debug
    description: The debug switch is gone.
    file: /etc/debug
    exists: false
"""
GOOD = File("listen = 127.0.0.1\n", 0o640)


def outcomes(text: str, files: Example, sha256: str | None = None) -> dict[str, tuple[str, str]]:
    """Id → result and what was said about it."""
    pinned = hashlib.sha256(text.encode()).hexdigest() if sha256 is None else sha256
    device = Device(MemoryTree({PATH: text, **files}))
    return {
        outcome.check_id: (outcome.result, " ".join((*outcome.evidence, outcome.reason)))
        for outcome in custom_outcomes(device, PATH, pinned)
    }


def test_a_device_that_is_as_expected_passes():
    """Each expectation was looked at."""
    found = outcomes(CHECKS, {"/etc/modbus.conf": GOOD})
    assert [result for result, _ in found.values()] == ["PASS", "PASS"]
    assert list(found) == ["Custom-modbus-local", "Custom-no-debug"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"/etc/modbus.conf": File("listen = 0.0.0.0\n", 0o640)},
        {"/etc/modbus.conf": File("listen = 127.0.0.1\npassword = hunter2\n", 0o640)},
        {"/etc/modbus.conf": File(GOOD.content, 0o644)},
        {"/etc/modbus.conf": File(GOOD.content, 0o640, uid=7)},
    ],
)
def test_each_expectation_can_fail(wrong: Example):
    """A missing file, a missing line, a forbidden line, a mode, an owner. No line is quoted."""
    result, words = outcomes(CHECKS, wrong)["Custom-modbus-local"]
    assert result == "FAIL"
    assert "hunter2" not in words


def test_a_file_that_should_not_be_there_fails():
    """`exists: false` turns it round."""
    assert outcomes(CHECKS, {"/etc/debug": ""})["Custom-no-debug"][0] == "FAIL"


@pytest.mark.parametrize(
    ("text", "sha256", "reason"),
    [
        (CHECKS, "", "not used without its SHA-256"),
        (CHECKS, "0" * 64, "is not the file whose SHA-256"),
        ("checks: [", None, "not YAML"),
        ("checks: [{id: a b, description: x, file: /x}]", None, r"$.checks[0].id"),
        ("checks: [{id: a, description: x, file: x}]", None, "$.checks[0].file"),
        ("checks: [{id: a, description: x, file: /x, matches: y}]", None, "unknown field `matches`"),
        ("checks: [{id: a, description: x, file: /x, contains: '('}]", None, "unterminated subpattern"),
        ("- 1", None, "Expected `object`"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error_with_the_reason(text: str, sha256: str | None, reason: str):
    """Unpinned, changed, or not understood: nothing of it is run."""
    found = outcomes(text, {"/etc/modbus.conf": GOOD}, sha256)
    assert list(found) == ["Custom-file"]
    assert found["Custom-file"][0] == "ERROR"
    assert reason in found["Custom-file"][1]


def test_a_file_that_is_not_there_is_an_error():
    """The twin names a file that the device has not."""
    (outcome,) = custom_outcomes(Device(MemoryTree({})), PATH, "0" * 64)
    assert (outcome.result, outcome.reason) == ("ERROR", f"{PATH}: there is no such file")


def test_without_pyyaml_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    """PyYAML is no dependency of the agent."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "python3-yaml" in outcomes(CHECKS, {})["Custom-file"][1]

"""Every check answers its own examples as it says, in memory and on a disk."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from vedette.agent.baseline.catalogue import all_checks
from vedette.agent.baseline.declare import Check, Finding, Result
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.scan import examine
from vedette.agent.baseline.tree import Directory, DiskTree, Example, File, Link, MemoryTree

CASES = [
    pytest.param(check, example, expected, id=f"{check.number}-{expected}")
    for check in all_checks()
    for expected, example in (
        (Result.PASS, check.passing),
        (Result.FAIL, check.failing),
        (Result.SKIP, check.skipping),
    )
    if example is not None
]


@pytest.mark.parametrize(("check", "example", "expected"), CASES)
def test_a_check_answers_its_example(check: Check, example: Example, expected: Result):
    """The verdict is the declared one, with evidence for it or the reason why there is none."""
    finding = examine(check, Device(MemoryTree(example)))
    assert finding.result == expected, finding
    assert finding.reason if expected is Result.SKIP else finding.evidence


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.number)
def test_a_check_answers_a_device_without_any_file(check: Check):
    """Nothing to read is no error: a device may lack everything."""
    assert examine(check, Device(MemoryTree({}))).result is not Result.ERROR


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_checks_answer_their_examples_on_a_real_disk_too(tmp_path: Path):
    """The disk's tree gives every check what the memory's gives it, apart from programs."""
    differences = []
    for number, case in enumerate(CASES):
        check, example, expected = case.values
        if not any(path.startswith("$ ") for path in example):
            root = tmp_path / str(number)
            plant(root, example)
            finding = examine(check, Device(DiskTree(root)))
            shutil.rmtree(root)  # some examples are what no machine should keep
            if finding.result != expected:
                differences.append((check.number, expected, finding))
    assert differences == []


def plant(root: Path, example: Example) -> None:
    """Make an example's files below a directory, with their modes and owners."""
    root.mkdir()
    for path, node in example.items():
        place = root / path.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(node, Link):
            place.symlink_to(node.target)
            continue
        if isinstance(node, Directory):
            place.mkdir(exist_ok=True)
        else:
            node = node if isinstance(node, File) else File(node)
            place.write_text(node.content)
        os.chown(place, node.uid, node.gid)
        place.chmod(stat.S_IMODE(node.mode))


def test_a_check_that_stumbles_is_an_error_of_its_own_and_tells_no_content():
    """A strange file costs one check, and its content does not get into the report through a message."""

    def stumble(device: Device) -> Finding:
        return Finding(Result.PASS, (str(int("$6$secret")),))

    finding = examine(changed(stumble), Device(MemoryTree({})))
    assert finding == Finding(Result.ERROR, reason="could not understand what was read (ValueError)")


def test_a_file_that_may_not_be_read_is_an_error_that_names_it():
    """The reader learns which file, and why."""

    def refuse(device: Device) -> Finding:
        raise PermissionError(13, "Permission denied", "/etc/shadow")

    finding = examine(changed(refuse), Device(MemoryTree({})))
    assert finding == Finding(Result.ERROR, reason="/etc/shadow: Permission denied")


def changed(probe: object) -> Check:
    """A check of the catalogue that does something else."""
    import msgspec

    return msgspec.structs.replace(all_checks()[0], probe=probe, off={})

"""A device is read below its root, whatever its files try."""

import os
import socket
import threading
from pathlib import Path

import pytest

from vedette.agent.baseline.catalogue import all_checks
from vedette.agent.baseline.declare import Profile
from vedette.agent.baseline.device import MAX_FILE_BYTES, Device, fact
from vedette.agent.baseline.programs import PROGRAM_BYTES, Programs
from vedette.agent.baseline.scan import scan
from vedette.agent.baseline.tree import Directory, DiskTree, File, Link, MemoryTree

output_of = Programs().output_of


def device_of(tmp_path: Path, kind: str) -> Device:
    """The same small device, on a disk or in memory."""
    if kind == "memory":
        return Device(
            MemoryTree(
                {
                    "/etc/os-release": Link("../usr/lib/os-release"),
                    "/usr/lib/os-release": "ID=demo\n",
                    "/etc/passwd": Link("/shared/passwd"),
                    "/shared/passwd": "root:x:0:0::/root:/bin/sh\n",
                    "/etc/outside": Link("../../../../etc/shadow"),
                    "/etc/loop": Link("loop"),
                    "/etc/dangling": Link("/nowhere"),
                    "/etc/rc.d/S10boot": "",
                    "/etc/rc.d/S20net": "",
                    "/lib": Link("usr/lib"),
                    "/empty": Directory(),
                }
            )
        )
    for directory in ("etc/rc.d", "usr/lib", "shared", "empty"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tmp_path / "usr/lib/os-release").write_text("ID=demo\n")
    (tmp_path / "etc/passwd").symlink_to("/shared/passwd")
    (tmp_path / "shared/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/outside").symlink_to("../../../../etc/shadow")
    (tmp_path / "etc/loop").symlink_to("loop")
    (tmp_path / "etc/dangling").symlink_to("/nowhere")
    (tmp_path / "etc/rc.d/S10boot").touch()
    (tmp_path / "etc/rc.d/S20net").touch()
    (tmp_path / "lib").symlink_to("usr/lib")
    return Device(DiskTree(tmp_path))


@pytest.fixture(params=["memory", "disk"])
def device(tmp_path: Path, request: pytest.FixtureRequest) -> Device:
    """Both kinds of tree must behave alike."""
    return device_of(tmp_path, request.param)


def test_relative_and_absolute_links_lead_to_files_of_the_device(device: Device):
    """An absolute link in an image points into the image, not into the machine that inspects it."""
    assert device.resolve("/etc/os-release") == "/usr/lib/os-release"
    assert device.text("/etc/passwd") == "root:x:0:0::/root:/bin/sh\n"
    assert device.resolve("/lib/os-release") == "/usr/lib/os-release"


def test_a_link_cannot_lead_out_of_the_root(device: Device):
    """Above the root there is only the root, as with chroot(2)."""
    assert device.resolve("/etc/outside") is None
    assert device.text("/etc/outside") is None


def test_a_loop_and_a_dangling_link_lead_nowhere(device: Device):
    """Neither is there; neither is an error."""
    assert not device.exists("/etc/loop")
    assert not device.exists("/etc/dangling")
    assert device.link("/etc/dangling") == "/nowhere"
    assert device.link("/etc/rc.d") is None


def test_what_is_not_there_reads_as_nothing(device: Device):
    """No file, no lines, no names."""
    assert device.text("/etc/absent") is None
    assert device.lines("/etc/absent") == []
    assert device.names("/etc/absent") == []
    assert device.text("/etc/passwd/below") is None
    assert device.text("/etc") is None


def test_names_match_within_a_component_only(device: Device):
    """`*` stops at a slash, and what matches comes in order."""
    assert device.glob("/etc/rc.d/S[0-9][0-9]*") == ["/etc/rc.d/S10boot", "/etc/rc.d/S20net"]
    assert device.glob("/*/os-release") == ["/etc/os-release", "/lib/os-release"]
    assert device.glob("/empty/*") == []


def test_lines_leave_out_comments_and_blanks_and_know_their_file():
    """A line in evidence says where it stands."""
    device = Device(MemoryTree({"/etc/x.conf": "# no\n\n  a = 1  \n; b\n"}))
    assert [str(line) for line in device.lines("/etc/x.conf", "#;")] == ["/etc/x.conf: a = 1"]


def test_a_read_is_bounded():
    """A file of a gigabyte costs what its first part costs."""
    device = Device(MemoryTree({"/big": "x" * (MAX_FILE_BYTES + 1)}))
    assert len(device.text("/big") or "") == MAX_FILE_BYTES


def test_bytes_that_are_no_text_are_read_all_the_same(tmp_path: Path):
    """A broken file is a strange file, not an exception."""
    (tmp_path / "x").write_bytes(b"a\xff\xfe\n")
    assert Device(DiskTree(tmp_path)).text("/x") == "a��\n"


def test_a_fifo_or_socket_in_a_files_place_does_not_stop_the_scan(tmp_path: Path):
    """Opening a FIFO without a writer would wait for ever."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        device = Device(DiskTree(tmp_path))
        assert device.text("/fifo") is None
        with pytest.raises(OSError, match="socket"):
            device.text("/socket")


def test_a_fact_is_computed_once_a_scan():
    """However many checks ask, and anew for the next device."""
    asked = []

    @fact
    def counted(device: Device) -> int:
        asked.append(device)
        return len(asked)

    first, second = Device(MemoryTree({})), Device(MemoryTree({}))
    assert [counted(first), counted(first), counted(second)] == [1, 1, 2]


def test_nothing_is_run_for_an_image(tmp_path: Path):
    """Programs would answer for the machine that inspects, not for the image."""
    assert Device(DiskTree(tmp_path)).run("uname") is None
    assert Device(DiskTree()).run("uname") == "Linux\n"


def test_a_program_that_is_missing_or_fails_has_no_answer():
    """None, whatever the reason."""
    assert output_of(["vedette-no-such-program"]) is None
    assert output_of(["false"]) is None


def test_a_program_that_fails_with_words_is_read():
    """Tools that verify exit with an error to say that there is something to read."""
    assert output_of(["sh", "-c", "echo changed; exit 1"]) == "changed\n"


def test_a_program_that_never_ends_is_ended_with_its_children():
    """The time limit holds even for a child that keeps the pipe open."""
    assert output_of(["sh", "-c", "sleep 1000 & sleep 1000"], seconds=0.2) is None


def test_closing_ends_the_program_that_another_thread_waits_for():
    """An agent that stops does not wait for a package manager."""
    programs = Programs()
    closer = threading.Timer(0.1, programs.close)
    closer.start()
    assert programs.output_of(["sleep", "1000"], seconds=1000) is None
    closer.join()
    assert programs.output_of(["echo", "late"]) is None


def test_endless_output_is_cut_and_its_program_ended():
    """Memory is bounded whatever a program prints."""
    assert len(output_of(["yes"]) or "") == PROGRAM_BYTES


def test_a_memory_tree_has_the_parents_of_its_files():
    """Examples name files only."""
    tree = MemoryTree({"/a/b/c": File("x", 0o600, 7, 8)})
    assert tree.lstat("/a/b") is not None
    found = tree.lstat("/a/b/c")
    assert found is not None
    assert (found.permissions, found.uid, found.gid, found.is_file) == (0o600, 7, 8, True)


def test_a_name_that_is_no_text_is_found_and_told_in_print(tmp_path: Path):
    """Names are bytes; evidence is text that every encoder takes."""
    bad = os.fsencode(tmp_path) + b"/\xff\x1b[2J"
    with open(bad, "w") as file:
        os.fchmod(file.fileno(), 0o666)
    (check,) = (check for check in all_checks() if check.number == "6.1.10")
    (outcome,) = filter(None, scan(Device(DiskTree(tmp_path)), [check], Profile.FULL))
    assert outcome.evidence == ("1 found", "/��[2J")

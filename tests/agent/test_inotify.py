"""The watched tree against the real kernel: each change once, under its right path."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from vedette.agent.losses import QUEUE_OVERFLOW, WATCH_LIMIT
from vedette.agent.sources import inotify
from vedette.agent.sources.inotify import WatchedTree
from vedette.agent.sources.watch_plan import Plan
from vedette.wire.filesystem import word

CHANGES = 0x3C6  # created, deleted, moved, modified, metadata
DIR = 0x4000_0000


class Notes:
    """A listener that keeps everything."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str | None]] = []
        self.rediscovered: list[tuple[str, str]] = []
        self.losses: Counter[str] = Counter()

    def changed(self, mask: int, path: str, target: str | None = None) -> None:
        self.told.append((word(mask), path, target))

    def found(self, mask: int, path: str) -> None:
        self.rediscovered.append((word(mask), path))

    def lost(self, reason: str) -> None:
        self.losses[reason] += 1

    def take(self) -> list[tuple[str, str, str | None]]:
        told, self.told = self.told, []
        return told


class Watching:
    """A tree with its listener, worked by hand."""

    def __init__(
        self, *roots: Path, changes: int = CHANGES, recursive: bool = True, exclude: str = ""
    ) -> None:
        self.notes = Notes()
        plan = Plan(map(str, roots), recursive=recursive, exclude=filter(None, exclude.split(",")))
        self.tree = WatchedTree(plan, changes, self.notes)
        self.tree.open()
        self.work()

    def work(self) -> None:
        """Do all the work that there is at once."""
        while self.tree.work():
            pass

    def settle(self) -> list[tuple[str, str, str | None]]:
        """Work until nothing is held back, and take what was told."""
        self.work()
        while self.tree.patience is not None:
            time.sleep(min(self.tree.patience, inotify.SETTLE))
            self.work()
        return self.notes.take()


@pytest.fixture
def watch():
    """Makes watched trees and closes them."""
    made = []

    def make(*roots: Path, **options: object) -> Watching:
        made.append(Watching(*roots, **options))
        return made[-1]

    yield make
    for watching in made:
        watching.tree.close()


def test_each_kind_of_change_is_told_in_the_words_of_the_documentation(tmp_path, watch):
    """Create, modify, metadata and delete of a file arrive in their order under its path."""
    watching = watch(tmp_path)
    file = tmp_path / "a"
    file.touch()
    file.write_text("text")
    file.chmod(0o600)
    file.unlink()
    kinds = [what for what, path, _ in watching.settle() if path == str(file)]
    assert kinds == ["Created", "Modified", "Metadata changed", "Deleted"]


def test_only_chosen_changes_are_told(tmp_path, watch):
    """What FileSystem_Events leaves out is read for the structure alone."""
    watching = watch(tmp_path, changes=0x200)
    (tmp_path / "d").mkdir()
    watching.settle()
    (tmp_path / "d/x").touch()
    (tmp_path / "d/x").unlink()
    assert watching.settle() == [("Deleted", f"{tmp_path}/d/x", None)]


def test_opened_closed_and_accessed_are_told_when_asked_for(tmp_path, watch):
    """The noisy kinds have their own words."""
    file = tmp_path / "a"
    file.write_text("text")
    watching = watch(tmp_path, changes=0x39)
    file.read_text()
    told = [what for what, path, _ in watching.settle() if path == str(file)]
    assert told == ["Opened", "Access", "Closed"]


def test_a_move_joins_both_ends(tmp_path, watch):
    """One event with both paths, and no half of it beside."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/x").touch()
    watching = watch(tmp_path)
    (tmp_path / "a/x").rename(tmp_path / "b/y")
    assert watching.settle() == [("Moved", f"{tmp_path}/a/x", f"{tmp_path}/b/y")]


def test_a_move_with_one_watched_end_is_told_alone(tmp_path, watch):
    """Leaving and arriving have a path and no target."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x").touch()
    watching = watch(tmp_path / "in")
    (tmp_path / "in/x").rename(tmp_path / "x")
    assert watching.settle() == [("Moved", f"{tmp_path}/in/x", None)]
    (tmp_path / "x").rename(tmp_path / "in/z")
    assert watching.settle() == [("Moved", f"{tmp_path}/in/z", None)]


def test_a_renamed_directory_renames_what_is_in_it(tmp_path, watch):
    """Changes below it, however deep, come under the new path."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    watching = watch(tmp_path)
    (tmp_path / "a").rename(tmp_path / "z")
    (tmp_path / "z/b").rename(tmp_path / "z/y")
    (tmp_path / "z/y/c/file").touch()
    assert ("Created", f"{tmp_path}/z/y/c/file", None) in watching.settle()


def test_a_directory_that_left_is_not_watched_any_more(tmp_path, watch):
    """Its watches end, and nothing that happens to it is told."""
    (tmp_path / "in/a/b").mkdir(parents=True)
    watching = watch(tmp_path / "in")
    before = watching.tree.watched
    (tmp_path / "in/a").rename(tmp_path / "a")
    watching.settle()
    (tmp_path / "a/b/file").touch()
    assert watching.settle() == []
    assert watching.tree.watched == before - 2


def test_a_directory_that_arrives_is_watched_and_its_old_content_is_no_news(tmp_path, watch):
    """One event tells that it came; what is made in it from then on is told."""
    (tmp_path / "in").mkdir()
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/old").touch()
    os.utime(tmp_path / "a/b/old")
    time.sleep(0.05)  # change times have the granularity of the kernel's tick
    watching = watch(tmp_path / "in")
    (tmp_path / "a").rename(tmp_path / "in/a")
    assert watching.settle() == [("Moved", f"{tmp_path}/in/a", None)]
    (tmp_path / "in/a/b/new").touch()
    assert ("Created", f"{tmp_path}/in/a/b/new", None) in watching.settle()


def test_what_is_made_in_a_new_directory_before_its_watch_is_told_once(tmp_path, watch):
    """A deep tree with files, made before anything was read, comes whole and nothing twice."""
    watching = watch(tmp_path)
    (tmp_path / "a/b/c/d").mkdir(parents=True)
    for number in range(20):
        (tmp_path / f"a/b/c/d/{number}").touch()
    told = Counter(path for what, path, _ in watching.settle() if what == "Created")
    assert told == Counter(map(str, tmp_path.rglob("*")))


RACER = """
import os, sys
root, trees = sys.argv[1], int(sys.argv[2])
for tree in range(trees):
    path = f"{root}/{sys.argv[3]}{tree}"
    for depth in range(8):
        os.makedirs(f"{path}/d{depth}")
        path += f"/d{depth}"
        for name in range(4):
            os.close(os.open(f"{path}/f{name}", os.O_CREAT | os.O_WRONLY))
"""


def test_racing_makers_of_deep_trees_have_every_entry_told_exactly_once(tmp_path, watch):
    """Two other processes make 2 x 60 trees of 8 levels while the tree is being watched."""
    watching = watch(tmp_path, changes=0x100)
    makers = [
        subprocess.Popen([sys.executable, "-S", "-c", RACER, str(tmp_path), "60", name]) for name in "xy"
    ]
    while any(maker.poll() is None for maker in makers):
        watching.work()
    assert [maker.returncode for maker in makers] == [0, 0]
    told = Counter(path for _, path, _ in watching.settle())
    expected = Counter(map(str, tmp_path.rglob("*")))
    assert len(expected) == 2 * 60 * (1 + 8 * 5)
    assert told == expected
    assert not watching.notes.losses


def test_a_directory_made_and_renamed_at_once_has_its_content_told(tmp_path, watch):
    """The way programs publish a directory: made under one name, filled, renamed."""
    watching = watch(tmp_path)
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp/file").touch()
    (tmp_path / ".tmp").rename(tmp_path / "final")
    told = watching.settle()
    assert ("Moved", f"{tmp_path}/.tmp", f"{tmp_path}/final") in told
    assert ("Created", f"{tmp_path}/final/file", None) in told


def test_a_directory_replaced_under_its_name_stays_watched(tmp_path, watch):
    """Removed and made again before anything was read: the new one has its watch."""
    (tmp_path / "a").mkdir()
    watching = watch(tmp_path)
    for _ in range(3):
        shutil.rmtree(tmp_path / "a")
        (tmp_path / "a").mkdir()
    told = [what for what, path, _ in watching.settle() if path == f"{tmp_path}/a"]
    assert told.count("Created") == told.count("Deleted") == 3
    (tmp_path / "a/x").touch()
    assert ("Created", f"{tmp_path}/a/x", None) in watching.settle()


def test_a_root_that_vanishes_and_comes_back_is_followed(tmp_path, watch):
    """Also when its parents go with it; what it comes back with is told."""
    root = tmp_path / "p/q/root"
    root.mkdir(parents=True)
    watching = watch(root)
    shutil.rmtree(tmp_path / "p")
    assert ("Deleted", str(root), None) in watching.settle()
    root.mkdir(parents=True)
    (root / "x").touch()
    told = watching.settle()
    assert told.count(("Created", str(root), None)) == 1
    assert told.count(("Created", f"{root}/x", None)) == 1
    (root / "y").touch()
    assert ("Created", f"{root}/y", None) in watching.settle()


def test_a_root_that_is_renamed_away_is_not_followed_there(tmp_path, watch):
    """What lies at the path counts: the old directory is let go, a new one is watched."""
    root = tmp_path / "root"
    root.mkdir()
    watching = watch(root)
    root.rename(tmp_path / "elsewhere")
    assert watching.settle() == [("Moved", str(root), None)]
    (tmp_path / "elsewhere/x").touch()
    root.mkdir()
    (root / "y").touch()
    told = watching.settle()
    assert {path for _, path, _ in told} == {str(root), f"{root}/y"}


def test_a_root_whose_parent_is_renamed_is_let_go(tmp_path, watch):
    """No change is told under a path that is not the file's any more."""
    root = tmp_path / "p/root"
    root.mkdir(parents=True)
    watching = watch(root)
    (tmp_path / "p").rename(tmp_path / "q")
    watching.settle()
    (tmp_path / "q/root/x").touch()
    assert watching.settle() == []


def test_a_root_that_does_not_exist_yet_is_waited_for(tmp_path, watch):
    """Its parents are watched for the way to it, and nothing else in them is told."""
    root = tmp_path / "a/b/root"
    watching = watch(root)
    (tmp_path / "other").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/other").touch()
    (tmp_path / "a/b").mkdir()
    root.mkdir()
    (root / "x").touch()
    told = watching.settle()
    assert {(what, path) for what, path, _ in told if what == "Created"} == {
        ("Created", str(root)),
        ("Created", f"{root}/x"),
    }
    assert {path for _, path, _ in told} == {str(root), f"{root}/x"}


def test_a_file_can_be_a_root(tmp_path, watch):
    """Its changes are told, its neighbours' are not; replaced by a rename it is still watched."""
    file = tmp_path / "conf"
    file.write_text("1")
    watching = watch(file)
    (tmp_path / "other").write_text("2")
    file.write_text("3")
    told = watching.settle()
    assert {path for _, path, _ in told} == {str(file)}
    assert "Modified" in {what for what, _, _ in told}
    (tmp_path / "new").write_text("4")
    (tmp_path / "new").rename(file)
    assert ("Moved", str(file), None) in watching.settle()
    with file.open("a") as again:
        again.write("5")
    assert ("Modified", str(file), None) in watching.settle()


def test_without_recursion_only_the_roots_own_entries_are_told(tmp_path, watch):
    """A directory below is an entry like any other."""
    (tmp_path / "a").mkdir()
    watching = watch(tmp_path, recursive=False)
    (tmp_path / "a/x").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x").touch()
    assert {path for what, path, _ in watching.settle() if what == "Created"} == {f"{tmp_path}/b"}


def test_roots_in_one_another_tell_once(tmp_path, watch):
    """Recursive or not, an entry below both is one event."""
    (tmp_path / "a").mkdir()
    for recursive in (True, False):
        watching = watch(tmp_path, tmp_path / "a", recursive=recursive, changes=0x100)
        (tmp_path / f"a/{recursive}").touch()
        assert watching.settle() == [("Created", f"{tmp_path}/a/{recursive}", None)]


def test_exclusions_hold_for_names_and_for_paths(tmp_path, watch):
    """A glob without a slash leaves out a name anywhere, one with a slash a path."""
    (tmp_path / "deep/cache").mkdir(parents=True)
    watching = watch(tmp_path, changes=0x100, exclude=f"*.tmp,cache,{tmp_path}/deep/no*")
    for name in ("x.tmp", "deep/y.tmp", "deep/cache/z", "deep/no1", "no2", "deep/yes"):
        (tmp_path / name).touch()
    assert {path for _, path, _ in watching.settle()} == {f"{tmp_path}/no2", f"{tmp_path}/deep/yes"}


def test_symbolic_links_are_not_followed(tmp_path, watch):
    """A link to a directory elsewhere is an entry, and what happens there is not told."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in/old").symlink_to(tmp_path / "out")
    watching = watch(tmp_path / "in")
    (tmp_path / "in/new").symlink_to(tmp_path / "out")
    (tmp_path / "out/x").touch()
    assert [(what, path) for what, path, _ in watching.settle()] == [("Created", f"{tmp_path}/in/new")]


def test_names_that_are_not_text_are_kept(tmp_path, watch):
    """Bytes that are not UTF-8 survive the way."""
    watching = watch(tmp_path, changes=0x100)
    name = os.fsencode(tmp_path) + b"/\xff\n"
    os.close(os.open(name, os.O_CREAT))
    assert [os.fsencode(path) for _, path, _ in watching.settle()] == [name]


def test_an_overflowing_queue_is_counted_and_what_changed_is_found(tmp_path, watch):
    """Nobody reads while more happens than the kernel queues: the net change is still told."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (tmp_path / "a").mkdir()
    (tmp_path / "victim").touch()
    time.sleep(0.05)
    watching = watch(tmp_path, changes=CHANGES)
    watching.settle()
    first, second = tmp_path / "a/1", tmp_path / "a/2"
    for _ in range(limit // 2 + 10):  # two events each, no two neighbours alike
        os.close(os.open(first, os.O_CREAT))
        os.unlink(first)
    second.touch()
    (tmp_path / "b/c").mkdir(parents=True)
    (tmp_path / "b/c/new").touch()
    (tmp_path / "victim").write_text("changed")
    watching.settle()
    assert watching.notes.losses[QUEUE_OVERFLOW] == 1
    found = set(watching.notes.rediscovered)
    assert {
        ("Modified", str(second)),
        ("Modified", f"{tmp_path}/b/c/new"),
        ("Modified", f"{tmp_path}/victim"),
    } <= found
    (tmp_path / "b/c/later").touch()
    assert ("Created", f"{tmp_path}/b/c/later", None) in watching.settle()


def test_directories_beyond_the_watch_limit_are_counted(tmp_path, watch, monkeypatch):
    """The tree says how many directories have no watch, and counts each as a loss."""
    for number in range(20):
        (tmp_path / f"{number}/deep").mkdir(parents=True)
    ways = len(tmp_path.parts)
    monkeypatch.setattr(inotify, "MAX_WATCHES", ways + 10)
    watching = watch(tmp_path)
    assert watching.tree.watched == ways + 10
    assert watching.tree.unwatched == {WATCH_LIMIT: 30}
    assert watching.notes.losses == {WATCH_LIMIT: 30}
    monkeypatch.undo()
    watching.tree.resync()
    watching.settle()
    assert watching.tree.unwatched == {}
    assert watching.tree.watched == ways + 40


def test_another_plan_takes_over_without_losing_or_doubling(tmp_path, watch):
    """What was queued under the old plan is told, once; what the new plan leaves out loses its watch."""
    for name in ("a/deep", "b"):
        (tmp_path / name).mkdir(parents=True)
    watching = watch(tmp_path / "a", changes=0x100)
    (tmp_path / "a/before").touch()
    watching.tree.reconfigure(Plan([f"{tmp_path}/b", f"{tmp_path}/a/deep"], recursive=True), 0x100)
    (tmp_path / "b/after").touch()
    (tmp_path / "a/deep/after").touch()
    told = {path for _, path, _ in watching.settle()}
    assert f"{tmp_path}/a/deep/after" in told
    (tmp_path / "a/unwatched").touch()
    (tmp_path / "b/later").touch()
    assert watching.settle() == [("Created", f"{tmp_path}/b/later", None)]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_an_unmounted_file_system_leaves_its_directory_watched(tmp_path, watch):
    """Watches that went with the file system are made anew on what lies under it."""
    point = tmp_path / "mnt"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True)
    try:
        (point / "d").mkdir()
        watching = watch(tmp_path)
        (point / "d/x").touch()
        assert ("Created", f"{point}/d/x", None) in watching.settle()
    finally:
        subprocess.run(["umount", point], check=True)
    watching.settle()
    (point / "y").touch()
    assert ("Created", f"{point}/y", None) in watching.settle()

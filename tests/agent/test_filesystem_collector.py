"""The file system collector: changes of a real tree as aggregated events."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from vedette.agent.collectors import Collected
from vedette.agent.collectors.filesystem import FileSystemCollector
from vedette.agent.losses import CACHE_FULL, WATCH_LIMIT
from vedette.agent.sources import inotify
from vedette.wire.events import FileSystem
from vedette.wire.filesystem import chosen_changes, word
from vedette.wire.twin import InvalidSettings, Priority, Settings, settings_from


def settings(*paths: Path, **more: object) -> Settings:
    """Settings that watch some paths."""
    return settings_from({"FileSystem_Paths": ",".join(map(str, paths)), **more})


def hits(collected: Collected) -> Counter[tuple[str, str]]:
    """Hit counts by kind and path."""
    counted: Counter[tuple[str, str]] = Counter()
    for event in collected.events:
        assert isinstance(event.payload, FileSystem)
        counted[event.payload.mask, event.payload.path] += event.hits
    return counted


@pytest.fixture
async def collector():
    made = FileSystemCollector()
    yield made
    await made.stop()


async def test_identical_changes_are_one_event_with_a_hit_count(tmp_path, collector):
    """Path and mask make the identity; the first time stays."""
    await collector.start(settings(tmp_path, FileSystem_Events="created,deleted"))
    for _ in range(50):
        (tmp_path / "a").touch()
        (tmp_path / "a").unlink()
    assert hits(await collector.collect()) == {
        ("Created", f"{tmp_path}/a"): 50,
        ("Deleted", f"{tmp_path}/a"): 50,
    }
    assert (await collector.collect()).events == []


async def test_a_move_is_one_event_with_both_paths(tmp_path, collector):
    """`path` is where it was, `target_path` where it is."""
    (tmp_path / "a").touch()
    await collector.start(settings(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    (event,) = (await collector.collect()).events
    assert event.payload == FileSystem(
        mask="Moved", mask_number=0xC0, path=f"{tmp_path}/a", target_path=f"{tmp_path}/b"
    )


async def test_changes_are_taken_in_without_being_asked_for(tmp_path, collector):
    """The kernel's queue is read while nobody collects: a full cache shows it."""
    await collector.start(settings(tmp_path, FileSystem_CacheSize=4, FileSystem_Events="created"))
    for name in range(10):
        (tmp_path / str(name)).touch()
    while len(collector._cache) < 4:
        await asyncio.sleep(0)
    collected = await collector.collect()
    assert [event.payload.path for event in collected.events] == [
        f"{tmp_path}/{name}" for name in range(6, 10)
    ]
    assert [(loss.reason, loss.events, loss.hits) for loss in collected.losses] == [(CACHE_FULL, 6, 6)]


async def test_no_change_is_lost_or_doubled_when_settings_change(tmp_path, collector):
    """Another process goes on creating files while paths, exclusions and sizes change ten times."""
    code = f"import os\nfor n in range(6000): os.close(os.open(f'{tmp_path}/w/{{n}}', os.O_CREAT))"
    (tmp_path / "w").mkdir()
    more = {"FileSystem_Events": "created", "FileSystem_CacheSize": 65_536}
    await collector.start(settings(tmp_path / "w", **more))
    total: Counter[tuple[str, str]] = Counter()
    maker = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code)
    change = 0
    while maker.returncode is None or change < 10:
        paths = [tmp_path, tmp_path / f"other{change}"] if change % 2 else [tmp_path / "w"]
        total += hits(await collector.collect())
        await collector.apply(settings(*paths, FileSystem_Exclude=f"x{change}", **more))
        change += 1
        await asyncio.sleep(0)
    collected = await collector.collect()
    assert collected.losses == []
    total += hits(collected)
    assert total == Counter({("Created", f"{tmp_path}/w/{n}"): 1 for n in range(6000)})


async def test_what_is_held_back_is_handed_over_when_it_stops(tmp_path):
    """Half a move and the content of a new directory do not wait for the next cycle: there is none."""
    collector = FileSystemCollector()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").touch()
    await collector.start(settings(tmp_path / "in", FileSystem_Events="moved,created"))
    (tmp_path / "in/a").rename(tmp_path / "a")
    (tmp_path / "in/d").mkdir()
    (tmp_path / "in/d/x").touch()
    assert hits(await collector.stop()) == {
        ("Moved", f"{tmp_path}/in/a"): 1,
        ("Created", f"{tmp_path}/in/d"): 1,
        ("Created", f"{tmp_path}/in/d/x"): 1,
    }


async def test_without_paths_nothing_is_watched(collector):
    """The default costs nothing: no inotify instance, no task."""
    nothing = Settings()
    assert not collector.enabled(nothing)
    assert collector.priority(nothing) is Priority.LOW
    await collector.start(nothing)
    assert await collector.collect() == Collected([], [])
    assert "FileSystem_Paths" in collector.source


async def test_the_source_tells_the_share_of_the_tree_that_is_covered(tmp_path, collector, monkeypatch):
    """At the watch limit it says how much is covered and what would help; the rest is a loss."""
    for name in range(10):
        (tmp_path / str(name)).mkdir()
    monkeypatch.setattr(inotify, "MAX_WATCHES", len(tmp_path.parts) + 5)
    await collector.start(settings(tmp_path))
    covered = len(tmp_path.parts) + 5
    assert f"{covered:,} directories, {covered / (covered + 5):.0%} of the tree" in collector.source
    assert "max_user_watches" in collector.source
    losses = (await collector.collect()).losses
    assert [(loss.reason, loss.hits) for loss in losses] == [(WATCH_LIMIT, 5)]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
async def test_a_file_system_mounted_over_a_watched_directory_is_watched(tmp_path, collector, monkeypatch):
    """inotify says nothing of a mount; its files are told all the same, and later those it had hidden."""
    monkeypatch.setattr(inotify, "RESYNC_PAUSE", 0.0)
    point = tmp_path / "usb stick"
    point.mkdir()
    await collector.start(settings(tmp_path, FileSystem_Events="created,modified"))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True)
    try:
        while not hits(await collector.collect()):
            (point / "x").write_text("x")
            await asyncio.sleep(0.01)
    finally:
        subprocess.run(["umount", point], check=True)
    while hits(await collector.collect())["Created", f"{point}/y"] == 0:
        (point / "y").unlink(missing_ok=True)
        (point / "y").touch()
        await asyncio.sleep(0.01)


async def test_a_path_that_is_not_text_or_too_long_still_makes_an_event(tmp_path, collector):
    """Bytes that are not UTF-8 are escaped, and no path is longer than its bound."""
    await collector.start(settings(tmp_path, FileSystem_Events="created"))
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff", os.O_CREAT))
    (event,) = (await collector.collect()).events
    assert event.payload.path == f"{tmp_path}/\\xff"


async def test_more_changes_than_the_cache_holds_are_all_counted(tmp_path, collector):
    """As many as the kernel queues, by another process: each is in the hit counts or in the losses."""
    (tmp_path / "a").mkdir()
    code = (
        "import os\nfor n in range(8000):\n"
        f" p = f'{tmp_path}/a/{{n}}'\n os.close(os.open(p, os.O_CREAT))\n os.unlink(p)"
    )
    await collector.start(settings(tmp_path, FileSystem_Events="created,deleted"))
    maker = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code)
    await maker.wait()
    collected = await collector.collect()
    assert {loss.reason for loss in collected.losses} == {CACHE_FULL}
    assert sum(hits(collected).values()) + sum(loss.hits for loss in collected.losses) == 16_000


def test_wrong_settings_are_refused_by_name():
    """Relative paths, unknown kinds and too many exclusions name their key and the reason."""
    wrong = {"FileSystem_Paths": "etc", "FileSystem_Events": "made", "FileSystem_Exclude": "a," * 65}
    with pytest.raises(InvalidSettings) as refusal:
        settings_from(wrong)
    assert set(refusal.value.fields) == set(wrong)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("accessed", "Access"), ("closed", "Closed"), ("metadata", "Metadata changed"), ("moved", "Moved")],
)
def test_every_kind_has_its_word(name, expected):
    """The settings' names and the events' words speak of the same bits."""
    assert word(int(chosen_changes(name))) == expected
    assert word(int(chosen_changes(name)) | 0x4000_0000) == expected


def test_a_mask_that_is_no_change_is_refused():
    """Bits that only speak of the queue have no word."""
    with pytest.raises(ValueError, match="0x4000"):
        word(0x4000)

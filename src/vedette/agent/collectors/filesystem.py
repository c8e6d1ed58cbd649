"""File system: what is created, deleted, moved and changed under the watched paths, counted.

The source is inotify (`sources.inotify`). Reading and scanning run in a worker thread, one slice at a
time; the event loop only learns that there is work.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import cast

from vedette.agent.aggregate import EventCache
from vedette.agent.collectors import Collected
from vedette.agent.sources import Unavailable
from vedette.agent.sources.inotify import WatchedTree
from vedette.agent.sources.mount_watch import Mounts, MountWatch
from vedette.agent.sources.readable import readable
from vedette.agent.sources.watch_plan import Plan
from vedette.wire.events import FileSystem, Payload, type_of
from vedette.wire.filesystem import chosen_changes, excluded_globs, watched_paths, word
from vedette.wire.twin import Priority, Settings

MAX_PATH_TEXT = 4_096
"""Characters of a path in an event: the kernel's PATH_MAX. Deeper paths are cut at their end."""

BATCH_PAUSE = 0.02
"""Seconds between the first sign of a change and the reading: a burst costs one wake-up, not hundreds.
The kernel's queue (16,384 events) is far from full after it."""

START_PATIENCE = 2.0
"""Seconds that `start` waits for the first scan. A larger tree is watched while the agent already runs."""

DRAIN_SLICES = 64
"""Slices of reading before a cycle ends: more than a full kernel queue, whatever is still arriving."""

RETRY_PAUSE = 600.0
"""Seconds after which directories that got no watch are tried again."""


class FileSystemCollector:
    """Changes to files and directories, by path and kind. Watches nothing unless paths are set."""

    name = "FileSystem"

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._cache = EventCache(type_of(FileSystem), 1, setting="FileSystem_CacheSize")
        self._tree: WatchedTree | None = None
        self._mounts: MountWatch | None = None
        self._pump: asyncio.Task[None] | None = None
        self._retry_at = 0.0

    @property
    def source(self) -> str:
        """inotify, and how much of the tree it covers."""
        if self._tree is None:
            return "none: FileSystem_Paths is empty"
        missing = sum(self._tree.unwatched.values())
        share = self._tree.watched / max(1, self._tree.watched + missing)
        notes = [f"{count:,} times {reason}" for reason, count in self._tree.unwatched.items()]
        if missing:
            notes.append("raise fs.inotify.max_user_watches, exclude more, or watch fewer paths")
        if self._tree.scanning:
            notes.append("still scanning")
        covered = f"inotify: {self._tree.watched:,} directories, {share:.0%} of the tree"
        return "; ".join([covered, *notes])

    def enabled(self, settings: Settings) -> bool:
        """False if it is switched off or has nothing to watch."""
        return not settings.filesystem_disabled and bool(watched_paths(settings.filesystem_paths))

    def priority(self, settings: Settings) -> Priority:
        """As FileSystem_MessageFrequency says."""
        return settings.filesystem_frequency

    async def start(self, settings: Settings) -> None:
        """Watch what the settings name. Raises Unavailable where inotify has no instance left."""
        self._cache = _cache(settings)
        plan, changes = await asyncio.to_thread(_asked_for, settings)
        if not plan.top.inside and not plan.top.next:
            return
        tree = WatchedTree(plan, changes, self)
        mounts = MountWatch()
        try:
            mounted = await asyncio.to_thread(mounts.mounts)  # before the tree: what is mounted later shows
            await asyncio.to_thread(tree.open)
        except Unavailable:
            mounts.close()
            raise
        self._tree, self._mounts = tree, mounts
        await self._first_scan(tree)
        self._pump = asyncio.create_task(self._keep_working(tree, mounts, mounted), name="FileSystem")

    async def collect(self) -> Collected:
        """Read what the kernel has queued, then hand everything over."""
        if self._pump and self._pump.done():
            self._pump.result()  # raises what ended it
        async with self._turn:
            await self._drain()
            self._retry()
            return Collected(*self._cache.drain())

    async def apply(self, settings: Settings) -> None:
        """Watch for new settings. The kernel's queue goes on: nothing is lost, nothing comes twice."""
        async with self._turn:
            await self._drain()
            collected, self._cache = self._cache.drain(), _cache(settings)
            for event in collected[0]:
                self._cache.add(event.payload, event.hits, now=event.first_seen, key=_key(event.payload))
            for loss in collected[1]:
                self._cache.drop(loss.reason, events=loss.events, hits=loss.hits)
            if self._tree:
                plan, changes = await asyncio.to_thread(_asked_for, settings)
                await asyncio.to_thread(self._tree.reconfigure, plan, changes)
                await self._first_scan(self._tree)
                return
        await self.start(settings)

    async def stop(self) -> Collected:
        """Read what the kernel has queued, stop watching and hand over everything."""
        async with self._turn:  # nobody works on the tree while this is held
            if self._pump:
                self._pump.cancel()
                await asyncio.wait([self._pump])
                self._pump = None
            await self._drain()
            if self._tree:
                await asyncio.to_thread(self._tree.close)
                self._tree = None
            if self._mounts:
                self._mounts.close()
                self._mounts = None
            return Collected(*self._cache.drain())

    def changed(self, mask: int, path: str, target: str | None = None) -> None:
        """Count a change (from the tree)."""
        key = mask, path, target
        if not self._cache.add_hits(key, 1):
            self._cache.add(_event(*key), now=self._clock(), key=key)

    def found(self, mask: int, path: str) -> None:
        """Note a change that nobody could watch, unless this cycle knows of it (from the tree)."""
        key = mask, path, None
        if key not in self._cache:
            self._cache.add(_event(*key), now=self._clock(), key=key)

    def lost(self, reason: str) -> None:
        """Count a loss (from the tree)."""
        self._cache.drop(reason, hits=1)

    async def _first_scan(self, tree: WatchedTree) -> None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + START_PATIENCE
        while tree.scanning and loop.time() < give_up:
            await asyncio.to_thread(tree.work)

    async def _keep_working(self, tree: WatchedTree, mounts: MountWatch, mounted: Mounts) -> None:
        """Let the tree work whenever there is work."""
        while True:
            async with self._turn:
                more = await asyncio.to_thread(tree.work)
            if more:
                continue
            ready = await readable(tree.fileno(), mounts.fileno(), timeout=tree.patience)
            if mounts.fileno() in ready:
                before, mounted = mounted, await asyncio.to_thread(mounts.mounts)
                if any(tree.concerns(point) for _, point in before ^ mounted):
                    tree.resync()
            elif ready:
                await asyncio.sleep(BATCH_PAUSE)

    async def _drain(self) -> None:
        """Take what the kernel has queued until now; more may be arriving all the time."""
        for _ in range(DRAIN_SLICES):
            if self._tree is None or not await asyncio.to_thread(self._tree.work):
                return

    def _retry(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._tree and self._tree.unwatched and now >= self._retry_at:
            self._retry_at = now + RETRY_PAUSE
            self._tree.resync()


def _asked_for(settings: Settings) -> tuple[Plan, int]:
    roots = (os.path.realpath(root) for root in watched_paths(settings.filesystem_paths))
    exclude = excluded_globs(settings.filesystem_exclude)
    plan = Plan(roots, recursive=settings.filesystem_recursive, exclude=exclude)
    return plan, int(chosen_changes(settings.filesystem_events))


def _cache(settings: Settings) -> EventCache:
    return EventCache(type_of(FileSystem), settings.filesystem_cache_size, setting="FileSystem_CacheSize")


def _event(mask: int, path: str, target: str | None) -> FileSystem:
    return FileSystem(
        mask=word(mask), mask_number=mask, path=_text(path), target_path=target and _text(target)
    )


def _key(payload: Payload) -> tuple[int, str, str | None]:
    event = cast("FileSystem", payload)
    return event.mask_number, event.path, event.target_path


def _text(path: str) -> str:
    """A path as an event carries it; bytes that are not UTF-8 as \\xNN."""
    if not path.isascii():
        path = os.fsencode(path).decode(errors="backslashreplace")
    return path[:MAX_PATH_TEXT]

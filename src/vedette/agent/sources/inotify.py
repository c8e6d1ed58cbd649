"""Directory trees under inotify(7): each change once, under its right path.

The kernel tells what happened to a name in a directory that has a watch, and nothing else. The rest is
made here:

* A new directory gets its watch first and is scanned afterwards. What the scan comes upon and no event
  has told yet is held back until every event that the kernel had queued by then has been read: an entry
  with an event of its own came after the watch, one without came before it. So each is told once.
* Directories are nodes that know their parent, so a renamed directory renames what is in it. The two
  halves of a move are joined by their cookie; a half whose other end is not watched is told alone.
* Events are taken in their order, paths are looked up in the present. A node therefore goes only when
  the kernel says that its watch has gone, never because a name was deleted: by then the name may
  belong to a new directory.
* After a queue overflow, or when a file system went away, the tree is watched anew. What changed in the
  meantime shows by its change time; what was deleted, and how often, is lost, and counted as a loss.

All work is done by `WatchedTree.work`, in slices; it may wait for a disk and must not run on an event
loop. Calls must not overlap.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from vedette.agent.losses import QUEUE_OVERFLOW, UNREADABLE_DIRECTORY, WATCH_LIMIT
from vedette.agent.sources import Unavailable
from vedette.agent.sources.files import attribute
from vedette.agent.sources.inotify_queue import BACKLOG_BYTES, MIN_EVENT, Bits, Event, InotifyQueue
from vedette.agent.sources.watch_node import ALL, GONE, Left, Node, news
from vedette.agent.sources.watch_plan import Place, Plan

MAX_WATCHES = 65_536
"""Directories watched. Each costs about 0.5 KB here and 1 KB in the kernel, whose own bound
(fs.inotify.max_user_watches) follows the machine's memory and is lower on small devices."""

MAX_WAITING = 65_536
"""Directories without a watch that wait to be looked into, to count what is below them."""

MAX_FOUND = 4_096
"""Entries that scans came upon and that are not settled; scanning pauses at this number."""

MAX_HEARD = 16_384
"""Entries told by events while their directory waits to be scanned. Reading pauses at this number."""

MAX_MOVES = 1_024
"""First halves of moves whose second half has not been read; beyond it the oldest is told alone."""

READ_SLICE = 2_048
SCAN_SLICE = 512
"""Events read and entries scanned in one slice: some 10 ms each."""

SETTLE = 0.1
"""Seconds after which an event that was on its way has arrived. A creation shows in the directory
microseconds before its event is queued; longer only if the creating thread loses its CPU in between."""

CLOCK_MARGIN = 20_000_000
"""Nanoseconds by which change times may lag: the kernel stamps files with its last timer tick."""

QUEUE_LENGTH = 16_384
"""Events in the kernel's queue (fs.inotify.max_queued_events), where its bound cannot be read."""

RESYNC_PAUSE = 10.0
"""Seconds between two new starts, so that a flood of changes cannot make the agent scan all the time."""

# Plain numbers: an enumeration's operators would cost more than the rest of the work on an event.
_CREATE, _DELETE, _ISDIR = int(Bits.CREATE), int(Bits.DELETE), int(Bits.ISDIR)
_MOVED_FROM, _MOVED_TO = int(Bits.MOVED_FROM), int(Bits.MOVED_TO)
_OVERFLOW, _UNMOUNT, _IGNORED = int(Bits.OVERFLOW), int(Bits.UNMOUNT), int(Bits.IGNORED)
_STRUCTURE = _CREATE | _MOVED_FROM | _MOVED_TO
_NAMED = _STRUCTURE | _DELETE
_DIRECTORY = int(Bits.ONLYDIR | Bits.DONT_FOLLOW | Bits.EXCL_UNLINK)


class Listener(Protocol):
    """Who is told. `mask` has inotify bits, among them 0x40000000 for a directory."""

    def changed(self, mask: int, path: str, target: str | None = None) -> None:
        """Something happened. `target`: a move with both ends watched went there."""

    def found(self, mask: int, path: str) -> None:
        """Something happened, at least once, while nobody could watch; it may have been told before."""

    def lost(self, reason: str) -> None:
        """Something was missed."""


class WatchedTree:
    """The watched roots of a plan, and everything below them that the plan asks for.

    changes: the inotify bits to report. now: monotonic clock in seconds.
    """

    def __init__(
        self, plan: Plan, changes: int, listener: Listener, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan = plan
        self._changes = changes
        self._listener = listener
        self._now = now
        self._nodes: dict[int, Node] = {}
        self._retired: dict[int, Node] = {}
        self._moves: dict[int, Left] = {}
        self._found: dict[tuple[Node, str], tuple[int, float]] = {}
        self._waiting: list[tuple[Node, int | None]] = []
        self._scanning: Iterator[None] | None = None
        self._heard = 0
        self._read_on, self._read_on_since = 0, now()
        self._queue_length = _queue_length()
        self._resync_since: int | None = None
        self._resync_at = 0.0
        self.unwatched: dict[str, int] = {}
        """Directories without a watch, by reason. What lies below them is counted as far as it is known."""

    def open(self) -> None:
        """Begin to watch; the tree below the roots is scanned by `work`. Raises Unavailable."""
        self._quiet_since = time.time_ns() - CLOCK_MARGIN
        self._kernel = _queue()
        self._survey(None)

    def reconfigure(self, plan: Plan, changes: int) -> None:
        """Watch for another plan. The queue stays the same: no event is lost, none comes twice.

        Directories keep their watches until the new plan has been walked; `work` ends those left over.
        """
        self._retired |= self._nodes
        self._nodes = {}
        for node in self._retired.values():
            node.heard = None
        self._plan, self._changes = plan, changes
        self._waiting.clear()
        self._scanning = None
        self._heard = 0
        self._survey(None)

    def close(self) -> None:
        """Stop watching. What was held back is told."""
        self._settle(float("inf"))
        self._kernel.close()
        self._nodes.clear()
        self._retired.clear()
        self._waiting.clear()
        self._scanning = None
        self._heard = 0

    def fileno(self) -> int:
        """Readable when there is work. Ask again after each `work`: it may be another one."""
        return self._kernel.fileno()

    def concerns(self, path: str) -> bool:
        """True if the path is watched, or on the way to what is."""
        return self._plan.concerns(path)

    @property
    def watched(self) -> int:
        """Directories that have a watch."""
        return len(self._nodes)

    @property
    def scanning(self) -> bool:
        """True while there are directories that wait to be scanned."""
        return self._scanning is not None or bool(self._waiting)

    @property
    def patience(self) -> float | None:
        """Seconds after which there is work even if nothing happens; None: no such work."""
        if self._found or self._moves:
            return SETTLE
        if self._resync_since is not None:
            return max(0.0, self._resync_at - self._now())
        return None

    def resync(self) -> None:
        """Watch the whole tree anew, soon, and find what has changed in between."""
        if self._resync_since is None:
            self._resync_since = self._quiet_since

    def work(self) -> bool:
        """Do a slice of what there is to do; True if there is more to do at once. Raises Unavailable."""
        started = time.time_ns()
        more = self._read() if self._may_read else True
        if not more:
            self._quiet_since = started - CLOCK_MARGIN
            self._all_read(self._now() - SETTLE)
            if self._resync_since is not None and self._now() >= self._resync_at:
                self._start_anew(self._resync_since)
        elif self._read_on >= self._queue_length:  # whatever was queued when this began has been read
            self._all_read(self._read_on_since)
        return self._scan_slice() or more

    @property
    def _may_read(self) -> bool:
        """False while scanning has to catch up, and can: the kernel's queue is the bounded place to wait."""
        return self._heard < MAX_HEARD or not self.scanning or len(self._found) >= MAX_FOUND

    def _all_read(self, before: float) -> None:
        """Every event that was queued by that time has been read."""
        self._read_on, self._read_on_since = 0, self._now()
        self._settle(before)

    def _start_anew(self, since: int) -> None:
        queue = _queue()  # or nothing is given up
        self.close()
        self._kernel = queue
        self._resync_since = None
        self._resync_at = self._now() + RESYNC_PAUSE
        self._survey(since)

    def _survey(self, since: int | None) -> None:
        self.unwatched = {}
        self._enter(Node(None, "", self._plan.top), since)

    def _read(self) -> bool:
        """Take events off the queue; True if it may hold more."""
        taken = 0
        while taken < READ_SLICE:
            events = self._kernel.read()
            if not events:
                return False
            for event in events:
                self._take(event)
            taken += len(events)
        self._read_on += taken
        return True

    def _take(self, event: Event) -> None:
        watch, mask, cookie, name = event
        if mask & (_OVERFLOW | _UNMOUNT):
            if mask & _OVERFLOW:
                self._listener.lost(QUEUE_OVERFLOW)
            self.resync()
            return
        node = self._nodes.get(watch) or self._retired.get(watch)
        if node is None:
            return  # what went out of the tree
        if mask & _IGNORED:
            self._forget(node, watch)
        elif name:
            self._on_entry(node, name, mask, cookie)
        elif node.is_root and mask & self._changes:
            self._listener.changed(mask, node.path())

    def _forget(self, node: Node, watch: int) -> None:
        self._nodes.pop(watch, None)
        self._retired.pop(watch, None)
        node.place = GONE
        parent = node.parent
        if parent and parent.children and parent.children.get(node.name) is node:
            del parent.children[node.name]

    def _on_entry(self, node: Node, name: str, mask: int, cookie: int) -> None:
        below = self._plan.below(node.place, name)
        if (below is None and not node.place.inside) or self._excluded(node, name):
            return
        told = node.place.inside or (below is not None and below.inside)
        found = self._found.pop((node, name), None) if self._found else None
        if found and not mask & (_CREATE | _MOVED_TO):
            self._tell_found(node, name, found[0])
        if node.heard is not None and mask & (_CREATE | _MOVED_TO):
            self._heard += name not in node.heard
            node.heard.add(name)
        if mask & _MOVED_FROM:
            self._leave(cookie, Left(node, name, mask, told, node.detach(name), self._now()))
            return
        if not (mask & _ISDIR or not node.place.inside):
            below = None
        if mask & _MOVED_TO:
            self._arrive(node, name, mask, told, below, self._moves.pop(cookie, None))
            return
        if told and mask & self._changes:
            self._listener.changed(mask, node.at(name))
        if below and mask & _CREATE:
            self._enter(Node(node, name, below), ALL)

    def _excluded(self, node: Node, name: str) -> bool:
        if self._plan.excludes_nothing or not node.place.inside:
            return False
        return self._plan.excludes_name(name) or self._plan.excludes_path(lambda: node.at(name))

    def _leave(self, cookie: int, left: Left) -> None:
        if len(self._moves) >= MAX_MOVES:
            self._gone(self._moves.pop(next(iter(self._moves))))
        self._moves[cookie] = left

    def _gone(self, left: Left) -> None:
        """The second half of a move did not come: it went where nobody watches."""
        if left.told and left.mask & self._changes:
            self._listener.changed(left.mask, left.node.at(left.name))
        if left.child:
            self._drop(left.child)

    def _arrive(
        self, node: Node, name: str, mask: int, told: bool, below: Place | None, left: Left | None
    ) -> None:
        if left is None:
            if told and mask & self._changes:
                self._listener.changed(mask, node.at(name))
            if below:
                self._enter(Node(node, name, below), self._quiet_since)
            return
        if mask & self._changes:
            self._tell_move(node, name, mask, told, left)
        child = left.child
        if child and below is child.place:
            node.attach(child, name)
            return
        if child:
            self._drop(child)
        if below:  # a directory of ours without a node never had a watch: nothing in it has been told
            self._enter(Node(node, name, below), None if child else ALL)

    def _tell_move(self, node: Node, name: str, mask: int, told: bool, left: Left) -> None:
        if told and left.told:
            self._listener.changed(mask | left.mask, left.node.at(left.name), node.at(name))
        elif told:
            self._listener.changed(mask, node.at(name))
        elif left.told:
            self._listener.changed(left.mask, left.node.at(left.name))

    def _drop(self, node: Node) -> None:
        """End the watches of a directory and of everything in it."""
        nodes = [node]
        while nodes:
            node = nodes.pop()
            nodes.extend((node.children or {}).values())
            node.place = GONE
            if self._nodes.pop(node.watch, None):
                self._end(node.watch)

    def _end(self, watch: int) -> None:
        try:
            self._kernel.remove(watch)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the kernel was quicker
                raise

    def _end_retired(self) -> None:
        """The new plan has been walked: what it did not come upon is not watched any more."""
        for watch in self._retired:
            if watch not in self._nodes:
                self._end(watch)
        self._retired.clear()

    def _enter(self, node: Node, since: int | None) -> None:
        """Watch a place if it is there, and have it scanned for what is newer than `since`."""
        try:
            watch = self._watch(node)
        except OSError as error:
            self._not_watched(node, since, error)
            return
        known = self._nodes.get(watch)
        if known:  # by an earlier event, or under another path (a bind mount)
            if self._retired and node.parent:
                node.parent.attach(known, node.name)  # it may have been made below a retired node
            return
        node.watch = watch
        node.heard = None if since is None else set()
        self._nodes[watch] = node
        self._scan_later(node, since)

    def _watch(self, node: Node) -> int:
        if len(self._nodes) >= MAX_WATCHES:
            raise OSError(errno.ENOSPC, "too many directories")
        place = node.place
        mask = self._changes if place.inside else self._changes & _DELETE
        if place.next or self._plan.recursive:
            mask |= _STRUCTURE
        path = node.path()
        try:
            return self._kernel.add(path, mask | _DIRECTORY)
        except NotADirectoryError:
            own = self._changes & ~_NAMED
            if not node.is_root or not own:
                raise
            return self._kernel.add(path, own | Bits.DONT_FOLLOW)

    def _not_watched(self, node: Node, since: int | None, error: OSError) -> None:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return  # gone or replaced since: another event tells
        reason = WATCH_LIMIT if error.errno == errno.ENOSPC else UNREADABLE_DIRECTORY
        if node.place.inside:
            self.unwatched[reason] = self.unwatched.get(reason, 0) + 1
            self._listener.lost(reason)
        if len(self._waiting) < MAX_WAITING:
            self._scan_later(node, since)

    def _scan_later(self, node: Node, since: int | None) -> None:
        if node.parent:
            node.parent.attach(node, node.name)
        self._waiting.append((node, since))

    def _scan_slice(self) -> bool:
        """Look at some entries of directories that wait for it; True if there are more."""
        budget = SCAN_SLICE
        while budget > 0 and len(self._found) < MAX_FOUND:
            if self._scanning is None:
                if not self._waiting:
                    self._end_retired()
                    return False
                self._scanning = self._scan(*self._waiting.pop())
            looked_at = sum(1 for _ in itertools.islice(self._scanning, budget))
            if looked_at < budget:
                self._scanning = None
            budget -= looked_at + 1
        return self.scanning and len(self._found) < MAX_FOUND

    def _scan(self, node: Node, since: int | None) -> Iterator[None]:
        """Look at the entries of a directory, one a step."""
        try:
            if node.place.inside and (self._plan.recursive or since is not None):
                with os.scandir(node.path()) as entries:
                    for entry in entries:
                        self._come_upon(node, entry.name, entry.is_dir(follow_symlinks=False), entry, since)
                        yield
            else:
                for name in node.place.next:
                    self._come_upon_named(node, name, since)
                    yield
        except OSError:
            pass  # gone, or a file that is a root; a directory that may not be read has been counted
        self._heard -= len(node.heard or ())
        node.heard = None

    def _come_upon_named(self, node: Node, name: str, since: int | None) -> None:
        path = Path(node.at(name))
        try:
            is_dir = stat.S_ISDIR(path.lstat().st_mode)
        except OSError:
            return  # not there: its creation will be an event
        self._come_upon(node, name, is_dir, path, since)

    def _come_upon(
        self, node: Node, name: str, is_dir: bool, entry: os.DirEntry[str] | Path, since: int | None
    ) -> None:
        if self._excluded(node, name):
            return
        below = self._plan.below(node.place, name)
        told = node.place.inside or (below is not None and below.inside)
        heard = node.heard is not None and name in node.heard
        if told and since is not None and not heard and (mask := news(entry, is_dir, since)):
            self._found[node, name] = mask, self._now()
        if below and (is_dir or not node.place.inside):
            self._enter(Node(node, name, below), since)

    def _settle(self, before: float) -> None:
        """Tell what was held back until that time: its event, or its other half, would have come."""
        for key in list(itertools.takewhile(lambda key: self._found[key][1] <= before, self._found)):
            self._tell_found(*key, self._found.pop(key)[0])
        for cookie in list(itertools.takewhile(lambda key: self._moves[key].at <= before, self._moves)):
            self._gone(self._moves.pop(cookie))

    def _tell_found(self, node: Node, name: str, mask: int) -> None:
        if not mask & self._changes:
            return
        if mask & _CREATE:
            self._listener.changed(mask, node.at(name))
        else:
            self._listener.found(mask, node.at(name))


def _queue() -> InotifyQueue:
    try:
        return InotifyQueue()
    except OSError as error:
        remedy = "raise fs.inotify.max_user_instances or the limit of open files"
        raise Unavailable(f"inotify: {error.strerror}", remedy=remedy) from error


def _queue_length() -> int:
    """Events that can be waiting at any moment."""
    try:
        kernel = int(attribute(Path("/proc/sys/fs/inotify/max_queued_events")))
    except ValueError:
        kernel = QUEUE_LENGTH
    return kernel + BACKLOG_BYTES // MIN_EVENT

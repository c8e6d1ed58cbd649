"""The process collector on the real kernel: exact counts, whole command lines, nothing lost unseen."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from spawning import Lingering, hits, lost, needs_bpf, needs_root, new_tag, of, run, spawn, spawner, total

from vedette.agent.collectors import Collected
from vedette.agent.collectors.process import (
    EBPF,
    EXITS_UNSEEN,
    NETLINK,
    POLLING,
    ProcessCollector,
    command_line,
)
from vedette.agent.losses import CACHE_FULL, FORK_TABLE_FULL, KERNEL_RACE
from vedette.agent.sources import Unavailable, bpf, proc_connector, process_bpf
from vedette.agent.sources.process import Seen
from vedette.wire.events import Event, Process
from vedette.wire.twin import ProcessMode, Settings

ROOMY = 8192
"""A cache that other people's command lines cannot fill during a test."""

CLOCK_STEP = 0.1
"""Seconds that a correction of the wall clock may move it during a test."""


def settings(
    mode: ProcessMode = ProcessMode.EBPF,
    cache: int = ROOMY,
    overflow: str = "drop-oldest",
    *,
    exits: bool = False,
    redact: bool = True,
) -> Settings:
    return msgspec.convert(
        {
            "Process_Mode": mode,
            "Process_CacheSize": cache,
            "Process_OverflowPolicy": overflow,
            "Process_ReportExit": exits,
            "Process_RedactSecrets": redact,
        },
        Settings,
    )


@pytest.fixture
async def ebpf() -> AsyncIterator[ProcessCollector]:
    collector = ProcessCollector()
    await collector.start(settings())
    yield collector
    await collector.stop()


class TestCountingInTheKernel:
    pytestmark = needs_bpf

    async def test_20000_executions_on_two_cpus_are_counted_exactly(self, ebpf: ProcessCollector):
        """Five command lines executed from both CPUs at once: every single execution is in the counts."""
        tag = new_tag()
        for which in "12345":
            await asyncio.gather(*(spawn("vfork", 2000, tag, which, cpu=cpu) for cpu in (0, 1)))
        collected = await ebpf.collect()
        counts = hits(collected.events, tag)
        assert [counts["EXEC", f"{spawner()} {tag} {which}"] for which in "12345"] == [4000] * 5
        assert collected.losses == []

    async def test_swapping_under_load_loses_and_doubles_nothing(self, ebpf: ProcessCollector):
        """Reports taken in quick succession while two CPUs execute add up to the exact number."""
        tag = new_tag()
        reports: list[Collected] = []
        rounds = 0
        while len(reports) <= 10:  # on a busy machine a swap takes long
            work = asyncio.gather(*(spawn("vfork", 2000, tag, "x", cpu=cpu) for cpu in (0, 1)))
            while not work.done():
                reports.append(await ebpf.collect())
            rounds += 1
        reports.append(await ebpf.collect())
        counted = sum(hits(report.events, f"{tag} x").total() for report in reports)
        spawners = 2 * 2  # taskset and the spawner: their command lines have the words, too
        assert counted == rounds * (4000 + spawners)
        assert [loss for report in reports for loss in report.losses] == []

    async def test_3000_command_lines_against_a_cache_of_256(self, ebpf: ProcessCollector):
        """256 events leave, and the counters of what was dropped agree with a collector that has room."""
        small = ProcessCollector()
        await small.start(settings(cache=256))
        tag = new_tag()
        await asyncio.gather(*(spawn("distinct", 1500, tag, f"{cpu}", cpu=cpu) for cpu in (0, 1)))
        collected = await small.stop()
        everything = await ebpf.collect()
        assert hits(everything.events, tag).total() == 3000 + 2 * 2
        assert everything.losses == []
        assert len(collected.events) == 256
        dropped = next(loss for loss in collected.losses if loss.reason == CACHE_FULL)
        assert dropped.events >= 1500 - 256  # each number was executed twice, on two CPUs
        assert hits(collected.events, tag).total() + dropped.hits >= 3000
        assert total(collected) <= total(everything)
        assert lost(collected).keys() <= {CACHE_FULL, KERNEL_RACE}

    async def test_drop_new_keeps_the_first_and_counts_the_refused(self, ebpf: ProcessCollector):
        """With drop-new the first events stay, and every execution of a refused one is in the losses."""
        small = ProcessCollector()
        await small.start(settings(cache=4, overflow="drop-new"))
        tag = new_tag()
        for which in "12345678":
            await spawn("vfork", 100, tag, which)
        collected = await small.stop()
        everything = await ebpf.collect()
        assert len(collected.events) == 4
        kept = hits(collected.events, tag).total()
        assert kept + lost(collected)[CACHE_FULL] >= 8 * 101
        assert total(collected) <= total(everything)
        assert lost(collected).keys() == {CACHE_FULL}

    async def test_an_evicted_event_is_new_again(self, ebpf: ProcessCollector):
        """Command lines that push each other out of a cache of two come back, and no hit vanishes."""
        small = ProcessCollector()
        await small.start(settings(cache=2))
        tag = new_tag()
        for which in "123" * 10:
            await spawn("vfork", 10, tag, which)
        collected = await small.stop()
        everything = await ebpf.collect()
        assert len(collected.events) == 2
        assert hits(collected.events, tag).total() + sum(lost(collected).values()) >= 30 * 11
        assert total(collected) <= total(everything)

    async def test_first_seen_is_the_time_of_the_first_execution(self, ebpf: ProcessCollector):
        """The timestamp is the wall clock's at the first of several executions."""
        tag = new_tag()
        before = time.time()
        await spawn("vfork", 1, tag, "x")
        after = time.time()
        await spawn("vfork", 1, tag, "x")
        (event,) = of((await ebpf.collect()).events, f"{spawner()} {tag} x")
        assert event.hits == 2
        assert before - CLOCK_STEP < event.first_seen < after + CLOCK_STEP


class TestForks:
    pytestmark = needs_bpf

    async def test_short_lived_children_count_under_what_they_inherited(self, ebpf: ProcessCollector):
        """Children that end without executing are FORKs of the parent's command line."""
        tag = new_tag()
        await spawn("fork", 300, tag)
        counts = hits((await ebpf.collect()).events, tag)
        line = f"{spawner()} fork 300 {tag}"
        assert counts == {("EXEC", line): 1, ("FORK", line): 300}

    async def test_a_failed_execution_leaves_a_fork(self, ebpf: ProcessCollector):
        """A child whose execve fails is a FORK."""
        tag = new_tag()
        await spawn("failing-exec", 50, tag)
        assert hits((await ebpf.collect()).events, tag)["FORK", f"{spawner()} failing-exec 50 {tag}"] == 50

    async def test_multithreaded_children_count_once(self, ebpf: ProcessCollector):
        """However many threads leave together, a child is one FORK."""
        tag = new_tag()
        await spawn("threaded-fork", 300, tag)
        assert hits((await ebpf.collect()).events, tag)["FORK", f"{spawner()} threaded-fork 300 {tag}"] == 300

    @pytest.mark.parametrize("kind", ["exec", "vfork", "thread-exec"])
    async def test_fork_then_exec_is_one_exec(self, ebpf: ProcessCollector, kind: str):
        """A child that executes is no FORK, whichever way it came to be."""
        tag = new_tag()
        await spawn(kind, 100, tag)
        counts = hits((await ebpf.collect()).events, tag)
        assert counts == {("EXEC", f"{spawner()} {kind} 100 {tag}"): 1, ("EXEC", f"{spawner()} {tag}"): 100}

    async def test_threads_are_not_processes(self, ebpf: ProcessCollector):
        """Creating threads counts nothing."""
        tag = new_tag()
        await spawn("threads", 100, tag)
        assert hits((await ebpf.collect()).events, tag) == {("EXEC", f"{spawner()} threads 100 {tag}"): 1}

    async def test_long_lived_children_count_while_they_live(
        self, ebpf: ProcessCollector, monkeypatch: pytest.MonkeyPatch
    ):
        """Children that settle are reported before they end, and not again at their end."""
        monkeypatch.setattr(process_bpf, "SETTLED", 0.0)
        tag = new_tag()
        line = f"{spawner()} linger 20 {tag}"
        async with Lingering(20, tag):
            assert hits((await ebpf.collect()).events, tag) == {("EXEC", line): 1, ("FORK", line): 20}
        assert hits((await ebpf.collect()).events, tag) == {}

    async def test_children_that_are_not_settled_wait(self, ebpf: ProcessCollector):
        """A child that may still execute something is not reported yet, and counts when it ends."""
        tag = new_tag()
        async with Lingering(5, tag):
            first = hits((await ebpf.collect()).events, tag)
        second = hits((await ebpf.collect()).events, tag)
        line = f"{spawner()} linger 5 {tag}"
        assert (first["FORK", line], second["FORK", line]) == (0, 5)

    async def test_more_children_than_the_table_follows_are_a_counted_loss(
        self, ebpf: ProcessCollector, monkeypatch: pytest.MonkeyPatch
    ):
        """Each of 400 waiting children is either followed or counted as lost."""
        monkeypatch.setattr(process_bpf, "SETTLED", 0.0)
        tag = new_tag()
        async with Lingering(400, tag):
            collected = await ebpf.collect()
        followed = hits(collected.events, tag)["FORK", f"{spawner()} linger 400 {tag}"]
        assert 0 < followed <= 256
        assert followed + lost(collected)[FORK_TABLE_FULL] >= 400


class TestWhatACommandLineLooksLike:
    pytestmark = needs_bpf

    @pytest.mark.parametrize(
        "argument",
        [b"two words", b"it's", b"line\nbreak", b"\xff\xfe \x80", "grün".encode(), b"", b"$HOME `id`"],
        ids=["space", "quote", "newline", "not UTF-8", "UTF-8", "empty", "expansion"],
    )
    async def test_arguments_arrive_whole(self, ebpf: ProcessCollector, argument: bytes):
        """Quoted for a shell, they split again into what was executed; bytes that are not UTF-8 escaped."""
        tag = new_tag()
        await run(spawner(), tag, argument, "last")
        (event,) = of((await ebpf.collect()).events, tag)
        assert isinstance(event.payload, Process)
        assert shlex.split(event.payload.commandline) == [
            spawner(),
            tag,
            argument.decode("utf-8", "backslashreplace"),
            "last",
        ]
        assert event.payload.commandline_length is None

    async def test_4096_bytes_are_kept_and_longer_ones_flagged(self, ebpf: ProcessCollector):
        """Up to one page a command line is whole; beyond, it is cut and tells its real length."""
        fixed = len(spawner()) + 1 + len(new_tag()) + 1
        exact, longer = new_tag(), new_tag()
        await run(spawner(), exact, "x" * (4096 - fixed - 1))
        await run(spawner(), longer, "y" * 9000)
        events = (await ebpf.collect()).events
        whole, cut = of(events, exact)[0].payload, of(events, longer)[0].payload
        assert isinstance(whole, Process)
        assert isinstance(cut, Process)
        assert whole.commandline == f"{spawner()} {exact} {'x' * (4096 - fixed - 1)}"
        assert whole.commandline_length is None
        assert cut.commandline == f"{spawner()} {longer} {'y' * (4096 - fixed)}"
        assert cut.commandline_length == fixed + 9001

    async def test_long_command_lines_that_differ_early_stay_apart(self, ebpf: ProcessCollector):
        """The whole of what is kept is the identity, not its beginning or end."""
        tag = new_tag()
        for letter in "ab":
            await run(spawner(), tag, "x" * 2000 + letter + "x" * 1500)
        assert sorted(hits((await ebpf.collect()).events, tag).values()) == [1, 1]

    async def test_an_empty_argv_is_known_by_its_path(self, ebpf: ProcessCollector):
        """A program started without arguments shows the path that was executed."""
        await spawn("empty-argv", 3, new_tag())
        assert hits((await ebpf.collect()).events, spawner())["EXEC", spawner()] == 3

    async def test_scripts_show_their_interpreter(self, ebpf: ProcessCollector, tmp_path: Path):
        """A #! script is its interpreter with the script as argument; the executable is the script."""
        script = tmp_path / new_tag()
        script.write_text(f"#!{spawner()} tag\n")
        script.chmod(0o755)
        await run(str(script))
        (event,) = of((await ebpf.collect()).events, script.name)
        assert isinstance(event.payload, Process)
        assert event.payload.commandline == f"{spawner()} tag {script}"
        assert event.payload.executable == str(script)

    async def test_programs_in_memory_are_seen(self, ebpf: ProcessCollector):
        """fexecve of a memfd counts under its arguments; its executable tells that it was a descriptor."""
        tag = new_tag()
        await spawn("memfd", 2, tag)
        events = of((await ebpf.collect()).events, f"{spawner()} {tag}")
        assert [event.hits for event in events] == [2]
        assert isinstance(events[0].payload, Process)
        assert events[0].payload.executable.startswith("/dev/fd/")

    async def test_the_user_is_the_caller(self, ebpf: ProcessCollector):
        """setuid does not hide who called; inside a user namespace the id is the real one."""
        tag = new_tag()
        caller = ("setpriv", "--reuid", "65534", "--clear-groups")
        os.chmod(spawner(), 0o4755)
        await run(*caller, spawner(), tag, "setuid")
        await run(*caller, "unshare", "--user", "--map-root-user", spawner(), tag, "namespace")
        events = (await ebpf.collect()).events
        for how in ("setuid", "namespace"):
            (event,) = of(events, f"{spawner()} {tag} {how}")[-1:]
            assert isinstance(event.payload, Process)
            assert (event.payload.user_id, event.payload.user_name) == (65534, "nobody")

    async def test_process_ids_are_those_of_the_initial_namespace(self, ebpf: ProcessCollector):
        """What is process 1 in a namespace has its real number, and its parent too."""
        tag = new_tag()
        await run("unshare", "--pid", "--fork", spawner(), tag)
        events = (await ebpf.collect()).events
        (outer,) = of(events, f"unshare --pid --fork {spawner()} {tag}")
        inner = next(event for event in of(events, tag) if event.payload.commandline == f"{spawner()} {tag}")
        assert isinstance(outer.payload, Process)
        assert isinstance(inner.payload, Process)
        assert inner.payload.process_id > 1
        assert inner.payload.parent_process_id == outer.payload.process_id


def ends(events: list[Event], program: str) -> Counter[tuple[int | None, int | None]]:
    """Hits of EXIT events of a program, by status and signal."""
    found: Counter[tuple[int | None, int | None]] = Counter()
    for event in events:
        payload = event.payload
        assert isinstance(payload, Process)
        if payload.event_type == "EXIT" and payload.executable == program:
            assert (payload.exit_status, payload.exit_signal) not in found, "one event for each"
            found[payload.exit_status, payload.exit_signal] += event.hits
    return found


class TestEnds:
    pytestmark = needs_bpf

    async def test_ends_are_counted_exactly_by_status_and_signal(self, tmp_path: Path):
        """300 ends with 0, 200 with 3 and 100 by signal 9, from both CPUs at once, are just as many."""
        program = str(shutil.copy(spawner(), tmp_path / new_tag()))
        collector = ProcessCollector()
        await collector.start(settings(exits=True))
        for how, count in {("exit", "0"): 300, ("exit", "3"): 200, ("signal", "9"): 100}.items():
            work = (program, "vfork", str(count // 2), "tag", *how)
            await asyncio.gather(*(run(*work, cpu=cpu) for cpu in (0, 1)))
        collected = await collector.stop()
        spawners = 3 * 2
        assert ends(collected.events, program) == {(0, None): 300 + spawners, (3, None): 200, (None, 9): 100}
        assert lost(collected) == {}

    async def test_threads_have_no_end_of_their_own(self, tmp_path: Path):
        """Programs executed by a thread, children with threads, and threads: one end for each process."""
        program = str(shutil.copy(spawner(), tmp_path / new_tag()))
        collector = ProcessCollector()
        await collector.start(settings(exits=True))
        for kind in ("thread-exec", "threaded-fork", "threads", "fork"):
            await run(program, kind, "50", "tag")
        collected = await collector.stop()
        assert ends(collected.events, program) == {(0, None): 3 * 50 + 4}

    @pytest.mark.parametrize("mode", [ProcessMode.EBPF, ProcessMode.NETLINK])
    async def test_the_end_of_what_ran_before_is_seen(self, mode: ProcessMode):
        """What began before the collector is known by its executable, and how it ended is told."""
        tag = new_tag()
        collector = ProcessCollector()
        async with Lingering(3, tag):
            await collector.start(settings(mode, exits=True))
            before = ends((await collector.collect()).events, spawner())
        after = ends((await collector.stop()).events, spawner())
        assert before == {}
        assert after == {(None, 9): 3, (0, None): 1}

    async def test_the_connector_counts_ends_as_exactly(self):
        """40 ends with 3 are 40, under the executable where /proc showed it in time."""
        collector = ProcessCollector()
        await collector.start(settings(ProcessMode.NETLINK, exits=True))
        tag = new_tag()
        await spawn("vfork", 40, tag, "exit", "3")
        collected = await collector.stop()
        statuses = Counter(
            {e: e.hits for e in collected.events if getattr(e.payload, "exit_status", None) == 3}
        )
        assert statuses.total() >= 40

    async def test_nothing_of_it_is_told_unless_wanted(self, ebpf: ProcessCollector):
        """By default a process's end is no event."""
        await spawn("vfork", 5, new_tag(), "x")
        events = (await ebpf.collect()).events
        assert "EXIT" not in {getattr(event.payload, "event_type", "") for event in events}

    async def test_polling_says_that_it_cannot_see_them(self):
        """The source tells what is missing."""
        collector = ProcessCollector()
        await collector.start(settings(ProcessMode.POLLING, exits=True))
        assert collector.source == f"{POLLING} ({EXITS_UNSEEN})"
        await collector.stop()

    async def test_switched_on_at_run_time_nothing_is_lost(self, ebpf: ProcessCollector):
        """Executions from before and after are counted once each; ends from then on."""
        tag = new_tag()
        await spawn("vfork", 20, tag, "x")
        await ebpf.apply(settings(exits=True))
        await spawn("vfork", 30, tag, "exit", "77")
        events = (await ebpf.collect()).events
        assert hits(events, tag)["EXEC", f"{spawner()} {tag} x"] == 20
        assert hits(events, tag)["EXEC", f"{spawner()} {tag} exit 77"] == 30
        assert ends(events, spawner())[77, None] == 30


class TestSecrets:
    pytestmark = needs_bpf

    async def test_lines_that_differ_in_the_secret_alone_are_one_event(self, ebpf: ProcessCollector):
        """600 executions under 500 passwords are one event with 600 hits, and no password is in it."""
        tag = new_tag()
        await asyncio.gather(
            spawn("distinct", 500, tag, "", "--token", "hunter2", cpu=0),
            *(spawn("vfork", 50, tag, "0", f"--password={word}", cpu=1) for word in ("first", "second")),
        )
        events = (await ebpf.collect()).events
        (merged,) = of(events, f"{spawner()} {tag} 0 --password=REDACTED")
        assert merged.hits == 100
        assert isinstance(merged.payload, Process)
        assert merged.payload.masked == 1
        assert not any(of(events, word) for word in ("hunter2", "first", "second"))

    async def test_ever_new_secrets_fit_in_the_smallest_cache(self, ebpf: ProcessCollector):
        """In a cache of two, 3,000 secrets are one event, and what it counts is all that happened."""
        small = ProcessCollector()
        await small.start(settings(cache=2))
        tag = new_tag()
        for _ in range(10):  # short of filling the ring each time
            await spawn("secrets", 300, tag, "--token", "the secret")
        collected = await small.stop()
        everything = await ebpf.collect()
        line = f"{spawner()} {tag} --token REDACTED"
        assert hits(everything.events, tag)["EXEC", line] == 3000
        assert hits(collected.events, tag)["EXEC", line] + sum(lost(collected).values()) >= 3000
        assert total(collected) <= total(everything)

    async def test_it_can_be_switched_off(self):
        """Then command lines are kept as they are."""
        collector = ProcessCollector()
        await collector.start(settings(redact=False))
        tag = new_tag()
        await run(spawner(), tag, "--password=plain")
        events = (await collector.stop()).events
        assert of(events, f"{tag} --password=plain")


class TestTheLadder:
    pytestmark = needs_root

    @pytest.mark.parametrize(
        ("mode", "source"), [(ProcessMode.NETLINK, NETLINK), (ProcessMode.POLLING, POLLING)]
    )
    async def test_a_mode_names_its_source(self, mode: ProcessMode, source: str):
        """Where it works, the first source of a mode is taken without excuses."""
        collector = ProcessCollector()
        await collector.start(settings(mode))
        assert collector.source == source
        await collector.stop()

    async def test_auto_falls_back_and_says_why(self, monkeypatch: pytest.MonkeyPatch):
        """Without libbpf the connector counts, and the source tells what would bring eBPF back."""
        bpf._libbpf.cache_clear()
        monkeypatch.setattr(bpf, "LIBRARY", "libbpf-that-is-not-there.so.1")
        collector = ProcessCollector()
        await collector.start(settings(ProcessMode.AUTO))
        assert collector.source.startswith(f"{NETLINK} ({EBPF}: libbpf-that-is-not-there.so.1")
        assert "install the package libbpf1" in collector.source
        await collector.stop()

    async def test_ebpf_only_does_not_fall_back(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        """Mode 4 refuses a machine without type information, with the remedy."""
        monkeypatch.setattr(bpf, "BTF", tmp_path / "vmlinux")
        with pytest.raises(Unavailable, match="CONFIG_DEBUG_INFO_BTF"):
            await ProcessCollector().start(settings())

    async def test_the_connector_tells_executions_and_forks(self, monkeypatch: pytest.MonkeyPatch):
        """The same events as from eBPF, for processes that /proc still shows when they are read."""
        monkeypatch.setattr(proc_connector, "SETTLED", 0.0)
        collector = ProcessCollector()
        await collector.start(settings(ProcessMode.NETLINK))
        tag = new_tag()
        line = f"{spawner()} linger 3 {tag}"
        async with Lingering(3, tag):
            collected = await collector.collect()
        await collector.stop()
        assert hits(collected.events, tag) == {("EXEC", line): 1, ("FORK", line): 3}

    async def test_polling_finds_what_lives_long_enough(self):
        """A process that is still there at the next look is one EXEC, however often it is looked at."""
        collector = ProcessCollector()
        await collector.start(settings(ProcessMode.POLLING))
        tag = new_tag()
        async with Lingering(0, tag):
            first = await collector.collect()
            second = await collector.collect()
        await collector.stop()
        assert hits(first.events, tag) == {("EXEC", f"{spawner()} linger 0 {tag}"): 1}
        assert hits(second.events, tag) == {}


class TestChangingSettings:
    pytestmark = needs_bpf

    async def test_cache_and_policy_change_under_the_running_source(self, ebpf: ProcessCollector):
        """What was counted before a smaller cache came is reported or dropped, and counted once."""
        tag = new_tag()
        await spawn("vfork", 50, tag, "x")
        await ebpf.apply(settings(cache=ROOMY - 1, overflow="drop-new"))
        await spawn("vfork", 50, tag, "x")
        assert hits((await ebpf.collect()).events, tag)["EXEC", f"{spawner()} {tag} x"] == 100

    @pytest.mark.parametrize(
        "other",
        [settings(ProcessMode.POLLING), settings(cache=ROOMY + 1)],
        ids=["other source", "larger map"],
    )
    async def test_what_the_old_source_saw_is_kept(self, ebpf: ProcessCollector, other: Settings):
        """Events from before a change of source are in the next report, once."""
        tag = new_tag()
        await spawn("vfork", 50, tag, "x")
        await ebpf.apply(other)
        assert hits((await ebpf.collect()).events, tag)["EXEC", f"{spawner()} {tag} x"] == 50
        assert hits((await ebpf.collect()).events, tag) == {}

    async def test_a_mode_without_a_source_stops_the_old_one(
        self, ebpf: ProcessCollector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        """Unavailable is raised, nothing counts any more, and what was seen is not lost."""
        tag = new_tag()
        await spawn("vfork", 5, tag, "x")
        await ebpf.apply(settings(ProcessMode.POLLING))
        monkeypatch.setattr(bpf, "BTF", tmp_path / "vmlinux")
        with pytest.raises(Unavailable):
            await ebpf.apply(settings(ProcessMode.EBPF))
        await spawn("vfork", 5, tag, "x")
        assert ebpf.source == "none"
        assert hits((await ebpf.collect()).events, tag)["EXEC", f"{spawner()} {tag} x"] == 5


HELD = """
import asyncio, sys
from vedette.agent.collectors.process import ProcessCollector
from vedette.wire.twin import ProcessMode, Settings

async def main():
    await ProcessCollector().start(Settings(process_mode=ProcessMode.EBPF))
    print("counting", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class TestLeavingNoTrace:
    pytestmark = needs_bpf

    async def test_sigkill_leaves_no_program_map_or_link(self):
        """What a killed agent had in the kernel is gone: nothing was pinned."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HELD, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        assert await process.stdout.readline() == b"counting\n"
        held = held_by(process.pid)
        assert {kind for kind, _ in held} == {"prog", "map", "link"}
        assert all(exists(kind, number) for kind, number in held)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with asyncio.timeout(60):
            while any(exists(kind, number) for kind, number in held):  # freed after a grace period
                await asyncio.sleep(0.02)


def held_by(pid: int) -> set[tuple[str, int]]:
    """Kind and id of every BPF object that a process has open."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("prog_id", "map_id", "link_id"):
                found.add((name.removesuffix("_id"), int(value)))
    return found


def exists(kind: str, number: int) -> bool:
    """Whether the kernel still knows a BPF object."""
    fd = getattr(bpf._libbpf(), f"bpf_{kind}_get_fd_by_id")(number)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


@pytest.mark.parametrize(
    ("event", "arguments", "shown"),
    [
        ("EXEC", b"sh\0-c\0\0", "sh -c ''"),
        ("EXEC", b"cut\0in the mid", "cut 'in the mid'"),
        ("FORK", b"worker: idle\0\0\0\0\0", "'worker: idle'"),
        ("EXEC", b"\0a\0", "'' a"),
    ],
)
def test_arguments_are_quoted_for_a_shell(event: str, arguments: bytes, shown: str):
    """Empty and cut arguments survive; the NULs after an overwritten title do not."""
    seen = msgspec.convert(
        {"event": event, "at": 0, "pid": 1, "ppid": 0, "uid": 0, "arguments": b"", "length": 0}, Seen
    )
    assert command_line(msgspec.structs.replace(seen, arguments=arguments), redacted=False) == (shown, 0)

"""The eBPF object: what is shipped, what the loader refuses, what the counter does at its limits."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from spawning import needs_bpf, needs_root, new_tag, spawn

from vedette.agent.losses import KERNEL_MAP_FULL, KERNEL_RING_FULL
from vedette.agent.sources import Unavailable, bpf
from vedette.agent.sources.process import Seen
from vedette.agent.sources.process_bpf import ANNOUNCED_MAX, OBJECT, ProcessCounter


@pytest.mark.skipif(not shutil.which("clang"), reason="needs clang")
@pytest.mark.skipif(not shutil.which("llvm-strip"), reason="needs llvm-strip")
@pytest.mark.skipif(not Path("/usr/include/bpf/bpf_helpers.h").exists(), reason="needs libbpf-dev")
def test_shipped_objects_are_what_their_sources_compile_to(tmp_path: Path):
    """A rebuild in another folder, by the same compiler, gives the same bytes."""
    sources = tmp_path / "elsewhere"
    shutil.copytree(bpf.OBJECTS, sources, ignore=shutil.ignore_patterns("*.o", "COMPILER"))
    subprocess.run(["make", "-s", "-C", sources], check=True)
    compiler = (sources / "COMPILER").read_text()
    shipped = (bpf.OBJECTS / "COMPILER").read_text()
    if compiler != shipped:
        pytest.skip(f"compiled by {shipped.strip()}, this is {compiler.strip()}")
    objects = sorted(path.name for path in bpf.OBJECTS.glob("*.bpf.o"))
    assert objects == sorted(f"{path.name.removesuffix('.c')}.o" for path in bpf.OBJECTS.glob("*.bpf.c"))
    for name in objects:
        assert (sources / name).read_bytes() == (bpf.OBJECTS / name).read_bytes(), f"{name}: run `make bpf`"


class Heard:
    """What a counter announced, by generation."""

    def __init__(self) -> None:
        self.keys: list[set[bytes]] = [set(), set()]
        self._seen: dict[bytes, Seen] = {}

    def __call__(self, generation: int, key: bytes, seen: Seen) -> None:
        self.keys[generation].add(key)
        self._seen[key] = seen

    def tagged(self, tag: str) -> set[bytes]:
        """Keys of executions that have a tag in their arguments."""
        return {k for k, s in self._seen.items() if s.event == "EXEC" and tag.encode() in s.arguments}


@pytest.fixture
def heard() -> Heard:
    return Heard()


class TestLimits:
    pytestmark = needs_bpf

    async def test_a_full_ring_leaves_no_key_without_its_meaning(self, heard: Heard):
        """Nobody reads while 1,500 command lines of 1 KB come: what does not fit is counted, not kept."""
        counter = ProcessCounter(4096, heard)
        counter.begin()
        await spawn("distinct", 1500, new_tag(), "", "x" * 1000)
        finished = await counter.finish()
        counter.close()
        counted = sum(hits for _, hits in finished.hits)
        lost = {loss.reason: loss.hits for loss in finished.losses}
        assert {key for key, _ in finished.hits} == heard.keys[0]
        assert lost.keys() == {KERNEL_RING_FULL}
        assert counted + lost[KERNEL_RING_FULL] >= 1501

    async def test_a_full_ring_forgets_so_that_the_next_execution_is_announced(self, heard: Heard):
        """A command line that was lost in one generation is counted again in the next."""
        tag = new_tag()
        counter = ProcessCounter(4096, heard)
        counter.begin()
        await spawn("distinct", 300, tag, "", "x" * 1000)
        first = await counter.finish()
        load = asyncio.create_task(spawn("distinct", 50, tag, "", "x" * 1000))
        while not load.done():
            counter.hear()  # what the rest of the machine executes meanwhile fills the ring, too
            await asyncio.sleep(0.01)
        await load
        second = await counter.finish()
        counter.close()
        assert [loss.reason for loss in first.losses] == [KERNEL_RING_FULL]
        assert second.losses == []
        assert len(second.hits) >= 51

    async def test_maps_change_their_size_without_losing_a_count(self, heard: Heard):
        """Larger and smaller again while 4,000 distinct programs run: hits and losses are all of them."""
        counter = ProcessCounter(1, heard)
        counter.begin()
        tag = new_tag()
        load = asyncio.create_task(spawn("distinct", 4000, tag, ""))
        finished = []
        capacity = 1
        while not load.done():
            capacity = 6000 - capacity
            await counter.resize(capacity)
            finished.append(await counter.finish())
            counter.hear()
        await load
        finished += [await counter.finish(), await counter.finish()]
        counter.close()
        counted = sum(hits for each in finished for _, hits in each.hits)
        lost = sum(loss.hits for each in finished for loss in each.losses)
        assert len(finished) > 4
        assert counted >= 4001 - lost
        own = [key for each in finished for key, _ in each.hits if key in heard.tagged(tag)]
        assert len(own) == len(set(own)), "each distinct program once"
        assert 4001 - lost <= len(own) <= 4001

    async def test_a_full_map_is_a_counted_loss(self, heard: Heard):
        """Keys beyond the map's capacity are lost one by one, those within it are counted on."""
        counter = ProcessCounter(1, heard)
        counter.begin()
        for _ in range(5):  # short of filling the ring each time
            await spawn("distinct", 500, new_tag(), "")
            counter.hear()
        finished = await counter.finish()
        counter.close()
        lost = {loss.reason: loss.hits for loss in finished.losses}
        assert len(finished.hits) == 1 + ANNOUNCED_MAX
        assert lost.keys() == {KERNEL_MAP_FULL}
        assert sum(hits for _, hits in finished.hits) + lost[KERNEL_MAP_FULL] >= 5 * 501

    async def test_forgetting_returns_the_hits_and_makes_a_key_new(self, heard: Heard):
        """A forgotten key is announced again, and its hits of before are counted as handed over."""
        tag = new_tag()
        counter = ProcessCounter(4096, heard)
        counter.begin()
        await spawn("vfork", 20, tag)
        counter.hear()
        forgotten = {key: counter.forget(0, key) for key in heard.keys[0]}
        await spawn("vfork", 30, tag)
        finished = await counter.finish()
        counter.close()
        again = [(forgotten[key], hits) for key, hits in finished.hits if key in forgotten]
        assert (20, 30) in again
        assert finished.losses == []


class TestTheLoader:
    def test_an_old_kernel_is_named(self, monkeypatch: pytest.MonkeyPatch):
        """The text says which kernel runs and which would do."""
        monkeypatch.setattr(bpf, "KERNEL_FLOOR", (99, 0))
        assert any("is older than" in obstacle.reason for obstacle in bpf.obstacles())

    def test_lockdown_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        """Confidentiality lockdown keeps programs from reading the kernel; integrity does not."""
        lockdown = tmp_path / "lockdown"
        monkeypatch.setattr(bpf, "LOCKDOWN", lockdown)
        lockdown.write_text("none [integrity] confidentiality\n")
        assert not any("lockdown" in obstacle.reason for obstacle in bpf.obstacles())
        lockdown.write_text("none integrity [confidentiality]\n")
        assert any("lockdown" in obstacle.reason for obstacle in bpf.obstacles())


class TestLoading:
    pytestmark = needs_bpf

    def test_a_missing_object_is_a_broken_installation(self):
        """The remedy is to install the agent again."""
        with pytest.raises(Unavailable, match="reinstall the agent"):
            bpf.load("missing.bpf.o", constants=b"", entries={})

    def test_constants_must_fit_to_the_byte(self):
        """A structure that is not the one of the C text is refused before anything is loaded."""
        with pytest.raises(Unavailable, match="constants of"):
            bpf.load(OBJECT, constants=b"short", entries={})

    def test_an_unknown_map_is_our_mistake(self):
        """Naming a map that the object lacks is no property of the machine."""
        with pytest.raises(KeyError, match="no map nowhere"):
            bpf.load(OBJECT, constants=bytes(32), entries={"nowhere": 1})

    def test_a_closed_map_is_an_error_with_its_name(self):
        """Operations on what is gone fail loudly."""
        loaded = bpf.load(OBJECT, constants=bytes(32), entries={})
        counts = loaded.maps["counts_0"]
        loaded.close()
        with pytest.raises(OSError, match="counts_0"):
            counts.get(bytes(16))


class TestMap:
    pytestmark = needs_bpf

    def test_take_all_empties_a_map_of_any_size(self):
        """Thousands of entries come out in batches, each once, and none stays."""
        loaded = bpf.load(OBJECT, constants=bytes(32), entries={"counts_0": 5000})
        counts = loaded.maps["counts_0"]
        put = {i.to_bytes(16, "little"): (i * 3).to_bytes(8, "little") for i in range(5000)}
        for key, value in put.items():
            counts.put(key, value)
        assert dict(counts.take_all()) == put
        assert list(counts.take_all()) == []
        loaded.close()

    def test_present_names_every_key_once(self):
        """The keys of a quiet map are complete."""
        loaded = bpf.load(OBJECT, constants=bytes(32), entries={})
        counts = loaded.maps["counts_1"]
        put = {i.to_bytes(16, "little") for i in range(100)}
        for key in put:
            counts.put(key, bytes(8))
        assert sorted(counts.present()) == sorted(put)
        loaded.close()

    @pytest.mark.parametrize("old_kernel", [False, True], ids=["in one call", "before kernel 5.14"])
    def test_take_returns_the_last_value_once(self, old_kernel: bool, monkeypatch: pytest.MonkeyPatch):
        """A key is gone with its value in hand, where the kernel does both in one call and where not."""
        loaded = bpf.load(OBJECT, constants=bytes(32), entries={})
        counts = loaded.maps["counts_0"]
        if old_kernel:
            monkeypatch.setattr(
                bpf._libbpf(), "bpf_map_lookup_and_delete_elem", lambda *_: -bpf.ENOTSUPP, raising=True
            )
        counts.put(bytes(16), b"8 bytes.")
        assert counts.take(bytes(16)) == b"8 bytes."
        assert counts.take(bytes(16)) is None
        loaded.close()


class TestWithoutRights:
    pytestmark = needs_root

    def test_missing_capabilities_are_named(self):
        """Without capabilities the text says which ones to grant."""
        code = "from vedette.agent.sources import bpf\nprint(*bpf.obstacles())"
        found = subprocess.run(
            ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "CAP_PERFMON and CAP_BPF missing" in found.stdout

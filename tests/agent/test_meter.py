"""Processor time finds its way to the collector on whose behalf it was spent."""

import asyncio
import os
import time

import pytest

from vedette.agent.meter import OWNER, MeteredLoop, on_behalf, spent

BURN_S = 0.05


def burn(seconds: float = BURN_S) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.fixture
def runner():
    with asyncio.Runner(loop_factory=MeteredLoop) as running:
        yield running


def test_work_is_measured_wherever_it_happens(runner: asyncio.Runner):
    """In a coroutine, a timer, a reader, a task of its own and a worker thread."""

    async def collector() -> None:
        loop = asyncio.get_running_loop()
        burn()
        await asyncio.sleep(0)
        done = loop.create_future()
        loop.call_later(0, lambda: (burn(), done.set_result(None)))
        await done
        await asyncio.create_task(asyncio.to_thread(burn))
        read, write = os.pipe()
        heard = loop.create_future()
        loop.add_reader(read, lambda: (burn(), loop.remove_reader(read), heard.set_result(None)))
        os.write(write, b"x")
        await heard
        os.close(read)
        os.close(write)

    async def main() -> None:
        await on_behalf("A", collector())
        burn()
        assert spent()["A"] >= 4 * BURN_S
        assert spent()["A"] < 4.9 * BURN_S, "what the agent itself does is nobody's"

    runner.run(main())


def test_collectors_are_told_apart(runner: asyncio.Runner):
    """Interleaved on one loop, each has its own sum."""

    async def slices(count: int) -> None:
        for _ in range(count):
            burn(0.01)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(on_behalf("A", slices(9)), on_behalf("B", slices(3)))
        assert spent()["A"] >= 0.09 > 0.06 > spent()["B"] >= 0.03

    runner.run(main())


async def test_a_loop_that_does_not_measure_says_nothing():
    """The agent works on any loop; only the governor is blind there."""

    async def who() -> str:
        return OWNER.get()

    assert await on_behalf("A", who()) == "A"
    assert OWNER.get() == ""
    assert spent() == {}


async def test_failures_come_through():
    """Exceptions reach whoever awaits the work."""

    async def fails() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await on_behalf("A", fails())

"""Waiting on the event loop until the kernel has something to read."""

from __future__ import annotations

import asyncio


async def readable(*fds: int, timeout: float | None = None) -> set[int]:
    """Wait until some of the file descriptors can be read; none after `timeout` seconds without that.

    They are registered only while this waits: in between the loop is not woken, and they may be closed.
    """
    loop = asyncio.get_running_loop()
    ready: set[int] = set()
    woken = asyncio.Event()

    def note(fd: int) -> None:
        ready.add(fd)
        woken.set()

    for fd in fds:
        loop.add_reader(fd, note, fd)
    try:
        async with asyncio.timeout(timeout):
            await woken.wait()
    except TimeoutError:
        return ready
    finally:
        for fd in fds:
            loop.remove_reader(fd)
    return ready

"""Waiting on the event loop until the kernel has something to read."""

from __future__ import annotations

import asyncio


async def readable(*fds: int, timeout: float | None = None) -> bool:
    """Wait until one of the file descriptors can be read; False after `timeout` seconds without that.

    They are registered only while this waits: in between the loop is not woken, and they may be closed.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    for fd in fds:
        loop.add_reader(fd, ready.set)
    try:
        async with asyncio.timeout(timeout):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        for fd in fds:
            loop.remove_reader(fd)
    return True

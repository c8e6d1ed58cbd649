"""Which collector uses how much processor time.

Collectors share one event loop, so the kernel cannot tell them apart. But whatever a collector starts
(tasks, timers, readers, work for a thread) inherits its context, and `MeteredLoop` adds up the time of each
callback under the name that it finds there. What has no name is the agent's own and is not measured.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

OWNER: ContextVar[str] = ContextVar("collector", default="")
"""On whose behalf the present code runs: the name of a collector, or nothing."""


async def on_behalf(owner: str, work: Coroutine[Any, Any, _T]) -> _T:
    """Await a coroutine in a task, under an owner's name."""
    context = copy_context()
    context.run(OWNER.set, owner)
    return await asyncio.get_running_loop().create_task(work, context=context)


class MeteredLoop(asyncio.SelectorEventLoop):
    """An event loop that knows what callbacks cost: two more reads of a clock for each that has an owner."""

    def __init__(self) -> None:
        super().__init__()
        self._spent: dict[str, float] = {}
        self._turn = threading.Lock()  # worker threads add their share

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds of processor time by owner, since the loop began."""
        with self._turn:
            return dict(self._spent)

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As in asyncio, measured."""
        return super().call_soon(self._metered(callback, context), *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio, measured; `call_later` comes here too."""
        return super().call_at(when, self._metered(callback, context), *args, context=context)

    def add_reader(self, fd: Any, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        """As in asyncio, measured."""
        super().add_reader(fd, self._metered(callback), *args)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """As in asyncio, measured; `asyncio.to_thread` comes here too."""
        return super().run_in_executor(executor, self._metered(func), *args)

    def _metered(
        self, callback: Callable[[*_Ts], _T], context: Context | None = None
    ) -> Callable[[*_Ts], _T]:
        owner = context.get(OWNER, "") if context else OWNER.get()
        if not owner:
            return callback

        def measured(*args: *_Ts) -> _T:
            begin = time.thread_time()
            try:
                return callback(*args)
            finally:
                used = time.thread_time() - begin
                with self._turn:
                    self._spent[owner] = self._spent.get(owner, 0.0) + used

        return measured


def spent() -> Mapping[str, float]:
    """What the running loop has measured; nothing if it does not measure."""
    loop = asyncio.get_running_loop()
    return loop.spent if isinstance(loop, MeteredLoop) else {}

"""Room for waiting messages: bounded, first come first served."""

import asyncio

from vedette.hub.gateway.room import Room


async def enter(room: Room, size: int, order: list[int]) -> asyncio.Task[None]:
    """Start entering and let it come as far as it can."""

    async def go() -> None:
        await room.enter(size)
        order.append(size)

    task = asyncio.create_task(go())
    await asyncio.sleep(0)
    return task


async def test_room_is_bounded_by_number_and_bytes():
    """Whichever bound is met first makes the next one wait; the last one in may exceed the bytes."""
    order: list[int] = []
    room = Room(2, 100)
    await enter(room, 1, order)
    await enter(room, 150, order)
    waiting = await enter(room, 2, order)
    assert (order, room.messages, room.bytes) == ([1, 150], 2, 151)
    room.leave(1)
    await asyncio.sleep(0)
    assert not waiting.done()
    room.leave(150)
    await waiting
    assert (order, room.messages, room.bytes) == ([1, 150, 2], 1, 2)


async def test_nobody_is_overtaken():
    """Who comes while others wait goes behind them, even if there is room at that moment."""
    order: list[int] = []
    room = Room(1, 100)
    await enter(room, 1, order)
    waiting = [await enter(room, size, order) for size in (2, 3)]
    room.leave(1)
    waiting.append(await enter(room, 4, order))
    for size in (2, 3, 4):
        await waiting[size - 2]
        room.leave(size)
    assert order == [1, 2, 3, 4]


async def test_giving_up_passes_the_turn_on():
    """A waiter that is cancelled just when its turn comes does not block those behind it."""
    order: list[int] = []
    room = Room(1, 100)
    await enter(room, 1, order)
    first, second = await enter(room, 2, order), await enter(room, 3, order)
    room.leave(1)
    first.cancel()
    await second
    assert (order, room.messages) == ([1, 3], 1)

"""A stream in batches: full ones, what has waited long enough, and nothing of what broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from services.pods.batches import Batches

LONG = 3600.0


async def counted(until: int, error: Exception | None = None) -> AsyncIterator[int]:
    for number in range(until):
        yield number
    if error is not None:
        raise error


async def taken(items: AsyncIterator[int], size: int = 3, seconds: float = LONG) -> list[list[int]]:
    async with asyncio.timeout(10), aclosing(Batches(items, size=size, seconds=seconds).run()) as batches:
        return [batch async for batch in batches]


@pytest.mark.parametrize(
    ("count", "found"),
    [(0, []), (1, [[0]]), (3, [[0, 1, 2]]), (7, [[0, 1, 2], [3, 4, 5], [6]])],
)
async def test_full_ones_and_the_rest(count: int, found: list[list[int]]) -> None:
    assert await taken(counted(count)) == found


async def test_what_comes_slowly_waits_for_a_while_only() -> None:
    done = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        yield 2
        await done.wait()
        yield 3

    async with asyncio.timeout(10), aclosing(Batches(slow(), size=9, seconds=0.01).run()) as batches:
        assert await anext(batches) == [1, 2]
        done.set()
        assert await anext(batches) == [3]
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


async def test_a_failure_drops_what_stands_behind_the_last_batch() -> None:
    async with (
        asyncio.timeout(10),
        aclosing(Batches(counted(5, ValueError("broken")), size=3, seconds=LONG).run()) as batches,
    ):
        assert await anext(batches) == [0, 1, 2]
        with pytest.raises(ValueError, match="broken"):
            await anext(batches)


async def test_no_more_is_read_than_fits() -> None:
    read = 0

    async def source() -> AsyncIterator[int]:
        nonlocal read
        for number in range(100):
            read += 1
            yield number

    async with asyncio.timeout(10), aclosing(Batches(source(), size=3, seconds=LONG).run()) as batches:
        await anext(batches)
        for _ in range(20):
            await asyncio.sleep(0)
        assert read == 6


async def test_the_source_is_let_go_when_nobody_wants_more() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with asyncio.timeout(10):
        async with aclosing(Batches(source(), size=1, seconds=LONG).run()) as batches:
            assert await anext(batches) == [1]
        await closed.wait()

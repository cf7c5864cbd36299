"""What ends a stream in time, and why."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from shared.errors import DeadlineExceeded, Unavailable
from shared.rpc.limit import Limit
from shared.rpc.status import StatusError


async def test_without_a_time_it_ends_nothing() -> None:
    async with Limit() as limit:
        await asyncio.sleep(0)
    assert not limit.is_set and limit.reason is None


async def test_it_ends_what_waits_and_says_why() -> None:
    limit = Limit()
    with pytest.raises(StatusError) as caught:
        async with asyncio.timeout(10), limit:
            limit.end_after(0.01, DeadlineExceeded("too late"))
            await asyncio.Event().wait()
    assert (caught.value.status.code, caught.value.status.message) == (
        StatusCode.DEADLINE_EXCEEDED,
        "too late",
    )
    assert isinstance(limit.reason, DeadlineExceeded)


@pytest.mark.parametrize("order", [(0.01, 3600.0), (3600.0, 0.01), (-5.0, 0.01)])
async def test_the_first_of_several_counts(order: tuple[float, float]) -> None:
    reasons = {seconds: Unavailable(str(seconds)) for seconds in order}
    with pytest.raises(StatusError) as caught:
        async with asyncio.timeout(10), Limit() as limit:
            for seconds in order:
                limit.end_after(seconds, reasons[seconds])
            await asyncio.Event().wait()
    assert caught.value.status.message == str(min(order))


async def test_what_ends_before_it_ends_well() -> None:
    async with Limit() as limit:
        limit.end_after(3600, Unavailable("never"))
    assert limit.is_set and limit.reason is None


async def test_other_cancellations_and_timeouts_are_not_its_own() -> None:
    async def waits() -> None:
        async with Limit() as limit:
            limit.end_after(3600, Unavailable("never"))
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        async with Limit() as limit:
            limit.end_after(3600, Unavailable("never"))
            raise TimeoutError

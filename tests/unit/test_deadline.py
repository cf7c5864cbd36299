"""A stream's deadline: it cuts off what is awaited, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from shared.rpc.deadline import Deadline


class TooLate(Exception):
    pass


async def forever() -> None:
    await asyncio.Event().wait()


async def later() -> None:
    """Until a timer rings that was set after, and for later than, all others."""
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, rung.set)
    await rung.wait()


async def test_what_is_awaited_is_cut_off() -> None:
    deadline = Deadline()
    deadline.set(0.01, TooLate())
    async with asyncio.timeout(5):
        with pytest.raises(TooLate), deadline:
            await forever()
    task = asyncio.current_task()
    assert task is not None and not task.cancelling()


async def test_what_is_begun_later_is_refused() -> None:
    deadline = Deadline()
    deadline.set(0, TooLate())
    await later()
    with pytest.raises(TooLate), deadline:
        raise AssertionError("it must not begin")


async def test_waits_may_be_in_different_tasks() -> None:
    deadline = Deadline()

    async def wait(event: asyncio.Event) -> None:
        with deadline:
            await event.wait()

    over = asyncio.Event()
    over.set()
    await asyncio.create_task(wait(over))
    deadline.set(0.01, TooLate())
    with pytest.raises(TooLate):
        async with asyncio.timeout(5):
            await asyncio.create_task(wait(asyncio.Event()))


async def test_the_last_time_that_was_set_counts() -> None:
    deadline = Deadline()
    deadline.set(0.001, TooLate("first"))
    deadline.set(None, TooLate("never"))
    with deadline:
        await later()
    deadline.set(60, TooLate("in a minute"))
    deadline.set(0.001, TooLate("now"))
    with pytest.raises(TooLate, match="now"), deadline:
        await forever()


async def test_a_cancelled_one_does_not_pass() -> None:
    deadline = Deadline()
    deadline.set(0.001, TooLate())
    deadline.cancel()
    with deadline:
        await later()


@pytest.mark.parametrize("also_passes", [False, True])
async def test_a_cancelled_caller_stays_cancelled(also_passes: bool) -> None:
    deadline = Deadline()
    begun = asyncio.Event()

    async def wait() -> None:
        with deadline:
            begun.set()
            await forever()

    task = asyncio.create_task(wait())
    await begun.wait()
    if also_passes:
        asyncio.get_running_loop().call_soon(task.cancel)
        deadline.set(0, TooLate())
    else:
        task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done == {task}
    # Whichever comes first, the caller's cancellation is not swallowed.
    assert task.cancelled() or isinstance(task.exception(), TooLate)
    assert task.cancelled() or also_passes


async def test_other_errors_pass_through() -> None:
    deadline = Deadline()
    deadline.set(60, TooLate())
    with pytest.raises(TimeoutError), deadline:
        raise TimeoutError
    deadline.cancel()

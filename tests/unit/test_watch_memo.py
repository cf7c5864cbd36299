"""What watches share: values kept for each other, and alarms that are put off."""

from __future__ import annotations

import asyncio
import time

from shared.watch.alarm import Alarm
from shared.watch.memo import Memo


def test_a_memo_keeps_the_newest_within_its_bounds() -> None:
    memo: Memo[str] = Memo(entries=2, max_bytes=100)
    memo.keep("a", "A", 40)
    memo.keep("b", "B", 40)
    memo.keep("c", "C", 10)
    assert [memo.get(key) for key in "abc"] == [None, "B", "C"]
    memo.keep("d", "D", 95)
    assert [memo.get(key) for key in "bcd"] == [None, None, "D"]
    memo.keep("e", "E", 1000)
    assert [memo.get(key) for key in "de"] == [None, "E"]


async def test_an_alarm_that_is_put_off_rings_at_the_later_time_only() -> None:
    alarm = Alarm()
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    alarm.put_off(started + 0.02)
    alarm.put_off(started + 0.08)
    sleeper: asyncio.Future[None] = loop.create_future()
    alarm.wakes(sleeper)
    async with asyncio.timeout(5):
        await sleeper
    assert alarm.rung
    assert time.monotonic() - started >= 0.08
    # It can be set again, and a cancelled one wakes nobody.
    alarm.put_off(time.monotonic() + 0.01)
    silent: asyncio.Future[None] = loop.create_future()
    alarm.wakes(silent)
    alarm.cancel()
    done, _ = await asyncio.wait([silent], timeout=0.05)
    assert not done


async def test_what_many_ask_for_at_once_is_made_once() -> None:
    memo: Memo[str] = Memo()
    made = 0
    going = asyncio.Event()

    async def make() -> str:
        nonlocal made
        made += 1
        await going.wait()
        return f"made {made}"

    asking = [asyncio.create_task(memo.share("a", make, len)) for _ in range(3)]
    other = asyncio.create_task(memo.share("b", make, len))
    await asyncio.sleep(0)
    going.set()
    found = await asyncio.gather(*asking)
    assert len(set(found)) == 1 and made == 2
    assert memo.get("a") == found[0] and memo.get("b") == await other


async def test_when_making_fails_or_is_cancelled_the_next_one_tries() -> None:
    memo: Memo[str] = Memo()
    tries = 0

    async def make() -> str:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        if tries == 1:
            raise OSError("no")
        if tries == 2:
            await asyncio.Event().wait()
        return "made"

    asking = [asyncio.create_task(memo.share("a", make, len)) for _ in range(3)]
    async with asyncio.timeout(5):
        while tries < 2:
            await asyncio.sleep(0)
        asking[1].cancel()
        found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in found] == [OSError, asyncio.CancelledError, str]
    assert tries == 3

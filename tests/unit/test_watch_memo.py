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

"""Which signals stop `up`, and which make it hurry. With real processes: tests/e2e/test_up.py."""

from __future__ import annotations

import asyncio
import signal

import pytest

from shared.cli.signals import SAME, Signals

DEADLINE = 20.0


class Clock:
    """Stands still until a test moves it; counts how often it was read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


async def send(number: int, clock: Clock) -> None:
    """And wait until it was heard."""
    reads = clock.reads
    signal.raise_signal(number)
    async with asyncio.timeout(DEADLINE):
        while clock.reads == reads:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("seconds", "hurries"), [(0.0, False), (SAME - 0.01, False), (SAME, True), (60.0, True)]
)
async def test_only_a_later_signal_hurries(seconds: float, hurries: bool) -> None:
    clock = Clock()
    signals = Signals(clock)
    signals.listen()
    try:
        assert signals.deaf() == 0.0
        await send(signal.SIGTERM, clock)
        assert signals.stop.is_set()
        clock.now += seconds
        assert signals.deaf() == pytest.approx(max(0.0, SAME - seconds))
        await send(signal.SIGINT, clock)
        assert signals.hurry.is_set() == hurries
        # What came too soon does not put off what comes in time.
        clock.now += SAME
        await send(signal.SIGHUP, clock)
        assert signals.hurry.is_set()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)

"""/readyz names what fails and does not wait for it for ever."""

from __future__ import annotations

import asyncio

from shared.service.health import Health
from shared.storage.errors import StoreUnavailable


async def fine() -> None:
    return None


async def broken() -> None:
    raise StoreUnavailable("the file is locked")


async def stuck() -> None:
    await asyncio.Event().wait()


async def test_ready_only_once_it_serves() -> None:
    health = Health("x", {"store": fine})
    assert set(await health.failures()) == {"serving"}
    health.serving = True
    assert await health.failures() == {}


async def test_every_failing_check_is_named_with_its_reason() -> None:
    health = Health("x", {"store": broken, "access store": stuck, "other": fine}, timeout=0.01)
    health.serving = True
    assert await health.failures() == {
        "store": "the file is locked",
        "access store": "no answer within 0.01 s",
    }

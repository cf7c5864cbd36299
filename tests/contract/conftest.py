"""The pipelines service, ready to be called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.pipelines_yard import BACKENDS, Clock, Yard, opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def yard(tmp_path: Path, clock: Clock) -> AsyncIterator[Yard]:
    """Single-user, in memory, nothing in it, at the time that `clock` says."""
    async with opened(tmp_path, clock=clock) as found:
        yield found


@pytest.fixture
async def any_yard(tmp_path: Path, clock: Clock, backend: str) -> AsyncIterator[Yard]:
    """As `yard`, on every backend."""
    async with opened(tmp_path, backend, clock=clock) as found:
        yield found

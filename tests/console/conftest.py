"""The real console over the real pipelines service, both on free ports of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.pipelines.service import SERVICE
from shared.service.testing import TestService, started
from tests.console.harness import Console, console_of


@pytest.fixture
async def pipelines(tmp_path: Path) -> AsyncIterator[TestService]:
    async with started(SERVICE, tmp_path / "data", default_experiment="false") as service:
        yield service


@pytest.fixture
async def console(pipelines: TestService, tmp_path: Path) -> AsyncIterator[Console]:
    async with console_of(pipelines, tmp_path / "console") as found:
        yield found

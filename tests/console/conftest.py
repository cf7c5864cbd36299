"""The real console over real services, all on free ports of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.meta.service import SERVICE as META
from services.pipelines.service import SERVICE
from shared.service.testing import TestService, started
from tests.console.catalogue import catalogue_client, manifest
from tests.console.harness import Console, console_of


@pytest.fixture
async def pipelines(tmp_path: Path) -> AsyncIterator[TestService]:
    async with started(SERVICE, tmp_path / "data", default_experiment="false") as service:
        yield service


@pytest.fixture
async def meta(tmp_path: Path) -> AsyncIterator[TestService]:
    async with started(META, tmp_path / "meta") as service:
        yield service


@pytest.fixture
async def catalogue(meta: TestService, tmp_path: Path) -> AsyncIterator[Console]:
    """The console over a meta service with eight regions and what runs there."""
    async with catalogue_client(meta) as client:
        await client.apply(manifest())
    async with console_of(meta, tmp_path / "console", name="meta") as found:
        yield found


@pytest.fixture
async def console(pipelines: TestService, tmp_path: Path) -> AsyncIterator[Console]:
    async with console_of(pipelines, tmp_path / "console") as found:
        yield found

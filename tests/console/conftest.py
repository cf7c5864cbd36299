"""The real console over real services, all on free ports of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.jumpstarter.service import SERVICE as JUMPSTARTER
from services.meta.service import SERVICE as META
from services.pipelines.service import SERVICE
from shared.service.testing import TestService, started
from tests.console.catalogue import catalogue_client, manifest
from tests.console.harness import Console, console_of
from tests.console.lab import LabClient, lab_client


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


@pytest.fixture
async def jumpstarter(tmp_path: Path) -> AsyncIterator[TestService]:
    async with started(JUMPSTARTER, tmp_path / "jumpstarter") as service:
        yield service


@pytest.fixture
async def lab(jumpstarter: TestService) -> AsyncIterator[LabClient]:
    """Who calls a lab that is empty."""
    async with lab_client(jumpstarter) as client:
        yield client


@pytest.fixture
async def bench(lab: LabClient, tmp_path: Path) -> AsyncIterator[Console]:
    """The console over that lab, an operator signed in who may act in `default` and `other`."""
    await lab.user("operator", "operator", "default", "other")
    async with console_of(lab.service, tmp_path / "console", name="jumpstarter") as found:
        await found.sign_in("operator")
        yield found

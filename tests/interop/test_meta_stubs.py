"""Stubs that a plain protoc makes of our proto files, used in a process that has nothing else of ours."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.api import annotations_pb2

from tests import process
from tests.patience import PATIENCE

pytestmark = pytest.mark.interop
PROTOS = Path(__file__).parents[2] / "shared" / "protos"
DRIVER = Path(__file__).with_name("meta_driver.py")
OURS = {"shared", "services", "admin_ui", "tests"}
CATALOGUE: dict[str, Any] = {
    "regions": [
        {"name": "regions/eu", "title": "Europe", "is_default": True, "location": {"city": "Rome"}},
        {"name": "regions/jp"},
        {"name": "regions/us", "title": "US East"},
    ],
    "services": [{"name": "services/a", "current_version": "v2", "all_versions": ["v2", "v1"]}],
    "resources": [{"name": "services/a/resources/Job"}],
    "deployments": [{"name": "regions/eu/deployments/a", "service": "services/a"}],
}


def generate(folder: Path) -> None:
    """As anybody would, with the annotations of googleapis beside."""
    third_party = Path(annotations_pb2.__file__).parents[2]
    files = [*PROTOS.glob("edgelq-sdk/meta/**/*.proto"), *PROTOS.glob("goten-sdk/types/*.proto")]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{third_party}"),
            *(f"--python_out={folder}", f"--grpc_python_out={folder}"),
            *(str(path.relative_to(PROTOS)) for path in files),
        ],
        check=True,
        timeout=PATIENCE,
    )


@asynccontextmanager
async def driver(stubs: Path, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """What it writes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, str(DRIVER), *arguments),
        cwd=stubs,
        env={**kept, "PYTHONPATH": str(stubs)},
        stdout=subprocess.PIPE,
    )
    assert running.stdout is not None
    try:
        yield running.stdout
        async with asyncio.timeout(PATIENCE):
            assert await running.wait() == 0
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def test_get_list_and_watch_with_stubs_of_a_plain_protoc(tmp_path: Path) -> None:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    await asyncio.to_thread(generate, stubs)
    async with process.started("meta", tmp_path / "data", catalogue="") as service:
        headers = {"Authorization": f"Bearer {await process.token(tmp_path / 'data')}"}
        async with aiohttp.ClientSession(service.url, headers=headers) as http:

            async def apply(**lists: Any) -> None:
                body = {"manifest": json.dumps(lists)}
                async with http.post("/admin/v1/apply", json=body) as answer:
                    assert answer.status == 200, await answer.text()

            await apply(**CATALOGUE)
            token = await process.token(tmp_path / "data", "viewer")
            async with driver(stubs, service.target, token) as told:

                async def line() -> Any:
                    async with asyncio.timeout(PATIENCE):
                        return json.loads(await told.readline())

                await reads_well(line)
                everything = [["current", region["name"]] for region in CATALOGUE["regions"]]
                added = [["added", name] for _, name in everything]
                assert await line() == {"stateless": everything, "stateful": added}
                assert await line() == {"one": "added"}
                await apply(regions=[{"name": "regions/us", "title": "new"}, {"name": "regions/zz"}])
                changed = ["regions/us", "regions/zz"]
                assert await line() == {
                    "stateless": [["current", name] for name in changed],
                    "stateful": [["added", "regions/zz"], ["modified", "regions/us"]],
                }
                assert await line() == {"one": "modified"}
                packages = set((await line())["packages"])
                assert {"edgelq_sdk", "google", "goten_sdk", "grpc"} <= packages
                assert not packages & OURS


async def reads_well(line: Any) -> None:
    assert await line() == {"get": ["regions/eu", "Europe", "Rome", 1]}
    assert await line() == {"masked": {"name": "regions/eu", "is_default": True}}
    assert await line() == {"batch": ["regions/us", "regions/eu"], "missing": ["regions/none"]}
    assert await line() == {"page": ["regions/us"], "of": 2, "after": 0}
    assert await line() == {"page": ["regions/eu"], "of": 2, "after": 1}
    assert await line() == {"code": "NOT_FOUND"}
    assert await line() == {"deployments": [["regions/eu/deployments/a", "services/a"]]}
    assert await line() == {"services": [["services/a", ["v2", "v1"]]]}
    assert await line() == {"resources": [["services/a/resources/Job", "a/Job"]]}

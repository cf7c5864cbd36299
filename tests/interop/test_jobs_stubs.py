"""Stubs that a plain protoc makes of Peloton's proto files, in a process that has nothing else of ours,
against a service that runs real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import process
from tests.patience import PATIENCE

pytestmark = pytest.mark.interop
PROTOS = Path(__file__).parents[2] / "shared" / "protos"
DRIVER = Path(__file__).with_name("jobs_driver.py")
OURS = {"shared", "services", "admin_ui", "tests"}
# For pods that are real, whoever runs this.
SETTINGS = {"jobs_allow_root": "true", "jobs_limits": "advisory", "jobs_end_pods": "true"}


def generate(folder: Path) -> None:
    """As anybody would."""
    files = [*PROTOS.glob("peloton/**/*.proto"), *PROTOS.glob("mesos/**/*.proto")]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"),
            *(f"--python_out={folder}", f"--grpc_python_out={folder}"),
            *(str(path.relative_to(PROTOS)) for path in files),
        ],
        check=True,
        timeout=PATIENCE,
    )


async def drive(stubs: Path, *arguments: str) -> list[Any]:
    """What the client wrote, a value a line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, str(DRIVER), *arguments),
        cwd=stubs,
        env={**kept, "PYTHONPATH": str(stubs)},
        stdout=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode == 0, output.decode()
    return [json.loads(line) for line in output.splitlines()]


async def test_the_life_of_a_job_with_stubs_of_a_plain_protoc(tmp_path: Path) -> None:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    await asyncio.to_thread(generate, stubs)
    async with process.started("jobs", tmp_path / "data", **SETTINGS) as service:
        try:
            told = await drive(stubs, service.target, await process.token(tmp_path / "data"))
        finally:
            # With its pods, whatever became of the client.
            ended = await service.end(signal.SIGTERM)
    assert ended == 0
    packages = set(told.pop()["packages"])
    assert {"peloton", "mesos", "grpc"} <= packages and not packages & OURS
    stale = told[4].pop("stale")
    assert stale[0] == "ABORTED" and "unexpected entity version" in stale[1]
    assert told == [
        {"watch": "job", "jobs": 0},
        {"created": "1-1-1"},
        {"states": ["JOB_STATE_PENDING", "JOB_STATE_RUNNING"]},
        {"watch": "CANCELLED"},
        {},
        {"added": [[2, 3]], "updated": [[0, 2]]},
        {"replaced": "2-1-2"},
        {"workflows": [["interop", [[2, 3]]], ["", [[0, 2]]]]},
        {"query": ["interop"], "total": 1},
        {"pods": ["-1", "-2"]},
        {"newest": "POD_STATE_RUNNING", "oldest": "POD_STATE_INITIALIZED"},
        {"files": ["stderr", "stdout"]},
        {"stopped": "2-2-2"},
        {"gone": "NOT_FOUND"},
    ]

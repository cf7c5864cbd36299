"""The suite's own jobs in the export of `roundhouse up`, and the commands of docs/apis/pods.md, run by a
shell as they stand there. Only the addresses are others."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.jobs.api.pools import DEFAULT_PATH, id_of
from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.api.v1.pod_service_pb2_grpc import PodServiceStub
from shared.pb.storage.pod_pb2 import Pod
from tests.contract.jobs_feed_yard import Life, called, until_same, wanted
from tests.contract.jobs_yard import until
from tests.e2e.process import DEADLINE, HOST, ROOT, Up, environment, gone, watched

pytestmark = pytest.mark.xdist_group("pods-document")
PAGE = (ROOT / "docs/apis/pods.md").read_text()
_FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are given: `var` below it is a suite's data."""
    return tmp_path_factory.mktemp("pods-document")


@pytest.fixture(scope="module")
def suites(folder: Path) -> Iterator[tuple[Up, Up]]:
    """One that runs jobs, and one that has the pods service alone, whose data is in `var`."""
    with (
        Up(folder / "a", "--only", "jobs,pods", "--no-console") as first,
        Up(folder / "var", "--only", "pods", "--no-console") as second,
    ):
        yield first.ready(), second.ready()


def commands(program: str) -> list[str]:
    """Those that begin with `program`, with the lines that go on."""
    joined = "\n".join(_FENCE.findall(PAGE)).replace("\\\n", " ").replace("|\n", "| ")
    return [line for line in joined.splitlines() if line.startswith(program)]


class Shell:
    def __init__(self, folder: Path, first: Up, second: Up) -> None:
        self._folder = folder
        self._up = second
        self._addresses = {
            "http://a:8751": f"http://{HOST}:{first.http_port('pods')}",
            "http://b:8751": f"http://{HOST}:{second.http_port('pods')}",
            "http://127.0.0.1:8751": f"http://{HOST}:{second.http_port('pods')}",
        }
        self._variables = {
            "AUTH_A": f"Authorization: Bearer {first.token()}",
            "AUTH_B": f"Authorization: Bearer {second.token()}",
        }

    def run(self, command: str) -> str:
        """What it prints when it ends well; curl shows no progress."""
        for name, address in self._addresses.items():
            command = command.replace(name, address)
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{environment()['PATH']}",
            "ROUNDHOUSE_BASE_PORT": str(self._up.base_port),
        }
        found = subprocess.run(
            ["sh", "-c", command.replace("curl ", "curl -sS ")],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            cwd=self._folder,
            env=environment(**variables, **self._variables),
        )
        assert (found.returncode, found.stderr) == (0, ""), (command, found.stderr)
        return found.stdout

    def lines(self, command: str) -> list[Any]:
        return [json.loads(line) for line in self.run(command).splitlines()]


def create(up: Up, name: str, count: int) -> str:
    """A job; answers its id."""
    container = {"name": "main", "entrypoint": {"value": "sleep 1000"}}
    spec = {
        "name": name,
        "instanceCount": count,
        "respoolId": {"value": id_of(DEFAULT_PATH)},
        "defaultSpec": {"containers": [container]},
    }
    status, answer = up.request("jobs", "POST", "/v1alpha/jobs", {"spec": spec}, token=up.token())
    assert status == 200, answer
    return answer["jobId"]["value"]


async def test_the_suites_jobs_are_exported(suites: tuple[Up, Up]) -> None:
    """Also when either process is killed at moments drawn from a seed while both work."""
    up, draw = suites[0], random.Random(6)
    bearer, port = up.token(), up.base_port
    metadata = (("authorization", f"Bearer {bearer}"),)
    async with called(f"{HOST}:{port + 30}", bearer) as jobs:
        work = asyncio.create_task(busy(Life(jobs, 6, passing=False)))
        for victim in draw.sample(["pods", "jobs", "pods"], 3):
            await asyncio.sleep(draw.uniform(0.05, 0.5))
            await asyncio.to_thread(kill, up, victim)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        async with grpc.aio.insecure_channel(f"{HOST}:{port + 50}") as channel:

            async def exported() -> list[Pod]:
                call = PodServiceStub(channel).ExportPods(ExportPodRequest(), metadata=metadata)
                return [answer.pod async for answer in call]

            await until(lambda: wanted(jobs), bool)
            assert await until_same(jobs, exported)


async def busy(life: Life) -> None:
    """Until it is cancelled, whether somebody answers or not."""
    while True:
        try:
            await life.step()
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            await asyncio.sleep(0.02)


def kill(up: Up, service: str) -> None:
    """It is ready again when this ends."""
    seen, pid = len(up.lines), up.pid(service)
    with watched(pid) as handles:
        os.kill(pid, signal.SIGKILL)
        assert gone(handles)
    up.wait_for(rf"^{service} is ready again", after=seen)


def test_the_commands_of_the_page(folder: Path, suites: tuple[Up, Up]) -> None:
    first, second = suites
    shell = Shell(folder, first, second)
    (auth,) = commands("AUTH=")
    whole, query, copy, own = commands("curl")
    pods, inventory = commands("roundhouse import")
    id = create(first, "web", 3)

    def export(command: str) -> list[dict[str, Any]]:
        return [line["result"]["pod"] for line in shell.lines(f"{auth}\n{command}")]

    there, of_jobs = (line.replace("127.0.0.1", "a").replace("$AUTH", "$AUTH_A") for line in (whole, own))
    end = time.monotonic() + DEADLINE
    while len(found := export(of_jobs)) < 3 and time.monotonic() < end:
        pass
    assert [one["deploymentId"] for one in found] == [id] * 3

    copied = shell.lines(copy)[-1]["result"]
    count = len(export(there))
    assert (copied["stored"], copied["refused"]) == (count, 0)
    assert sorted(one["id"] for one in export(whole)) == sorted(one["id"] for one in export(there))

    (folder / "pods.ndjson").write_text(shell.run(f"{auth}\n{there}"))
    assert shell.run(pods).startswith(f"0 stored, {count} unchanged, revision ")
    row = {"kind": "deployment", "id": id, "name": "web"}
    (folder / "inventory.ndjson").write_text(json.dumps(row))
    assert shell.run(inventory).startswith("1 stored, 0 unchanged, revision ")
    assert export(query) == []
    pool = export(whole)[0]["namespace"]
    assert len(export(query.replace("prod", pool))) == 3

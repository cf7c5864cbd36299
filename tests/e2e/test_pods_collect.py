"""The collector as a process: how it starts, says why it does not, stops, and outlives the service."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.api.v1.pod_service_pb2_grpc import PodServiceStub
from tests import process
from tests.kubernetes_server import kubeconfig
from tests.kubernetes_yard import Kube, eventually, expected, kube, pod, running, shown, workload

pytestmark = pytest.mark.xdist_group("pods-collect")
_RUN = ("-m", "services.pods.collect")
# As if it had not been installed.
_WITHOUT = (
    "-c",
    "import runpy, sys; sys.modules['kubernetes_asyncio'] = None; "
    "runpy.run_module('services.pods.collect', run_name='__main__')",
)


class Collector:
    """The process and what it has said, each line an object."""

    def __init__(self, running: asyncio.subprocess.Process, log: Path) -> None:
        self.process = running
        self._log = log

    @property
    def said(self) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def text(self) -> str:
        return self._log.read_text()

    async def until(self, event: str) -> dict[str, Any]:
        async def check() -> Any:
            assert self.process.returncode is None, self.text
            return next((one for one in self.said if one["event"] == event), None)

        return await eventually(check)

    async def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def ended(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def collector(
    data: Path, target: str, *arguments: str, run: tuple[str, ...] = _RUN, **variables: str
) -> AsyncIterator[Collector]:
    data.mkdir(parents=True, exist_ok=True)
    log = data / "collector.log"
    given = {"services": f"pods={target}", "log_format": "json", **variables}
    environment = process.environment(data, **given)
    environment |= {"HOME": str(data), "KUBECONFIG": ""}
    with log.open("wb") as output:
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            *run,
            "kubernetes",
            *arguments,
            cwd=process.ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield Collector(started, log)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


@pytest.fixture
async def cluster() -> AsyncIterator[Kube]:
    async with kube() as found:
        top = await found.create(workload("Deployment", "web", "shop"))
        middle = await found.create(workload("ReplicaSet", "web-1", "shop", top))
        await found.create({**pod("web-1-a", "shop", middle), "status": running("web-1-a")})
        yield found


async def export(target: str, token: str) -> dict[str, Any]:
    metadata = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(target) as channel:
        answers = PodServiceStub(channel).ExportPods(ExportPodRequest(), metadata=metadata)
        return shown([one.pod async for one in answers])


async def answer(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}{path}") as got,
    ):
        return got.status, await got.text()


async def test_a_collector_outlives_the_service_and_itself(cluster: Kube, tmp_path: Path) -> None:
    data = tmp_path / "data"
    config = str(kubeconfig(tmp_path, prod=cluster.url, other="http://127.0.0.1:9"))
    async with process.started("pods", data) as service:
        token = await process.token(data, "admin")
        (data / "operator.token").write_text(token)
        ports = {"grpc_port": str(service.grpc), "http_port": str(service.http)}

        async def same() -> bool:
            id = (await cluster.objects("Namespace"))[0]["metadata"]["uid"]
            try:
                return await export(service.target, token) == await expected(cluster, id)
            except grpc.aio.AioRpcError:
                return False

        options = ("--kubeconfig", config)
        async with collector(data, service.target, *options, http_port="0") as first:
            ready = await first.until("ready")
            assert ready["clusters"].keys() == {"prod"}

            async def is_ready(*, wanted: int) -> bool:
                status, text = await answer(ready["http"], "/readyz")
                return status == wanted and (status == 200 or "feed: " in text)

            await eventually(same)
            await eventually(lambda: is_ready(wanted=200))
            _, text = await answer(ready["http"], "/metrics")
            names = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
            known = (process.ROOT / "docs" / "operating.md").read_text()
            assert len(names) >= 5
            assert {name for name in names if not name.startswith("process_") and name not in known} == set()
            await service.end(signal.SIGKILL)
            gone = await cluster.create(pod("meanwhile", "shop"))
            await first.until("feeding broke; starting over")
            await eventually(lambda: is_ready(wanted=503))
            async with process.started("pods", data, **ports) as again:
                await eventually(same)
                assert await first.end() == 0
                assert [one["event"] for one in first.said][-2:] == ["stopping", "stopped"]
                # Nobody saw this one go.
                await cluster.delete(gone)
                arguments = ("--kubeconfig", config, "--cluster", "live=prod")
                async with collector(data, again.target, *arguments) as second:
                    ready = await second.until("ready")
                    assert ready["clusters"].keys() == {"live"}
                    await eventually(same)
                    assert await second.end() == 0
                assert await again.end(signal.SIGTERM) == 0


async def test_a_port_that_is_taken_is_named(cluster: Kube, tmp_path: Path) -> None:
    config = str(kubeconfig(tmp_path, prod=cluster.url))
    taken = cluster.url.rpartition(":")[2]
    async with collector(tmp_path, "127.0.0.1:9", "--kubeconfig", config, http_port=taken) as found:
        assert await found.ended() == 1
        (said,) = found.said
        assert said["event"].startswith("cannot start: ") and taken in said["event"]


async def test_without_the_optional_package_it_says_how_to_get_it(tmp_path: Path) -> None:
    async with collector(tmp_path, "127.0.0.1:9", run=_WITHOUT) as found:
        assert await found.ended() == 1
        assert "kubernetes-asyncio is not installed" in found.text
        assert "pip install -r requirements-collect.txt" in found.text

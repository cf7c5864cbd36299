"""The console as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from admin_ui.clients import endpoints
from shared.service.config import Config
from shared.service.testing import TestService

ROOT = Path(__file__).resolve().parents[2]


async def test_it_starts_serves_and_stops_cleanly(tmp_path: Path, pipelines: TestService):
    ports = tmp_path / "ports.json"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")},
        "ROUNDHOUSE_DATA": str(tmp_path),
        "ROUNDHOUSE_HTTP_PORT": "0",
        "ROUNDHOUSE_PORTS_FILE": str(ports),
        "ROUNDHOUSE_SERVICES": f"pipelines={pipelines.target}",
        "ROUNDHOUSE_ONLY": "pipelines",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "admin_ui", env=environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            line = b""
            while b"ready" not in line:
                line = await process.stderr.readline()
                assert line, "it ended before it was ready"
            base = f"http://127.0.0.1:{json.loads(ports.read_text())['http']}"
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
                async with http.get(f"{base}/readyz") as answer:
                    assert answer.status == 200
                token = {"token": pipelines.tokens["viewer"]}
                async with http.post(f"{base}/sign-in", data=token, headers={"Origin": base}) as answer:
                    assert answer.status == 200
                # An open live page does not keep it from stopping.
                async with http.get(f"{base}/experiments/live") as stream:
                    assert await stream.content.readline()
                    process.send_signal(signal.SIGTERM)
                    assert await process.wait() == 0
            rest = await process.stderr.read()
            assert b"Traceback" not in rest
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("value", ["pipelines", "pipelines=nowhere"])
def test_services_that_cannot_be_read_are_refused(value: str):
    with pytest.raises(ValueError, match="is not name=host:port"):
        endpoints(Config.load({}, services=value))


def test_services_are_on_the_counted_ports_or_where_they_are_said_to_be():
    meta, jumpstarter, jobs, pipelines, pods = endpoints(Config.load({}, base_port="9000", http_port="1"))
    assert (meta.target, meta.rest) == ("127.0.0.1:9010", "http://127.0.0.1:9011")
    assert (jumpstarter.target, jumpstarter.rest) == ("127.0.0.1:9020", "http://127.0.0.1:9021")
    assert (jobs.target, jobs.rest) == ("127.0.0.1:9030", "http://127.0.0.1:9031")
    assert (pipelines.target, pipelines.rest) == ("127.0.0.1:9040", "http://127.0.0.1:9041")
    assert (pods.target, pods.rest) == ("127.0.0.1:9050", "http://127.0.0.1:9051")
    [one] = endpoints(Config.load({}, services="pipelines=peer:1234", only="pipelines"))
    assert (one.target, one.rest) == ("peer:1234", "")


@pytest.mark.parametrize(
    "wrong",
    [{"ROUNDHOUSE_BASE_PORT": "x"}, {"ROUNDHOUSE_SERVICES": "x"}, {"ROUNDHOUSE_TLS_CA": "/nothing.pem"}],
)
async def test_a_wrong_setting_is_one_line_that_names_it(tmp_path: Path, wrong: dict[str, str]):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")},
        "ROUNDHOUSE_DATA": str(tmp_path),
        "ROUNDHOUSE_HTTP_PORT": "0",
        **wrong,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "admin_ui", env=environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"Traceback" not in said
    assert next(iter(wrong)).removeprefix("ROUNDHOUSE_").lower() in said.decode().lower()

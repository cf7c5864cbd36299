"""Real clients of the pipelines API, each in a process and an environment of its own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import process
from tests.interop.environments import python_of

DRIVER = Path(__file__).with_name("driver.py")
PATIENCE = 120.0
ENVIRONMENTS = {
    "server-api-1": "requirements-interop-server-api-1.txt",
    "kfp-1": "requirements-interop-kfp-1.txt",
    "kfp-2": "requirements-interop-kfp-2.txt",
}


class ClientError(Exception):
    """What a client raised: `type` its class, `status` and `body` what it says the server answered."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["text"])
        self.type: str = answer["error"]
        self.status: int | None = answer["status"]
        self.body: dict[str, Any] = json.loads(answer["body"]) if answer["body"] else {}


@dataclass
class House:
    """The service as a process over SQLite, with a token of each role."""

    url: str
    target: str
    log: Path
    tokens: dict[str, str]
    home: Path


@asynccontextmanager
async def house(data: Path, **settings: str) -> AsyncIterator[House]:
    async with process.started("pipelines", data, default_experiment="false", **settings) as service:
        tokens = {role: await process.token(data, role) for role in ("viewer", "operator", "admin")}
        home = data / "home"
        home.mkdir()
        yield House(service.url, service.target, service.log, tokens, home)


class Client:
    """A client's objects in another process; `call` is a method of theirs."""

    def __init__(self, driver: asyncio.subprocess.Process, house: House) -> None:
        self._driver = driver
        self.house = house

    async def call(self, method: str, *, who: str = "operator", service: str = "", **arguments: Any) -> Any:
        """What the method answers, as plain data. Raises ClientError."""
        token = self.house.tokens.get(who, who)
        ask = {"token": token, "service": service, "method": method, "arguments": arguments}
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps(ask).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            line = await self._driver.stdout.readline()
        assert line, "the client's process ended"
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer)
        return answer["found"]


@asynccontextmanager
async def client(house: House, environment: str, kind: str) -> AsyncIterator[Client]:
    """`kind` is `api` (the generated client) or `sdk` (kfp.Client)."""
    python = await asyncio.to_thread(python_of, ENVIRONMENTS[environment])
    driver = await asyncio.create_subprocess_exec(
        str(python),
        str(DRIVER),
        kind,
        house.url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
        env=variables(house),
    )
    try:
        yield Client(driver, house)
    finally:
        if driver.stdin is not None:
            driver.stdin.close()
        async with asyncio.timeout(PATIENCE):
            await driver.wait()


async def command(
    house: House, environment: str, *arguments: str, answers: str = "", **settings: str
) -> tuple[int, str]:
    """The `kfp` command line: its exit status and all it wrote."""
    python = await asyncio.to_thread(python_of, ENVIRONMENTS[environment])
    run = await asyncio.create_subprocess_exec(
        str(python.with_name("kfp")),
        *("--endpoint", house.url, "--output", "json"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**variables(house), **settings},
    )
    async with asyncio.timeout(PATIENCE):
        written, _ = await run.communicate(answers.encode())
    assert run.returncode is not None
    return run.returncode, written.decode()


def variables(house: House) -> dict[str, str]:
    """A home of its own: kfp reads and writes ~/.config/kfp."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("KF_", "ROUNDHOUSE_", "PYTHON"))
    }
    return {**kept, "HOME": str(house.home), "PYTHONWARNINGS": "ignore", "NO_PROXY": "*"}

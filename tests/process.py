"""A service as its own process, for tests that stop and kill it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from shared.auth import access_store
from shared.auth.access import Access
from shared.auth.keys import KeyRing
from shared.storage.port import Author
from shared.storage.sqlite import SqliteStore

ROOT = Path(__file__).parents[1]


@dataclass
class Process:
    """A running `python -m services.NAME`."""

    process: asyncio.subprocess.Process
    grpc: int
    http: int
    log: Path
    # gRPC over TLS, of services that have that port too.
    tls: int = 0

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    async def end(self, number: signal.Signals) -> int:
        """Send the signal and answer the exit status."""
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()


def environment(data: Path, **settings: str) -> dict[str, str]:
    variables = {f"ROUNDHOUSE_{name.upper()}": value for name, value in settings.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROUNDHOUSE_")}
    return {**kept, "ROUNDHOUSE_DATA": str(data), **variables}


@asynccontextmanager
async def started(service: str, data: Path, **settings: str) -> AsyncIterator[Process]:
    """The service, ready; killed at the end if it still runs."""
    data.mkdir(parents=True, exist_ok=True)
    ports, log = data / f"{service}.ports", data / f"{service}.log"
    ports.unlink(missing_ok=True)
    given = {"grpc_port": "0", "http_port": "0", "ports_file": str(ports), "log_format": "json", **settings}
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"services.{service}",
            cwd=ROOT,
            env=environment(data, **given),
            stderr=output,
        )
    try:
        found = await _ports(ports, process, log)
        yield Process(process, found["grpc"], found["http"], log, found.get("tls", 0))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ports(path: Path, process: asyncio.subprocess.Process, log: Path) -> dict[str, int]:
    """The process writes its ports, whole, once it is ready."""
    gone = asyncio.ensure_future(process.wait())
    try:
        async with asyncio.timeout(30):
            while not path.exists():
                done, _ = await asyncio.wait({gone}, timeout=0.02)
                assert not done, f"the service ended with {process.returncode}:\n{log.read_text()}"
        found: dict[str, int] = json.loads(path.read_text())
        return found
    finally:
        gone.cancel()


async def token(data: Path, role: str = "operator") -> str:
    """A token that services on `data` accept."""
    store = SqliteStore(data / "access.db", access_store.KINDS)
    await store.open()
    try:
        access = Access(store, KeyRing.open(data / "keys"))
        text, _ = await access.issue(
            role, role, timedelta(hours=1), creator="test", by=Author("test", "test:token:create")
        )
        return text
    finally:
        await store.close()

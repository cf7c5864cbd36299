"""The real `jmp` and the real exporter, and the service that they are run against."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

from tests import process
from tests.interop.environments import python_of
from tests.patience import PATIENCE

REQUIREMENTS = "requirements-interop-jumpstarter.txt"
LAUNCHER = Path(__file__).with_name("jmp_launcher.py")
GRACE_SECONDS = 5.0
POLL = 0.05
NAMESPACE = "namespaces/default"
POWER = {"type": "jumpstarter_driver_power.driver.MockPower"}


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Running:
    """A command that was started, in a process group of its own; its output so far stands in two
    files of its folder."""

    def __init__(self, pid: int, folder: Path, end: asyncio.Future[int]) -> None:
        self.pid = pid
        self._folder = folder
        self._end = end

    def _read(self, name: str) -> str:
        return (self._folder / name).read_text(errors="replace")

    @property
    def text(self) -> str:
        return self._read("out") + self._read("err")

    @property
    def is_over(self) -> bool:
        return self._end.done()

    async def ended(self) -> Ended:
        await asyncio.wait({self._end}, timeout=PATIENCE)
        assert self.is_over, f"it goes on and on:\n{self.text}"
        return Ended(self._end.result(), self._read("out"), self._read("err"))

    async def says(self, pattern: str, *, within: float = PATIENCE) -> re.Match[str]:
        """What it writes that has `pattern` in it; TimeoutError after `within` seconds without."""
        end = time.monotonic() + within
        while True:
            over = self.is_over
            if found := re.search(pattern, self.text):
                return found
            assert not over, f"it ended without {pattern!r}:\n{self.text}"
            if time.monotonic() >= end:
                raise TimeoutError(f"no {pattern!r} in:\n{self.text}")
            await asyncio.wait({self._end}, timeout=POLL)

    async def end(self) -> None:
        """With all that it has started, whether it likes it or not."""
        self.signal(signal.SIGTERM)
        await asyncio.wait({self._end}, timeout=GRACE_SECONDS)
        if not self.is_over:
            os.killpg(self.pid, signal.SIGKILL)
            await self.ended()

    async def interrupt(self, after: float = 0.0) -> Ended:
        """Ctrl-C, unless it ends within `after` seconds by itself."""
        await asyncio.wait({self._end}, timeout=after)
        if not self.is_over:
            os.killpg(self.pid, signal.SIGINT)
        return await self.ended()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


class Jmp:
    """`jmp`, with a configuration folder and an output folder of its own."""

    def __init__(self, home: Path, python: Path, socket_path: Path) -> None:
        self.home = home
        self.python = python
        self._socket = socket_path
        self._numbers = count()
        self._started: list[Running] = []
        for name in ("clients", "exporters"):
            (home / name).mkdir(parents=True)

    def client_file(self, alias: str) -> Path:
        return self.home / "clients" / f"{alias}.yaml"

    async def start(self, *arguments: str, client: str = "", **environment: str) -> Running:
        """The command, forked from a process that has imported it already."""
        if client:
            # Before the command that a shell runs, after the words that make up the subcommand.
            words = 1 if arguments[0] == "shell" else 2
            arguments = (*arguments[:words], "--client", client, *arguments[words:])
        folder = self._folder()
        ask = {
            "arguments": arguments,
            "environment": {**variables(self.home, self.python), **environment},
            "folder": str(folder),
        }
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        writer.write(json.dumps(ask).encode() + b"\n")
        pid = json.loads(await reader.readline())["pid"]

        async def end() -> int:
            try:
                line = await reader.readline()
                return int(json.loads(line)["status"])
            finally:
                writer.close()

        return self._running(pid, folder, end())

    async def execute(self, *arguments: str, **environment: str) -> Running:
        """The same by the installed console script."""
        folder = self._folder()
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            child = await asyncio.create_subprocess_exec(
                str(self.python.with_name("jmp")),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={**variables(self.home, self.python), **environment},
            )
        return self._running(child.pid, folder, child.wait())

    async def __call__(self, *arguments: str, client: str = "alice", fails: bool = False) -> str:
        """What the command printed: its output, or, when it `fails`, all it wrote."""
        ended = await (await self.start(*arguments, client=client)).ended()
        assert (ended.status != 0) == fails, f"{arguments} ended with {ended.status}:\n{ended.text}"
        return ended.text if fails else ended.out

    async def close(self) -> None:
        """End what still runs: a test has failed."""
        left = [command for command in self._started if not command.is_over]
        for command in left:
            await command.end()

    def _running(self, pid: int, folder: Path, end: Coroutine[Any, Any, int]) -> Running:
        running = Running(pid, folder, asyncio.ensure_future(end))
        self._started.append(running)
        return running

    def _folder(self) -> Path:
        folder = self.home / "output" / str(next(self._numbers))
        folder.mkdir(parents=True)
        for name in ("out", "err"):
            (folder / name).touch()
        return folder


def variables(home: Path, python: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JMP_", "JUMPSTARTER_", "ROUNDHOUSE_", "PYTHON", "GRPC_"))
    }
    return {
        **kept,
        "HOME": str(home),
        # Read when it is imported.
        "JMP_CLIENT_CONFIG_HOME": str(home),
        # `j`, for the commands that a shell runs.
        "PATH": f"{python.parent}{os.pathsep}{kept['PATH']}",
        # No line is broken where a terminal would end.
        "COLUMNS": "500",
    }


@asynccontextmanager
async def jmp(home: Path) -> AsyncIterator[Jmp]:
    python = await asyncio.to_thread(python_of, REQUIREMENTS)
    # A socket's path may have 107 characters: relative to its folder it is short.
    path = Path(os.path.relpath(home.parent / "jmp"))
    launcher = await asyncio.create_subprocess_exec(
        str(python),
        str(LAUNCHER),
        str(path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=variables(home, python),
    )
    assert launcher.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert await launcher.stdout.readline() == b"ready\n"
        command = Jmp(home, python, path)
        try:
            yield command
        finally:
            await command.close()
    finally:
        launcher.terminate()
        await launcher.wait()


class RealExporter:
    """`jmp run`; `script`: by the installed console script."""

    running: Running
    started_at: float

    def __init__(self, command: Jmp, config: dict[str, Any], *, script: bool = False) -> None:
        self._start = command.execute if script else command.start
        self._file = command.home / "exporters" / f"{config['metadata']['name']}.yaml"
        self._file.write_text(yaml.safe_dump(config))

    async def start(self) -> None:
        """Until it has a status stream."""
        self.started_at = time.monotonic()
        self.running = await self._start("run", "--exporter-config", str(self._file))
        await self.running.says("Currently (not )?leased")

    async def stop(self) -> Ended:
        """As systemd stops it."""
        self.running.signal(signal.SIGTERM)
        return await self.running.ended()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        if not self.running.is_over:
            await self.stop()


@dataclass
class Lab:
    """The service as a process over SQLite, on ports that outlive it, and what an operator does there."""

    data: Path
    settings: dict[str, str]
    token: str = ""
    service: process.Process = field(init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.settings['jumpstarter_tls_port']}"

    async def start(self) -> None:
        self.service = await self._stack.enter_async_context(
            process.started("jumpstarter", self.data, **self.settings)
        )

    async def stop(self) -> None:
        assert await self.service.end(signal.SIGTERM) == 0, self.service.log.read_text()
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        await self._stack.aclose()

    async def roundhouse(self, *arguments: str, stdin: str = "") -> str:
        """What our own command line prints."""
        file = self.data / "test.token"
        file.write_text(self.token)
        command = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "shared.cli.main", *arguments, "--token-file", str(file)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=process.ROOT,
            env=process.environment(
                self.data, only="jumpstarter", services=f"jumpstarter={self.service.target}"
            ),
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await command.communicate(stdin.encode())
        assert command.returncode == 0, err.decode()
        return out.decode()

    async def config(self, kind: str, name: str, *options: str) -> dict[str, Any]:
        """The file for `jmp` that our command line prints, read."""
        printed = await self.roundhouse("jumpstarter", "config", kind, f"default/{name}", *options)
        found: dict[str, Any] = yaml.safe_load(printed)
        return found

    async def get(self, path: str) -> dict[str, Any]:
        """From the REST surface: `exporters/bench-1`, `leases/x`."""
        url = f"{self.service.url}/v1/{NAMESPACE}/{path}"
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == 200, body
            return body

    async def until(self, path: str, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The resource once the condition holds."""
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition(found := await self.get(path)):
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise AssertionError(f"{path} stays {found}") from None
        return found


@asynccontextmanager
async def lab(data: Path, manifest: dict[str, Any], **settings: str) -> AsyncIterator[Lab]:
    given = {"jumpstarter_tls_port": str(free_port()), **settings}
    found = Lab(data, given)
    try:
        await found.start()
        found.token = await process.token(data, "admin")
        await found.roundhouse("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
        yield found
    finally:
        await found.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def conditions(lease: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Type -> (status, reason), in order."""
    return {c["type"]: (c["status"], c.get("reason", "")) for c in lease.get("conditions", [])}

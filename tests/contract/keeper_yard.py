"""Process runtimes over real keepers, and nothing left of them afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from services.jobs.runtime.node import Node
from services.jobs.runtime.port import Phase, RuntimeUnavailable
from services.jobs.runtime.process import ProcessRuntime
from shared.pb.peloton.api.v1alpha.pod import pod_pb2

DEADLINE = 60.0
NODE = Node(allow_root=True, launch_rate=1e6)
_folders: set[str] = set()


@contextmanager
def yard() -> Iterator[Path]:
    """A home for a keeper, which is ended with all that it keeps."""
    folder = Path(tempfile.mkdtemp(prefix="keeper-"))
    home = folder / "pods"
    _folders.add(str(folder))
    try:
        yield home
    finally:
        asyncio.run(_end(home))
        shutil.rmtree(folder, ignore_errors=True)
        _folders.discard(str(folder))


async def _end(home: Path) -> None:
    pid = keeper_pid(home)
    if not pid:
        return
    async with opened(home) as runtime:
        await clear(runtime)
        await runtime.end()
    await until(lambda: not keeper_pid(home))


@asynccontextmanager
async def opened(home: Path, node: Node = NODE) -> AsyncIterator[ProcessRuntime]:
    """A runtime over the keeper of `home`, which goes on."""
    runtime = ProcessRuntime(home, node)
    await runtime.open()
    try:
        yield runtime
    finally:
        await runtime.close()


async def clear(runtime: ProcessRuntime) -> None:
    """End all attempts, and forget them."""
    await runtime.open()
    deadline = time.monotonic() + DEADLINE
    while attempts := await runtime.attempts():
        assert time.monotonic() < deadline, attempts
        for found in attempts:
            if found.phase is Phase.ENDED:
                await runtime.forget(found.pod_id)
            else:
                await runtime.stop(found.pod_id, 0)
        await asyncio.sleep(0.005)


def keeper_pid(home: Path) -> int:
    """0: there is none, or it is a zombie."""
    try:
        pid = int((home / ".keeper" / "lock").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return 0
    return pid if state != "Z" and os.fsencode(home) in command else 0


async def kill_keeper(home: Path) -> None:
    pid = keeper_pid(home)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: keeper_pid(home) != pid)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.005)


async def reached(runtime: ProcessRuntime) -> None:
    """It answers again."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            await runtime.open()
            return
        except RuntimeUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


def shell(command: str) -> pod_pb2.PodSpec:
    spec = pod_pb2.PodSpec()
    spec.containers.add().entrypoint.value = command
    return spec


def living(text: str) -> list[int]:
    """Processes of the yards that there are, zombies aside, with `text` in their command line. They
    are known by the folder that they run in, whatever else they left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            folder = os.readlink(entry / "cwd")  # noqa: PTH115 - it may be gone
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if text.encode() in command and folder.startswith(tuple(_folders)):
            found.append(int(entry.name))
    return found

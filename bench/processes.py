"""Servers under measurement: started on the server core, ended by signal, never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

import orjson

from bench.machine import cores, cpu_seconds, pin

ROOT: Final = Path(__file__).parents[1]
# Seconds; MLflow imports for long.
_START: Final = 180.0
_STOP: Final = 20.0


class NotStarted(Exception):
    """A server ended or stayed silent; the text holds what it wrote last."""


@dataclass(frozen=True)
class Server:
    """A process that listens. `ports` are named as the process itself wrote them."""

    pid: int
    ports: Mapping[str, int]

    def cpu(self) -> float:
        """Seconds it has used so far, with its children."""
        return cpu_seconds(self.pid)


@contextmanager
def process(
    command: Sequence[str], log: Path, ready: Callable[[], Mapping[str, int] | None], env: Mapping[str, str]
) -> Iterator[Server]:
    """`command` on the server core until the block ends. `ready` answers its ports once it serves.

    Raises NotStarted.
    """
    core = cores()[0]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**_clean(), **env},
            cwd=ROOT,
            preexec_fn=lambda: pin(core),
        )
    try:
        yield Server(child.pid, _wait(child, log, ready))
    finally:
        child.terminate()
        try:
            child.wait(_STOP)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait(
    child: subprocess.Popen[bytes], log: Path, ready: Callable[[], Mapping[str, int] | None]
) -> Mapping[str, int]:
    deadline, pause = time.monotonic() + _START, Event()
    while time.monotonic() < deadline and child.poll() is None:
        ports = ready()
        if ports is not None:
            return ports
        pause.wait(0.05)
    said = log.read_text(errors="replace")[-2000:]
    raise NotStarted(f"{' '.join(map(str, child.args))} does not serve:\n{said}")  # type: ignore[arg-type]


@contextmanager
def service(name: str, data: Path, **settings: str) -> Iterator[Server]:
    """A service of ours over SQLite in `data`, authentication on, with further `settings`."""
    ports = data / "ports.json"
    ports.unlink(missing_ok=True)
    env = {
        "ROUNDHOUSE_DATA": str(data),
        "ROUNDHOUSE_STORE": "sqlite",
        "ROUNDHOUSE_GRPC_PORT": "0",
        "ROUNDHOUSE_HTTP_PORT": "0",
        "ROUNDHOUSE_PORTS_FILE": str(ports),
        **{f"ROUNDHOUSE_{key.upper()}": value for key, value in settings.items()},
    }
    command = [sys.executable, "-m", f"services.{name}"]
    with process(command, data / f"{name}.log", lambda: _written(ports), env) as server:
        yield server


def pipelines(data: Path) -> AbstractContextManager[Server]:
    """The pipelines service over SQLite in `data`, authentication on."""
    return service("pipelines", data)


def bare(folder: Path, module: str = "bench.bare") -> AbstractContextManager[Server]:
    """The handlers of `module`, those of `bench.bare` with the answers that stand in `folder`."""
    return _ceiling(module, folder)


def relay(folder: Path) -> AbstractContextManager[Server]:
    """The handler of `bench.relay`."""
    return _ceiling("bench.relay", folder)


def stream(folder: Path) -> AbstractContextManager[Server]:
    """The handlers of `bench.stream` with the pods that stand in `folder`."""
    return _ceiling("bench.stream", folder)


@contextmanager
def _ceiling(module: str, folder: Path) -> Iterator[Server]:
    ports = folder / "ports.json"
    ports.unlink(missing_ok=True)
    command = [sys.executable, "-m", module, str(folder)]
    with process(command, folder / f"{module}.log", lambda: _written(ports), {}) as server:
        yield server


def _written(path: Path) -> Mapping[str, int] | None:
    return orjson.loads(path.read_bytes()) if path.exists() else None


def _clean() -> dict[str, str]:
    """The environment without settings that somebody has for their own services."""
    return {key: value for key, value in os.environ.items() if not key.startswith("ROUNDHOUSE_")}

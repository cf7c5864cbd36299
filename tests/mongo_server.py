"""A MongoDB-wire server for tests: at MONGODB_URL, or `secantusd-py` as a process of its own.

It is started by the first test that asks, one a process (so one a pytest-xdist worker), in memory,
and ends with that process.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

from pymongo import MongoClient

START_SECONDS = 60
STOP_SECONDS = 20
_OPTIONS = "replicaSet=secantus&heartbeatFrequencyMS=500"


class MongoServer:
    """One server on a port of its own, which it keeps when it is started again."""

    def __init__(self, storage: Path | None = None) -> None:
        """Keeps its data in `storage`, or in memory. It takes `configureFailPoint`."""
        self.port = _free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}/?{_OPTIONS}"
        self._storage = storage
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            str(Path(sys.executable).with_name("secantusd-py")),
            *("--host", "127.0.0.1", "--port", str(self.port), "--log-level", "ERROR"),
            *("--storage-path", str(self._storage or ":memory:"), "--cache-size", "128M"),
            "--enable-test-commands",
        ]
        if self._storage:
            command.append("--sync-on-commit")
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_end_with_parent
        )
        with MongoClient(self.url, serverSelectionTimeoutMS=START_SECONDS * 1000) as client:
            client.admin.command("ping")

    def stop(self) -> None:
        """End it as its operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(by)
            process.wait(STOP_SECONDS)


@functools.cache
def server_url() -> str:
    """The URL of the server that all tests of this process share."""
    if given := os.environ.get("MONGODB_URL"):
        return given
    server = MongoServer()
    server.start()
    atexit.register(server.stop)
    return server.url


def new_database() -> str:
    """A name that no other test uses."""
    return f"test_{uuid.uuid4().hex[:16]}"


def drop_database(url: str, name: str) -> None:
    with MongoClient(url, serverSelectionTimeoutMS=10_000) as client:
        client.drop_database(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end_with_parent() -> None:
    """In the child: be told to end when the test process does, however it does."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)

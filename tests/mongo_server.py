"""A MongoDB-wire server for tests: at MONGODB_URL, or `secantusd-py` as a process of its own.

It is started by the first test that asks, one a process (so one a pytest-xdist worker), in memory,
and ends with that process.
"""

from __future__ import annotations

import atexit
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
# Ends the server when the test process closes its end of the pipe, however it comes to that.
_KEEPER = '"$@" </dev/null & server=$!; cat >/dev/null; kill $server; wait $server'
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
            ["sh", "-c", _KEEPER, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with MongoClient(self.url, serverSelectionTimeoutMS=START_SECONDS * 1000) as client:
            client.admin.command("ping")

    def stop(self) -> None:
        """End it as its operator would."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
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

"""Debian's etcd, as what watches are measured beside: one member, no authentication.

Its API takes part as three messages of `etcdserverpb`, written by hand.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from bench import processes
from bench.processes import Server
from shared.rpc import frames

HINT: Final = (
    "etcd is not installed: watches have nothing beside them; "
    "on Debian: apt-get install --no-install-recommends etcd-server"
)
PUT: Final = "/etcdserverpb.KV/Put"
RANGE: Final = "/etcdserverpb.KV/Range"
WATCH: Final = "/etcdserverpb.Watch/Watch"


def installed() -> bool:
    return shutil.which("etcd") is not None


@contextmanager
def server(data: Path) -> Iterator[Server]:
    """A member of its own that keeps its data in `data`. Its one port is "grpc". Raises NotStarted."""
    port, peers = _free_port(), _free_port()
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    command = [
        "etcd",
        *("--data-dir", str(data / "etcd")),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"default={peer}", "--log-level", "error"),
    ]

    def ready() -> dict[str, int] | None:
        with closing(socket.socket()) as probe:
            return {"grpc": port} if probe.connect_ex(("127.0.0.1", port)) == 0 else None

    with processes.process(command, data / "etcd.log", ready, {}) as running:
        yield running


def put(key: str, value: bytes) -> bytes:
    """PutRequest: key = 1, value = 2."""
    return frames.text(1, key) + frames.messages(2, [value])


def everything(prefix: str) -> bytes:
    """RangeRequest and WatchCreateRequest alike: key = 1, range_end = 2."""
    return frames.text(1, prefix) + frames.text(2, prefix[:-1] + chr(ord(prefix[-1]) + 1))


def watch(prefix: str) -> bytes:
    """WatchRequest: create_request = 1."""
    return frames.messages(1, [everything(prefix)])


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

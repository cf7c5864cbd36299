"""A real kube-apiserver over an etcd of its own, for tests that are to hold on one as well.

KUBE_APISERVER names the program; `etcd` has to be on the PATH. Nothing else of Kubernetes runs: nobody
schedules, starts or collects anything, and tests write what the kubelet would.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.kubernetes_server import TOKEN

PROGRAM = os.environ.get("KUBE_APISERVER", "")
# Of a user who may do nothing.
NOBODY = "of-nobody"
_START_SECONDS = 120
_BEFORE = 20


@dataclass(frozen=True)
class ApiServer:
    """`authority`: the file of the certificate to trust. `etcd`: where its store is."""

    url: str
    authority: Path
    etcd: str

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def compact(self, revision: int) -> None:
        """Forgets what was before, as the server itself does every five minutes."""
        _ask(self.etcd, "compaction", {"revision": revision})


@contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    etcd, port = f"http://127.0.0.1:{_free_port()}", _free_port()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = folder / "accounts.key"
    account.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{TOKEN},collector,collector,"system:masters"\n{NOBODY},nobody,nobody\n')
    peer = f"http://127.0.0.1:{_free_port()}"
    store = [
        *("etcd", "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"),
        *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"default={peer}"),
    ]
    server = [
        PROGRAM,
        f"--etcd-servers={etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={tokens}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={account}",
        f"--service-account-signing-key-file={account}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=ServiceAccount",
    ]
    with ExitStack() as stack:
        _history(etcd, stack.enter_context(_process(store, folder / "etcd.log")), folder / "etcd.log")
        process = stack.enter_context(_process(server, folder / "server.log"))
        found = ApiServer(f"https://127.0.0.1:{port}", folder / "certificates" / "apiserver.crt", etcd)
        _wait(found, process, folder / "server.log")
        yield found


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    assert shutil.which(command[0]), f"{command[0]} is not there"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _history(etcd: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Revisions from before the server starts: it knows nothing of those."""
    key = base64.b64encode(b"/before").decode()
    for number in range(_BEFORE):
        while True:
            try:
                _ask(etcd, "put", {"key": key, "value": base64.b64encode(b"%d" % number).decode()})
                break
            except OSError:
                assert not _ended_within(process, 0.1), log.read_text()[-4000:]


def _ask(etcd: str, what: str, body: dict[str, Any]) -> None:
    with urllib.request.urlopen(f"{etcd}/v3/kv/{what}", json.dumps(body).encode(), timeout=10):
        pass


def _wait(server: ApiServer, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it is ready and has made the system's namespace."""
    end = time.monotonic() + _START_SECONDS
    headers = {"Authorization": f"Bearer {TOKEN}"}
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            for path in ("/readyz", "/api/v1/namespaces/kube-system"):
                request = urllib.request.Request(server.url + path, headers=headers)
                with urllib.request.urlopen(request, timeout=5, context=server.trust):
                    pass
            return
        except OSError:
            assert not _ended_within(process, 0.2), log.read_text()[-4000:]
    raise AssertionError(f"not ready: {log.read_text()[-4000:]}")


def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

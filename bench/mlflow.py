"""(b) Experiments here and in MLflow's tracking server, both over SQLite, at two sizes of table.

MLflow runs from a virtual environment of its own that is made once (`.cache/bench`), with one worker
process and its job runner off: the fastest that it is on one core. Its rows are written by SQL, as
copies of one that its API made. Both get the same number of connections from one light client, which
checks every status. Ours is asked for another page each time, from all over the table, so that nothing
is answered from memory; MLflow for its first page, its cheapest.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import orjson

from bench import client, processes, seed
from bench.processes import ROOT, NotStarted, Server
from bench.rounds import Result, Sample, Spread, interleaved, measured, ratios, result

SIZES: Final = (1_000, 20_000)
CONNECTIONS: Final = 8
_REQUIREMENTS: Final = ROOT / "requirements-bench.txt"
_PAGE: Final = 20
_HTTP: Final = {
    "get": (1500, 150),
    "list of 20": (900, 100),
    "create": (400, 80),
}
_TARGETS: Final = {"get": 8.0, "create": 8.0}
_ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
_MLFLOW: Final = "/api/2.0/mlflow/experiments"
_OURS: Final = "/apis/v2beta1/experiments"


@dataclass(frozen=True)
class _Yard:
    """A server with so many experiments, and how to write its requests: `operations` answer the
    bytes of a number of requests."""

    server: Server
    operations: Mapping[str, Callable[[int], list[bytes]]]


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    folder.mkdir(parents=True)
    python = _installed()
    with ExitStack() as stack:
        ours: dict[int, _Yard] = {}
        theirs: dict[int, _Yard] = {}
        for size in SIZES:
            theirs[size] = stack.enter_context(_mlflow(python, folder / f"mlflow-{size}", size))
            ours[size] = stack.enter_context(_roundhouse(folder / f"ours-{size}", size))
        for operation, (ours_count, theirs_count) in _HTTP.items():
            found: dict[tuple[str, int], list[Sample]] = {}
            for size in SIZES:
                sides = {
                    "ours": partial(_sample, ours[size], operation, max(20, int(ours_count * scale))),
                    "theirs": partial(_sample, theirs[size], operation, max(20, int(theirs_count * scale))),
                }
                interleaved(sides, 1)  # warm
                samples = interleaved(sides, rounds)
                found["ours", size], found["theirs", size] = samples["ours"], samples["theirs"]
                yield _compared(operation, size, samples)
            yield from _growth(operation, found)


def _compared(operation: str, size: int, samples: Mapping[str, list[Sample]]) -> Result:
    by_cpu = ratios([s.per_cpu for s in samples["ours"]], [s.per_cpu for s in samples["theirs"]])
    return result(
        "b",
        f"{operation} at {size:,}",
        "MLflow",
        samples["ours"],
        samples["theirs"],
        wall=True,
        least=_TARGETS.get(operation),
        note=f"{by_cpu.median:.1f} by server CPU",
    )


def _growth(operation: str, found: Mapping[tuple[str, int], list[Sample]]) -> Iterator[Result]:
    """What an operation costs in the large table, as a multiple of what it costs in the small one."""
    if operation != "list of 20":
        return
    small, large = SIZES
    for side, name, most in (("ours", "Roundhouse", 1.3), ("theirs", "MLflow", None)):
        few = [1e6 / sample.per_cpu for sample in found[side, small]]
        many = [1e6 / sample.per_cpu for sample in found[side, large]]
        spread: Spread = ratios(many, few)
        what, against = f"{name}: {operation}, cost at {large:,}", f"at {small:,}"
        middle = len(few) // 2
        yield Result(
            "b", what, against, "cpu us", sorted(many)[middle], sorted(few)[middle], spread, most=most
        )


def _sample(yard: _Yard, operation: str, requests: int) -> Sample:
    prepared = yard.operations[operation](requests)
    port = yard.server.ports["http"]
    return measured(yard.server, requests, lambda: client.send(port, prepared, CONNECTIONS))


@contextmanager
def _roundhouse(folder: Path, size: int) -> Iterator[_Yard]:
    folder.mkdir()
    seed.pipelines(folder, size)
    with processes.pipelines(folder) as server:
        headers = {"Authorization": f"Bearer {(folder / 'operator.token').read_text().strip()}"}
        names, chosen = _fresh_names(), random.Random(size)
        tokens = _tokens(server.ports["http"], headers, size)

        def get(requests: int) -> list[bytes]:
            wanted = [seed.identifier(chosen.randrange(size)) for _ in range(requests)]
            return [client.get(f"{_OURS}/{name}", headers) for name in wanted]

        def create(requests: int) -> list[bytes]:
            bodies = [{"display_name": next(names)} for _ in range(requests)]
            return [client.post(_OURS, headers, body) for body in bodies]

        def pages(requests: int) -> list[bytes]:
            # After the create nothing that was remembered holds.
            starts = tokens[: requests - 1]
            return create(1) + [
                client.get(f"{_OURS}?page_size={_PAGE}&page_token={at}", headers) for at in starts
            ]

        yield _Yard(server, {"get": get, "list of 20": pages, "create": create})


def _tokens(port: int, headers: Mapping[str, str], size: int) -> list[str]:
    """Page tokens from all over the table, about a thousand."""
    found = [""]
    while True:
        path = f"{_OURS}?page_size={max(1, size // 1000)}&page_token={found[-1]}"
        answer = orjson.loads(client.fetch(port, client.get(path, headers)))
        if "next_page_token" not in answer:
            return found[1:-_PAGE]
        found.append(answer["next_page_token"])


@contextmanager
def _mlflow(python: Path, folder: Path, size: int) -> Iterator[_Yard]:
    folder.mkdir()
    database, port = folder / "mlflow.db", _free_port()
    command = [str(python.with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    log = folder / "mlflow.log"
    with processes.process(command, log, lambda: _healthy(port), _ENVIRONMENT) as server:
        client.fetch(port, client.post(f"{_MLFLOW}/create", {}, {"name": seed.name(0)}))
        _fill(database, size)
        names, chosen = _fresh_names(), random.Random(size)
        page = client.get(f"{_MLFLOW}/search?max_results={_PAGE}", {})

        def get(requests: int) -> list[bytes]:
            wanted = [chosen.randrange(1, size + 1) for _ in range(requests)]
            return [client.get(f"{_MLFLOW}/get?experiment_id={number}", {}) for number in wanted]

        def create(requests: int) -> list[bytes]:
            bodies = [{"name": next(names)} for _ in range(requests)]
            return [client.post(f"{_MLFLOW}/create", {}, body) for body in bodies]

        yield _Yard(server, {"get": get, "list of 20": lambda n: [page] * n, "create": create})


def _fill(database: Path, size: int) -> None:
    """Copies of the experiment that the API made, up to `size`, with ids that follow its own."""
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        row = connection.execute("SELECT * FROM experiments ORDER BY experiment_id DESC LIMIT 1")
        columns = [column[0] for column in row.description]
        first = dict(zip(columns, row.fetchone(), strict=True))
        connection.executemany(
            f"INSERT INTO experiments ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [tuple(_copy(first, number).values()) for number in range(1, size)],
        )


def _copy(first: Mapping[str, object], number: int) -> dict[str, object]:
    identifier, created = int(str(first["experiment_id"])), int(str(first["creation_time"]))
    return {
        **first,
        "experiment_id": identifier + number,
        "name": seed.name(number),
        "artifact_location": f"mlflow-artifacts:/{identifier + number}",
        "creation_time": created - number,
        "last_update_time": created - number,
    }


def _fresh_names() -> Iterator[str]:
    return (f"fresh-{number:06d}" for number in count())


def _installed() -> Path:
    """The Python of MLflow's environment, made when it is not there. Raises NotStarted."""
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = ROOT / ".cache" / "bench" / digest
    python = home / "bin" / "python"
    if not (home / ".done").exists():
        print("  installing MLflow into .cache/bench, once ...", flush=True)
        started = time.monotonic()
        shutil.rmtree(home, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(home))
        uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".cache" / "uv" / "bin"))
        installer = (
            [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
        )
        _run(*installer, "--quiet", "-r", str(_REQUIREMENTS))
        (home / ".done").touch()
        print(f"  installed in {time.monotonic() - started:.0f} s", flush=True)
    return python


def _run(*command: str) -> None:
    done: subprocess.CompletedProcess[str] = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotStarted(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def _healthy(port: int) -> Mapping[str, int] | None:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return {"http": port}
    except OSError:
        return None


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

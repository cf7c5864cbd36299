"""`roundhouse` as a user runs it: processes, terminal output, signals. Waits on events, never on time."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.cli import ports
from shared.service.config import PORTS

COMMAND = [sys.executable, "-m", "shared.cli.main"]
DEADLINE = 60.0
HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]


def environment(**variables: str) -> dict[str, str]:
    """Of this process, without its settings. Pods run for nobody unless a test says so."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ROUNDHOUSE_")}
    return kept | {"ROUNDHOUSE_JOBS_RUNTIME": "fake"} | variables


def free_base_port() -> int:
    """A base whose ports are all free; below those that the kernel hands out."""
    draw = random.Random(f"{os.getpid()}-{time.monotonic_ns()}")
    while True:
        base = draw.randrange(10_000, 32_000, 100)
        if not any(
            ports.is_taken(HOST, base + offset + extra) for offset in PORTS.values() for extra in (0, 1, 2)
        ):
            return base


def roundhouse(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(**variables),
        cwd=ROOT,
        check=False,
    )


class Background:
    """A command that goes on, with the lines it wrote (both streams) so far."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A terminal's Ctrl-C reaches a whole process group: this one.
            start_new_session=True,
            env=environment(**variables),
            cwd=ROOT,
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """The first line from number `after` on that has `pattern` in it."""
        end = time.monotonic() + DEADLINE
        with self._more:
            while True:
                for line in self.lines[after:]:
                    if match := re.search(pattern, line):
                        return match
                left = end - time.monotonic()
                if left <= 0 or self._ended:
                    why = "ended" if self._ended else f"{DEADLINE:g} s passed"
                    raise AssertionError(f"{why} without a line with {pattern!r}:\n{self.output}")
                self._more.wait(left)

    def interrupt(self) -> int:
        """Ctrl-C; answers the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(DEADLINE)


class Up(Background):
    """`roundhouse up`, ready."""

    def __init__(self, data: Path, *options: str, base_port: int | None = None, **variables: str) -> None:
        self.data = data
        self.base_port = base_port or free_base_port()
        super().__init__("up", *self.where, *options, **variables)

    @property
    def where(self) -> list[str]:
        return ["--data", str(self.data), "--base-port", str(self.base_port)]

    def ready(self) -> Self:
        self.wait_for(r"is ready in")
        self.wait_for(r"Ctrl-C stops")
        return self

    def pid(self, service: str) -> int:
        """Of the process that listens on the service's HTTP port."""
        return ports.holder(self.http_port(service)).pid

    def http_port(self, service: str) -> int:
        return self.base_port + PORTS[service] + (service != "console")

    def command(self, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return roundhouse(*arguments, *self.where, stdin=stdin, **variables)

    def token(self) -> str:
        return (self.data / "operator.token").read_text()

    def request(
        self, service: str, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> tuple[int, Any]:
        """HTTP status and the JSON (or text) of the answer."""
        request = urllib.request.Request(f"http://{HOST}:{self.http_port(service)}{path}", method=method)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def experiment(self, name: str) -> str:
        """Creates one; answers its id."""
        status, answer = self.request(
            "pipelines", "POST", "/apis/v2beta1/experiments", {"display_name": name}, token=self.token()
        )
        assert status == 200, answer
        return answer["experiment_id"]


@contextmanager
def watched(*pids: int) -> Iterator[list[int]]:
    """Handles of processes, by which `gone` waits for their end whoever their parent is."""
    handles = [os.pidfd_open(pid) for pid in pids]
    try:
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def gone(handles: list[int]) -> bool:
    """Whether all have ended before the deadline."""
    end = time.monotonic() + DEADLINE
    left = list(handles)
    while left:
        ended, _, _ = select.select(left, [], [], max(0.0, end - time.monotonic()))
        if not ended:
            return False
        left = [handle for handle in left if handle not in ended]
    return True

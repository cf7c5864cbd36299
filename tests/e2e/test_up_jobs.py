"""What becomes of pods with `roundhouse up`: they outlive the service, and nothing outlives Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.jobs.api.pools import DEFAULT_PATH, id_of
from services.jobs.runtime.keeper_process import KeeperProcess
from tests.e2e.process import DEADLINE, Up, gone, watched

JOBS = "/v1alpha/jobs"
SETTINGS = {
    "ROUNDHOUSE_JOBS_RUNTIME": "process",
    "ROUNDHOUSE_JOBS_ALLOW_ROOT": "true",
    "ROUNDHOUSE_JOBS_LIMITS": "advisory",
}
# Says good-bye, and has left a process behind that went its own way.
POLITE = (
    "setsid env -i sleep 9301 </dev/null >/dev/null 2>&1 & "
    "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done"
)
STUBBORN = "trap '' TERM; echo up; while true; do sleep 0.05; done"


def up(data: Path, base_port: int | None = None) -> Up:
    return Up(data, "--only", "jobs", "--no-console", base_port=base_port, **SETTINGS)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Up]:
    data = tmp_path / "data"
    try:
        with up(data) as process:
            yield process.ready()
    finally:
        keeper = KeeperProcess.of(data / "pods")
        if keeper is not None:
            with keeper, watched(keeper.pid) as handles:
                keeper.end()
                keeper.end()
                gone(handles)


def until(read: Callable[[], Any], done: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + DEADLINE
    while not done(found := read()):
        assert time.monotonic() < end, found
    return found


def of_folder(data: Path) -> list[int]:
    """Processes that run in the sandboxes of `data`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd").startswith(f"{data}/pods/"):  # noqa: PTH115
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def create(process: Up, command: str, count: int) -> str:
    container = {"name": "main", "entrypoint": {"value": command}}
    spec = {
        "instanceCount": count,
        "respoolId": {"value": id_of(DEFAULT_PATH)},
        "defaultSpec": {"containers": [container], "killGracePeriodSeconds": 30},
    }
    status, answer = process.request("jobs", "POST", JOBS, {"spec": spec}, token=process.token())
    assert status == 200, answer
    return answer["jobId"]["value"]


def pods(process: Up, job: str) -> dict[str, dict[str, Any]]:
    """The status of each by its id."""
    status, answer = process.request("jobs", "GET", f"{JOBS}/{job}/pods:query", token=process.token())
    return {pod["status"]["podId"]["value"]: pod["status"] for pod in answer["pods"]} if status == 200 else {}


def running(found: dict[str, dict[str, Any]]) -> bool:
    return {status["state"] for status in found.values()} == {"POD_STATE_RUNNING"}


def log(process: Up, pod: str, run: str = "") -> str:
    asked = f"?podId.value={run}" if run else ""
    path = f"/v1alpha/pods/{pod}/log:download{asked}"
    return process.request("jobs", "GET", path, token=process.token())[1]


def run(process: Up, command: str, count: int = 1) -> str:
    """A job whose pods are up."""
    job = create(process, command, count)
    for instance in range(count):
        until(lambda i=instance: log(process, f"{job}-{i}"), lambda text: "up\n" in text)
    return job


def test_ctrl_c_ends_pods_and_keeps_what_is_wanted(started: Up) -> None:
    job = run(started, POLITE, 2)
    before = until(lambda: pods(started, job), running)
    processes = of_folder(started.data)
    assert len(processes) >= 4

    # The service dies: no pod notices.
    seen = len(started.lines)
    with watched(started.pid("jobs")) as handles:
        os.kill(started.pid("jobs"), signal.SIGKILL)
        assert gone(handles)
    started.wait_for(r"^jobs is ready again", after=seen)
    until(lambda: pods(started, job), lambda found: found.keys() == before.keys())
    kept = [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    leaders = {os.getsid(pid) for pid in kept}
    assert len(leaders & set(kept)) >= 2

    keeper = KeeperProcess.of(started.data / "pods")
    assert keeper is not None
    with keeper, watched(keeper.pid, *leaders) as handles:
        assert started.interrupt() == 0
        assert gone(handles)
    started.wait_for(r"^stopped in \d")
    assert of_folder(started.data) == []
    assert KeeperProcess.of(started.data / "pods") is None

    with up(started.data, started.base_port) as again:
        again.ready()
        found = until(
            lambda: pods(again, job),
            running,
        )
        assert set(found) == {f"{job}-0-2", f"{job}-1-2"}
        assert not any(status.get("failureCount") for status in found.values())
        assert log(again, f"{job}-0", f"{job}-0-1") == "up\nbye\n"
        again.process.terminate()
        assert again.process.wait(DEADLINE) == 0
    assert of_folder(started.data) == []


def test_ctrl_c_twice_kills_what_does_not_want_to_end(started: Up) -> None:
    run(started, STUBBORN)
    keeper = KeeperProcess.of(started.data / "pods")
    assert keeper is not None
    with keeper, watched(keeper.pid, *of_folder(started.data)[:1]) as handles:
        os.killpg(started.process.pid, signal.SIGINT)
        started.wait_for(r"^waiting for the pods to end; once more kills them")
        assert of_folder(started.data)
        assert started.interrupt() == 1
        assert gone(handles)
    started.wait_for(r"^killed")
    assert of_folder(started.data) == []
    assert KeeperProcess.of(started.data / "pods") is None

"""The keeper's own life: services and keepers that are killed, started twice, or are of another age."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.jobs.runtime.keeper import protocol
from services.jobs.runtime.keeper_process import KeeperProcess
from services.jobs.runtime.port import Attempt, Ending, Observation, Phase, RuntimeUnavailable
from services.jobs.runtime.process import ProcessRuntime
from shared.errors import InvalidArgument
from tests.contract import keeper_yard
from tests.contract.keeper_yard import NODE, keeper_pid, kill_keeper, living, opened, shell, until
from tests.e2e.process import gone, watched

_ROOT = Path(__file__).parents[2]
_ESCAPE = "setsid env -i sleep {} </dev/null >/dev/null 2>&1 &"


@pytest.fixture
def home() -> Iterator[Path]:
    with keeper_yard.yard() as home:
        yield home


async def start(runtime: ProcessRuntime, pod_id: str, command: str, grace: int = 0) -> None:
    spec = shell(command)
    spec.kill_grace_period_seconds = grace
    await runtime.start(Attempt(pod_id, spec))


async def all_in(runtime: ProcessRuntime, phase: Phase, *names: str) -> dict[str, Observation]:
    """Once all of those are there."""
    known: dict[str, Observation] = {}
    async with asyncio.timeout(keeper_yard.DEADLINE):
        while any(name not in known or known[name].phase is not phase for name in names):
            await asyncio.sleep(0.005)
            known = {found.pod_id: found for found in await runtime.attempts()}
    return known


_SERVICE = """
import asyncio, sys
from pathlib import Path
from services.jobs.runtime.port import Attempt
from services.jobs.runtime.process import ProcessRuntime
from tests.contract.keeper_yard import NODE, shell

async def main():
    runtime = ProcessRuntime(Path(sys.argv[1]), NODE)
    await runtime.open()
    await runtime.start(Attempt("a-0-1", shell("i=0; while true; do i=$((i+1)); echo $i; sleep 0.02; done")))
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_service_takes_no_pod_with_it(home: Path) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _SERVICE,
        str(home),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "SECRET_OF_THE_SERVICE": "x"},
    )
    assert service.stdout is not None
    assert await service.stdout.readline() == b"started\n"
    pid = keeper_pid(home)
    os.killpg(service.pid, signal.SIGKILL)
    await service.wait()
    async with opened(home) as runtime:
        known = await all_in(runtime, Phase.RUNNING, "a-0-1")
        assert keeper_pid(home) == pid
        assert known["a-0-1"].started_at
        before = (await runtime.read_log("a-0-1", "stdout")).data
        while (data := (await runtime.read_log("a-0-1", "stdout")).data) == before:
            await asyncio.sleep(0.005)
        numbers = [int(line) for line in data.split()]
        assert numbers == list(range(1, len(numbers) + 1))
    assert b"SECRET_OF_THE_SERVICE" not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_killed_keeper_leaves_no_process_and_the_next_one_knows_all(home: Path) -> None:
    async with opened(home) as runtime:
        for number in range(10):
            await start(runtime, f"a-{number}-1", f"{_ESCAPE.format(8100 + number)} echo up; exec sleep 8200")
        await start(runtime, "b-0-1", "echo over; exit 6")
        names = [f"a-{number}-1" for number in range(10)]
        await all_in(runtime, Phase.RUNNING, *names)
        await until(lambda: all(living(f"sleep {8100 + number}") for number in range(10)))
        over = (await all_in(runtime, Phase.ENDED, "b-0-1"))["b-0-1"]
        await kill_keeper(home)
        await keeper_yard.reached(runtime)
        known = await all_in(runtime, Phase.ENDED, *names)
        assert {known[name].ending for name in names} == {Ending.LOST}
        assert [living(f"sleep {number}") for number in (*range(8100, 8110), 8200)] == [[]] * 11
        assert known["b-0-1"] == over
        assert (await runtime.read_log("b-0-1", "stdout")).data == b"over\n"
        assert (await runtime.read_log("a-3-1", "stdout")).data == b"up\n"


async def test_what_had_not_begun_begins_under_the_next_keeper_once(home: Path) -> None:
    async with opened(home, replace(NODE, launch_rate=0.001)) as runtime:
        await start(runtime, "a-0-1", "echo begun >> ../count; exec sleep 8301")
        await start(runtime, "a-1-1", "echo begun >> ../count; exec sleep 8302")
        await all_in(runtime, Phase.RUNNING, "a-0-1")
    await kill_keeper(home)
    async with opened(home) as runtime:
        await all_in(runtime, Phase.ENDED, "a-0-1")
        await all_in(runtime, Phase.RUNNING, "a-1-1")
        await until(lambda: (home / "count").read_text() == "begun\nbegun\n")
    await kill_keeper(home)
    async with opened(home) as runtime:
        await all_in(runtime, Phase.ENDED, "a-0-1", "a-1-1")
        assert (home / "count").read_text() == "begun\nbegun\n"
        assert (living("sleep 8301"), living("sleep 8302")) == ([], [])


async def test_kills_at_any_time_double_and_forget_nothing(home: Path) -> None:
    """Whatever was accepted is known afterwards, ran at most once, and is not left behind."""
    async with opened(home) as runtime:
        accepted: set[str] = set()

        async def feed(batch: int) -> None:
            for number in range(30):
                name = f"a-{batch}-{number}"
                try:
                    await start(runtime, name, f"echo {name} >> ../ran; {_ESCAPE.format(8400)} sleep 0.3")
                except RuntimeUnavailable:
                    continue
                accepted.add(name)

        for batch in range(3):
            feeding = asyncio.create_task(feed(batch))
            while len(accepted) < 30 * batch + 5 * (batch + 1) and not feeding.done():
                await asyncio.sleep(0)
            await kill_keeper(home)
            await feeding
            await keeper_yard.reached(runtime)
        known = await all_in(runtime, Phase.ENDED, *accepted)
        ran = (home / "ran").read_text().split()
        assert len(ran) == len(set(ran))
        assert known.keys() >= accepted
        assert known.keys() >= set(ran)
        for name in ran:
            assert known[name].ending in (Ending.EXITED, Ending.LOST)
        assert living("sleep 8400") == []


async def test_a_connection_that_broke_is_replaced_at_once(home: Path) -> None:
    """Though its reader has not noticed yet."""
    async with opened(home) as runtime:
        link = runtime._keeper._link
        assert link is not None
        link._writer.transport.abort()
        assert await runtime.attempts() == []


async def test_many_that_start_it_at_once_get_one(home: Path) -> None:
    runtimes = [ProcessRuntime(home, NODE) for _ in range(5)]
    await asyncio.gather(*(runtime.open() for runtime in runtimes))
    await asyncio.gather(*(start(runtime, "a-0-1", "echo one; exec sleep 100") for runtime in runtimes))
    for runtime in runtimes:
        assert list(await all_in(runtime, Phase.RUNNING, "a-0-1")) == ["a-0-1"]
        await runtime.close()
    await until(lambda: _keepers(home) == [keeper_pid(home)])


def _keepers(home: Path) -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if _is_keeper(entry, home)]


def _is_keeper(entry: Path, home: Path) -> bool:
    try:
        return entry.name.isdigit() and os.fsencode(home) in (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


async def test_a_path_longer_than_a_socket_may_have(home: Path) -> None:
    deep = home / ("long" * 30) / ("path" * 30)
    async with opened(deep) as runtime:
        await start(runtime, "a-0-1", "pwd")
        await all_in(runtime, Phase.ENDED, "a-0-1")
        assert (await runtime.read_log("a-0-1", "stdout")).data.decode() == f"{deep}/a-0-1\n"
        await runtime.forget("a-0-1")
        await runtime.end()
    await until(lambda: not keeper_pid(deep))


async def test_its_end_is_gentle_and_what_waited_is_not_lost(home: Path) -> None:
    async with opened(home, replace(NODE, launch_rate=100)) as runtime:
        await start(
            runtime,
            "a-0-1",
            f"trap 'echo bye; exit 0' TERM; {_ESCAPE.format(8501)} echo up; sleep 100 & wait",
            20,
        )
        while (await runtime.read_log("a-0-1", "stdout")).data != b"up\n":
            await asyncio.sleep(0.005)
    async with opened(home, replace(NODE, launch_rate=0.001)) as runtime:
        await start(runtime, "a-1-1", "sleep 8502")
        await start(runtime, "a-2-1", "echo later; exit 3")
        os.kill(keeper_pid(home), signal.SIGTERM)
        await until(lambda: not keeper_pid(home))
    assert [living(text) for text in ("sleep 8501", "sleep 8502")] == [[], []]
    async with opened(home) as runtime:
        known = await all_in(runtime, Phase.ENDED, "a-0-1", "a-2-1")
        assert (known["a-0-1"].ending, known["a-2-1"].ending) == (Ending.LOST, Ending.EXITED)
        assert (await runtime.read_log("a-0-1", "stdout")).data == b"up\nbye\n"
        assert (await runtime.read_log("a-2-1", "stdout")).data == b"later\n"


async def test_a_keeper_of_another_version_is_left_alone(home: Path) -> None:
    folder = home / ".keeper"
    folder.mkdir(parents=True)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(protocol.frame({"version": protocol.VERSION + 1, "pid": 4711}))
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(greet, folder / "socket")
    async with server:
        runtime = ProcessRuntime(home, NODE)
        with pytest.raises(RuntimeUnavailable, match=r"process 4711 .* Its pods go on"):
            await runtime.open()
        await runtime.close()
    assert not keeper_pid(home)


async def test_a_journal_that_was_cut_off_is_read_as_far_as_it_goes(home: Path) -> None:
    async with opened(home) as runtime:
        await start(runtime, "a-0-1", "exit 8")
        before = await all_in(runtime, Phase.ENDED, "a-0-1")
    await kill_keeper(home)
    with (home / ".keeper" / "journal").open("ab") as journal:
        journal.write(b'null\n{"ended": 7}\n{"begun": "unheard-of"}\n\xff\xfe\n{"accepted": {"pod_id": "torn')
    async with opened(home) as runtime:
        assert await all_in(runtime, Phase.ENDED, "a-0-1") == before
        await start(runtime, "a-0-2", "exit 9")
        assert (await all_in(runtime, Phase.ENDED, "a-0-2"))["a-0-2"].exit_code == 9


async def test_after_a_new_start_of_the_host_nothing_is_begun_again(home: Path) -> None:
    async with opened(home, replace(NODE, launch_rate=0.001)) as runtime:
        await start(runtime, "a-0-1", "exec sleep 8601")
        await start(runtime, "a-1-1", "touch ../begun")
        await all_in(runtime, Phase.RUNNING, "a-0-1")
    await kill_keeper(home)
    journal = home / ".keeper" / "journal"
    lines = journal.read_text().splitlines()
    assert "boot" in json.loads(lines[0])
    journal.write_text("\n".join(['{"boot":"another"}', *lines[1:], ""]))
    async with opened(home) as runtime:
        known = await all_in(runtime, Phase.ENDED, "a-0-1", "a-1-1")
        assert {found.ending for found in known.values()} == {Ending.LOST}
        assert not (home / "begun").exists()


async def test_a_keeper_with_nothing_to_keep_ends_by_itself_and_nothing_is_forgotten(home: Path) -> None:
    async with opened(home, replace(NODE, idle=0.1)) as runtime:
        await start(runtime, "a-0-1", "sleep 1; exit 7")
        await all_in(runtime, Phase.RUNNING, "a-0-1")
    # Nobody asks, but there is something to keep.
    await until(lambda: (home / "a-0-1" / "exit.json").exists())
    await until(lambda: not keeper_pid(home))
    async with opened(home) as runtime:
        assert (await all_in(runtime, Phase.ENDED, "a-0-1"))["a-0-1"].exit_code == 7


async def test_launches_are_limited(home: Path) -> None:
    async with opened(home, replace(NODE, launch_rate=20)) as runtime:
        names = [f"a-{number}-1" for number in range(12)]
        for name in names:
            await start(runtime, name, "true")
        known = await all_in(runtime, Phase.ENDED, *names)
    times = sorted(found.started_at for found in known.values())
    # A burst of two, then one in 50 ms.
    assert times[-1] - times[0] >= 0.9 * (12 - 2) / 20 * 1e9


async def test_root_runs_no_pods_unless_that_is_allowed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    runtime = ProcessRuntime(home, replace(NODE, allow_root=False))
    with pytest.raises(InvalidArgument, match="ROUNDHOUSE_JOBS_ALLOW_ROOT"):
        await runtime.open()
    assert not keeper_pid(home)


async def test_a_keeper_that_cannot_start_says_why(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    runtime = ProcessRuntime(blocked / "pods", NODE)
    with pytest.raises(RuntimeUnavailable, match="Not a directory"):
        await runtime.open()
    await runtime.close()


_STARTER = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "services.jobs.runtime.keeper", sys.argv[1]])
"""


def test_a_keeper_is_not_left_behind_by_a_service_that_is_killed_while_it_starts(home: Path) -> None:
    folder = home / ".keeper"
    folder.mkdir(parents=True)
    # It waits here until somebody writes.
    os.mkfifo(folder / "journal")
    starter = subprocess.Popen([sys.executable, "-c", _STARTER, str(home)], cwd=_ROOT)
    try:
        while (keeper := KeeperProcess.of(home)) is None:
            assert starter.poll() is None
        with keeper:
            launcher = int(Path(f"/proc/{keeper.pid}/stat").read_text().rpartition(")")[2].split()[1])
            with watched(keeper.pid) as ends, watched(launcher) as launchers:
                starter.kill()
                starter.wait()
                assert gone(launchers)
                (folder / "journal").write_bytes(b"")
                assert gone(ends)
    finally:
        starter.kill()
        starter.wait()
    assert "whoever started it is gone" in (folder / "log").read_text()

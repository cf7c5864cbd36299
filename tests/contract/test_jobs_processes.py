"""What real processes do to their keeper, and what it does about that."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.jobs.runtime.port import Attempt, Ending, Health, Observation, Phase
from services.jobs.runtime.process import ProcessRuntime
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.volume import volume_pb2
from tests.contract import keeper_yard
from tests.contract.keeper_yard import NODE, living, shell, until

_SECOND = 1_000_000_000
# Reparented, of another session and group, without environment and open files.
_ESCAPE = "setsid env -i /bin/sh -c '{}' </dev/null >/dev/null 2>&1 &"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with keeper_yard.yard() as home:
        yield home


@pytest.fixture
async def runtime(home: Path) -> AsyncIterator[ProcessRuntime]:
    async with keeper_yard.opened(home) as runtime:
        yield runtime
        await keeper_yard.clear(runtime)


async def start(runtime: ProcessRuntime, pod_id: str, spec: pod_pb2.PodSpec | str) -> None:
    spec = shell(spec) if isinstance(spec, str) else spec
    await runtime.start(Attempt(pod_id, spec, {"POD_ID": pod_id, "POD_NAME": "a-0"}))


async def seen(runtime: ProcessRuntime, pod_id: str, phase: Phase) -> Observation:
    order = list(Phase)
    async with asyncio.timeout(keeper_yard.DEADLINE):
        async for found in runtime.watch():
            if found.pod_id == pod_id and order.index(found.phase) >= order.index(phase):
                return found
    raise AssertionError(f"{pod_id} never was {phase}")


async def ended(runtime: ProcessRuntime, pod_id: str) -> Observation:
    return await seen(runtime, pod_id, Phase.ENDED)


async def said(runtime: ProcessRuntime, pod_id: str, stream: str = "stdout") -> str:
    found = b""
    while data := (await runtime.read_log(pod_id, stream, offset=len(found), limit=1 << 20)).data:
        found += data
    return found.decode()


async def output(runtime: ProcessRuntime, spec: pod_pb2.PodSpec | str) -> str:
    """What it writes until it ends by itself."""
    await start(runtime, "a-0-1", spec)
    found = await ended(runtime, "a-0-1")
    assert (found.ending, found.exit_code) == (Ending.EXITED, 0), (
        found,
        await said(runtime, "a-0-1", "stderr"),
    )
    return await said(runtime, "a-0-1")


class TestNothingOutlivesAnAttempt:
    async def test_what_it_left_behind_ends_with_it(self, runtime: ProcessRuntime) -> None:
        await start(runtime, "a-0-1", f"{_ESCAPE.format('sleep 7101')} sleep 7102 & sleep 0.2; exit 3")
        found = await ended(runtime, "a-0-1")
        assert (living("7101"), living("7102")) == ([], [])
        assert (found.ending, found.exit_code) == (Ending.EXITED, 3)

    async def test_what_escaped_runs_as_long_as_the_attempt(self, runtime: ProcessRuntime) -> None:
        await start(runtime, "a-0-1", f"{_ESCAPE.format('sleep 7103')} exec sleep 7104")
        await until(lambda: bool(living("sleep 7103") and living("sleep 7104")))
        await runtime.stop("a-0-1", 0)
        await ended(runtime, "a-0-1")
        assert (living("7103"), living("7104")) == ([], [])

    async def test_an_escaped_process_that_ignores_the_stop_has_its_grace_and_no_more(
        self, runtime: ProcessRuntime, home: Path
    ) -> None:
        escaped = 'trap "" TERM; echo > ready; while true; do sleep 7105; done'
        await start(runtime, "a-0-1", f"{_ESCAPE.format(escaped)} exec sleep 7106")
        await until((home / "a-0-1" / "ready").exists)
        await runtime.stop("a-0-1", 0.5)
        found = await ended(runtime, "a-0-1")
        assert found.signal == "SIGTERM"
        assert found.ended_at - found.started_at >= 0.5 * _SECOND
        assert living("7105") == []

    async def test_an_escaped_process_is_asked_to_end_as_well(
        self, runtime: ProcessRuntime, home: Path
    ) -> None:
        escaped = 'trap "echo > asked; exit" TERM; echo > ready; while true; do sleep 0.05; done'
        await start(runtime, "a-0-1", f"{_ESCAPE.format(escaped)} exec sleep 7111")
        await until((home / "a-0-1" / "ready").exists)
        await runtime.stop("a-0-1", 3600)
        await ended(runtime, "a-0-1")
        assert (home / "a-0-1" / "asked").exists()

    async def test_a_child_may_finish_its_work_though_its_shell_is_gone(
        self, runtime: ProcessRuntime
    ) -> None:
        child = "trap 'sleep 0.3; echo done; exit' TERM; echo ready; while true; do sleep 0.05; done"
        await start(runtime, "a-0-1", f"sh -c {shlex.quote(child)} & wait; wait")
        while "ready" not in await said(runtime, "a-0-1"):
            await asyncio.sleep(0.005)
        await runtime.stop("a-0-1", 20)
        found = await ended(runtime, "a-0-1")
        assert found.ending is Ending.STOPPED
        assert await said(runtime, "a-0-1") == "ready\ndone\n"

    async def test_a_process_that_runs_away_from_its_pid_is_caught(self, runtime: ProcessRuntime) -> None:
        runner = "import os\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
        await start(
            runtime, "a-0-1", f"{shlex.quote(sys.executable)} -S -c {shlex.quote(runner)} 7107; sleep 0.2"
        )
        await ended(runtime, "a-0-1")
        assert living("7107") == []

    async def test_a_bomb_is_cleared_away(self, runtime: ProcessRuntime) -> None:
        bomb = (
            "echo x >> bombs; if [ $(wc -l < bombs) -lt 200 ]; then "
            "for i in 1 2; do setsid sh -c '. ./bomb' 7108 & done; fi; sleep 7109"
        )
        await start(runtime, "a-0-1", f"echo {shlex.quote(bomb)} > bomb; . ./bomb")
        await until(lambda: len(living("7109")) > 50)
        await runtime.stop("a-0-1", 0)
        await ended(runtime, "a-0-1")
        assert (living("7108"), living("7109")) == ([], [])

    async def test_one_ends_and_the_others_are_not_touched(self, runtime: ProcessRuntime) -> None:
        for number in range(5):
            await start(
                runtime, f"a-{number}-1", f"{_ESCAPE.format(f'sleep 72{number}0')} exec sleep 73{number}0"
            )
        await until(lambda: all(living(f"sleep 72{number}0") for number in range(5)))
        await runtime.stop("a-2-1", 0)
        await ended(runtime, "a-2-1")
        assert living("sleep 7220") == []
        assert all(living(f"sleep 72{number}0") and living(f"sleep 73{number}0") for number in (0, 1, 3, 4))

    async def test_a_thousand_attempts_leave_nothing_in_the_keeper(
        self, runtime: ProcessRuntime, home: Path
    ) -> None:
        keeper = Path(f"/proc/{keeper_yard.keeper_pid(home)}")
        await output(runtime, "true")

        def held() -> tuple[int, int]:
            children = (keeper / "task" / keeper.name / "children").read_text().split()
            return len(list((keeper / "fd").iterdir())), len(children)

        before = held()
        for batch in range(5):
            names = [f"b-{batch}-{number}" for number in range(200)]
            await asyncio.gather(*(start(runtime, name, "echo out; sleep 0 & exit 0") for name in names))
            missing = set(names)
            async with asyncio.timeout(keeper_yard.DEADLINE):
                async for found in runtime.watch():
                    if found.phase is Phase.ENDED and found.pod_id in missing:
                        assert (found.ending, found.exit_code) == (Ending.EXITED, 0)
                        missing.discard(found.pod_id)
                    if not missing:
                        break
            await asyncio.gather(*(runtime.forget(name) for name in names))
        # The connections of the watches go in their own time, as did one that was counted before.
        await until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))
        assert not list(home.glob("b-*"))


class TestLogs:
    async def test_both_are_whole_over_many_files(self, home: Path) -> None:
        async with keeper_yard.opened(home, replace(NODE, log_bytes=20_000, log_files=100)) as runtime:
            await start(runtime, "a-0-1", "seq 1 60000 & seq 1 60000 >&2; wait")
            await ended(runtime, "a-0-1")
            expected = "".join(f"{number}\n" for number in range(1, 60_001))
            assert await said(runtime, "a-0-1") == expected
            assert await said(runtime, "a-0-1", "stderr") == expected
            files = sorted((home / "a-0-1").glob("stdout*"))
            assert len(files) >= len(expected) // 20_000
            assert all(path.stat().st_size <= 20_000 and path.read_bytes()[-1:] == b"\n" for path in files)
            await keeper_yard.clear(runtime)

    async def test_the_oldest_go_first_and_offsets_stay(self, home: Path) -> None:
        async with keeper_yard.opened(home, replace(NODE, log_bytes=1000, log_files=3)) as runtime:
            await start(runtime, "a-0-1", "seq 1 5000")
            await ended(runtime, "a-0-1")
            whole = "".join(f"{number}\n" for number in range(1, 5001)).encode()
            found = await runtime.read_log("a-0-1", "stdout", offset=0, limit=1 << 20)
            assert found.data == whole[found.offset :]
            assert 1000 < len(found.data) <= 3000
            assert len(list((home / "a-0-1").glob("stdout*"))) == 3
            await keeper_yard.clear(runtime)

    async def test_a_line_without_end_is_cut_into_files(self, home: Path) -> None:
        async with keeper_yard.opened(home, replace(NODE, log_bytes=1000, log_files=100)) as runtime:
            assert await output(runtime, "printf 'short\\n'; printf '%05000d' 7; printf '\\nend\\n'") == (
                "short\n" + "7".zfill(5000) + "\nend\n"
            )
            await keeper_yard.clear(runtime)

    async def test_an_attempt_that_removes_its_files_harms_nobody(self, home: Path) -> None:
        async with keeper_yard.opened(home, replace(NODE, log_bytes=1000, log_files=5)) as runtime:
            await start(
                runtime,
                "a-0-1",
                "rm -rf ./* ; mkfifo stdout.tmp; mv stdout.tmp stdout; seq 1 1000; echo last",
            )
            await ended(runtime, "a-0-1")
            tail = await runtime.read_log("a-0-1", "stdout", offset=-5)
            assert tail.data == b"last\n"
            await keeper_yard.clear(runtime)

    async def test_a_closed_stdout_is_no_end(self, runtime: ProcessRuntime) -> None:
        await start(runtime, "a-0-1", "echo one; exec >&- 2>&-; sleep 0.2; exit 5")
        assert (await ended(runtime, "a-0-1")).exit_code == 5
        assert await said(runtime, "a-0-1") == "one\n"

    async def test_they_can_be_read_while_they_are_written(self, runtime: ProcessRuntime) -> None:
        await start(
            runtime, "a-0-1", "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two; exec sleep 100"
        )
        while await said(runtime, "a-0-1") != "one\n":
            await asyncio.sleep(0.005)
        sandbox = (await seen(runtime, "a-0-1", Phase.RUNNING)).pod_id
        assert "stdout" in await runtime.files(sandbox)


class TestWhatItRunsIn:
    async def test_the_environment_is_its_own(
        self, runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch, home: Path
    ) -> None:
        spec = shell("env")
        spec.containers[0].environment.add(name="COLOUR", value="blue")
        spec.containers[0].environment.add(name="POD_ID", value="a lie")
        found = dict(line.split("=", 1) for line in (await output(runtime, spec)).splitlines())
        assert found.keys() - {"PWD", "SHLVL", "_", "OLDPWD"} == {
            "PATH", "LANG", "HOME", "MESOS_SANDBOX", "COLOUR", "POD_ID", "POD_NAME",
        }  # fmt: skip
        assert (found["COLOUR"], found["POD_ID"]) == ("blue", "a-0-1")
        assert found["HOME"] == str(home / "a-0-1") == os.path.realpath(found["PWD"])

    async def test_it_inherits_no_file_and_no_signal_setting(self, runtime: ProcessRuntime) -> None:
        program = (
            "import os, signal\n"
            "opened = []\n"
            "for number in range(100):\n"
            "    try: opened.append((number, os.readlink(f'/proc/self/fd/{number}').split(':')[0]))\n"
            "    except OSError: pass\n"
            "print(opened)\n"
            "status = open('/proc/self/status').read()\n"
            "print([line for line in status.splitlines() if line.startswith('SigBlk')])\n"
            "print(signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM))\n"
            "print(os.getsid(0) == os.getpgrp() == os.getpid())\n"
        )
        spec = shell(sys.executable)
        spec.mesos_spec.shell = False
        spec.containers[0].entrypoint.arguments.extend(["-c", program])
        lines = (await output(runtime, spec)).splitlines()
        assert eval(lines[0]) == [(0, "/dev/null"), (1, "pipe"), (2, "pipe")]
        assert lines[1] == "['SigBlk:\\t0000000000000000']"
        assert lines[2] == "0 0"
        assert lines[3] == "True"

    async def test_arguments_reach_the_shell(self, runtime: ProcessRuntime) -> None:
        spec = shell('echo "$0" "$1" "$2"')
        spec.containers[0].entrypoint.arguments.extend(["one two", "three"])
        assert await output(runtime, spec) == "sh one two three\n"

    async def test_limits_hold(self, runtime: ProcessRuntime) -> None:
        spec = shell(
            "ulimit -n; ulimit -Hn; ulimit -v; ulimit -f; head -c 3000000 /dev/zero > f; echo $?; wc -c < f"
        )
        resource = spec.containers[0].resource
        resource.fd_limit, resource.mem_limit_mb, resource.disk_limit_mb = 77, 64, 2
        found = (await output(runtime, spec)).split()
        assert found[:4] == ["77", "77", str(64 * 1024), str(2 * 2048)]
        assert found[4] != "0"
        assert found[5] == str(2 << 20)

    async def test_memory_that_it_may_not_have_is_not_given(self, runtime: ProcessRuntime) -> None:
        spec = shell(f"{sys.executable} -S -c 'bytearray(200 << 20)'")
        spec.containers[0].resource.mem_limit_mb = 150
        await start(runtime, "a-0-1", spec)
        assert (await ended(runtime, "a-0-1")).exit_code == 1
        assert "MemoryError" in await said(runtime, "a-0-1", "stderr")

    async def test_an_advisory_limit_is_said(self, home: Path) -> None:
        async with keeper_yard.opened(home, replace(NODE, enforce=False)) as runtime:
            spec = shell("sleep 100")
            spec.containers[0].resource.cpu_limit = 2
            await start(runtime, "a-0-1", spec)
            found = await seen(runtime, "a-0-1", Phase.RUNNING)
            assert found.message == "The CPU limit is counted, not enforced"
            await keeper_yard.clear(runtime)

    async def test_processes_are_bounded_for_the_user(self, home: Path) -> None:
        async with keeper_yard.opened(home, replace(NODE, processes=4321)) as runtime:
            found = await output(runtime, "grep 'Max processes' /proc/self/limits")
            assert found.split()[2] == "4321"
            await keeper_yard.clear(runtime)

    async def test_empty_volumes_come_and_go(self, runtime: ProcessRuntime, home: Path) -> None:
        spec = shell("echo kept > work/deep/file; cat work/deep/file; exec sleep 100")
        spec.volumes.add(
            name="scratch",
            type=volume_pb2.VolumeSpec.VOLUME_TYPE_EMPTY_DIR,
            empty_dir=volume_pb2.VolumeSpec.EmptyDirVolumeSource(),
        )
        spec.containers[0].volume_mounts.add(name="scratch", mount_path="./work/deep/")
        await start(runtime, "a-0-1", spec)
        while await said(runtime, "a-0-1") != "kept\n":
            await asyncio.sleep(0.005)
        assert "work/deep/file" in await runtime.files("a-0-1")
        await runtime.stop("a-0-1", 0)
        await ended(runtime, "a-0-1")
        assert not (home / "a-0-1" / "work" / "deep").exists()

    async def test_how_it_ended_is_written_down(self, runtime: ProcessRuntime, home: Path) -> None:
        await start(runtime, "a-0-1", "exit 9")
        found = await ended(runtime, "a-0-1")
        await until(lambda: (home / "a-0-1" / "exit.json").exists())
        assert json.loads((home / "a-0-1" / "exit.json").read_text()) == {
            "ending": "exited",
            "exit_code": 9,
            "signal": "",
            "started_at": found.started_at,
            "ended_at": found.ended_at,
            "message": "",
        }

    @pytest.mark.parametrize("command", ["/nonexistent/x", "no-such-program", "/etc/passwd", "/tmp", "nul\0"])
    async def test_what_cannot_be_executed_says_so(self, runtime: ProcessRuntime, command: str) -> None:
        spec = shell(command)
        spec.mesos_spec.shell = False
        await start(runtime, "a-0-1", spec)
        found = await ended(runtime, "a-0-1")
        assert found.ending is Ending.LAUNCH_FAILED
        assert command in found.message
        assert found.message != command

    @pytest.mark.parametrize("pod_id", ["../a", "a/b", ".keeper", "", "a" * 300])
    async def test_an_id_is_no_way_out_of_the_folder(self, runtime: ProcessRuntime, pod_id: str) -> None:
        with pytest.raises(ValueError, match="no name of a folder"):
            await start(runtime, pod_id, "true")
        assert await runtime.attempts() == []


class TestPorts:
    async def test_they_are_in_variables_and_templates(self, runtime: ProcessRuntime) -> None:
        spec = shell("echo $WEB {{port.web}} {{ port.other }} {{port.none}} $URL {{port.alias}}")
        ports = spec.containers[0].ports
        ports.add(name="web", env_name="WEB", template_name="alias")
        ports.add(name="other", env_name="OTHER", type=pod_pb2.PortSpec.PORT_TYPE_DYNAMIC_TEMPLATE_VAR)
        spec.containers[0].environment.add(name="URL", value="http://x:{{port.other}}/")
        found = (await output(runtime, spec)).split()
        observed = (await ended(runtime, "a-0-1")).ports
        web, other = str(observed["web"]), str(observed["other"])
        assert found == [web, web, other, "{{port.none}}", f"http://x:{other}/", web]
        assert all(31000 <= port <= 32000 for port in observed.values())

    async def test_a_fixed_port_is_for_one_at_a_time(self, runtime: ProcessRuntime) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            number = listener.getsockname()[1]
            listener.listen()
            spec = shell("sleep 100")
            spec.containers[0].ports.add(name="web", value=number)
            await start(runtime, "a-0-1", spec)
            found = await ended(runtime, "a-0-1")
            assert (found.ending, str(number) in found.message) == (Ending.LAUNCH_FAILED, True)
        await start(runtime, "a-0-2", spec)
        assert (await seen(runtime, "a-0-2", Phase.RUNNING)).ports == {"web": number}
        await start(runtime, "a-1-1", spec)
        assert (await ended(runtime, "a-1-1")).ending is Ending.LAUNCH_FAILED
        await runtime.stop("a-0-2", 0)
        await ended(runtime, "a-0-2")
        await start(runtime, "a-1-2", spec)
        assert (await seen(runtime, "a-1-2", Phase.RUNNING)).phase is Phase.RUNNING

    async def test_gpus_are_leased(self, home: Path) -> None:
        async with keeper_yard.opened(home, replace(NODE, gpus=("3", "GPU-7"))) as runtime:
            spec = shell("echo $CUDA_VISIBLE_DEVICES; exec sleep 100")
            spec.containers[0].resource.gpu_limit = 1
            for name in ("a-0-1", "a-1-1", "a-2-1"):
                await start(runtime, name, spec)
            assert (await ended(runtime, "a-2-1")).ending is Ending.LAUNCH_FAILED
            for name, device in (("a-0-1", "3\n"), ("a-1-1", "GPU-7\n")):
                while await said(runtime, name) != device:
                    await asyncio.sleep(0.005)
            await keeper_yard.clear(runtime)


def _checked(spec: pod_pb2.PodSpec, kind: int) -> pod_pb2.HealthCheckSpec:
    check = spec.containers[0].liveness_check
    check.enabled = True
    check.type = kind  # type: ignore[assignment]  # one of the enum's numbers
    check.initial_interval_secs = check.interval_secs = 1
    check.max_consecutive_failures = 1
    check.timeout_secs = 1
    return check


_SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == "/health" and self.headers["X-Probe"] == "yes" and not os.path.exists("sick")
        self.send_response(204 if good else 503)
        self.end_headers()
        if good:
            open("sick", "w").close()
http.server.HTTPServer(("127.0.0.1", int(os.environ["WEB"])), Handler).serve_forever()
"""


class TestHealth:
    async def test_http_and_commands_side_by_side(self, runtime: ProcessRuntime) -> None:
        """All at once, for each takes seconds."""
        web = shell(f"exec {sys.executable} -S -c {shlex.quote(_SERVER)}")
        web.containers[0].ports.add(name="web", env_name="WEB")
        get = _checked(web, pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_HTTP).http_get
        get.path, get.port_spec.name = "/health", "web"
        get.http_headers.add(name="X-Probe", value="yes")

        silent = shell("exec sleep 100")
        closed = _checked(silent, pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_HTTP)
        closed.http_check.path, closed.http_check.port = "/", 1

        slow = shell("exec sleep 100")
        _checked(
            slow, pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND
        ).command_check.command = "sleep 7110 & yes"

        bare = shell("exec sleep 100")
        bare.containers[0].environment.add(name="COLOUR", value="blue")
        check = _checked(bare, pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND)
        check.command_check.command = 'echo "$COLOUR-$(pwd)"; exit 4'
        check.command_check.unshare_environments = True

        own = shell("exec sleep 100")
        own.containers[0].environment.add(name="COLOUR", value="blue")
        check = _checked(own, pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND)
        check.command.value = 'echo "$COLOUR $1"; exit 4'
        check.command.arguments.append("argument")
        check.max_consecutive_failures = 2

        litter = shell("exec sleep 100")
        check = _checked(litter, pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND)
        check.command_check.command = "sleep 7112 >/dev/null 2>&1 &"
        await start(runtime, "litter-0-1", litter)

        for name, spec in (("web", web), ("silent", silent), ("slow", slow), ("bare", bare), ("own", own)):
            await start(runtime, f"{name}-0-1", spec)
        history: dict[str, list[Observation]] = {}
        async with asyncio.timeout(keeper_yard.DEADLINE):
            async for found in runtime.watch():
                history.setdefault(found.pod_id, []).append(found)
                over = sum(known[-1].phase is Phase.ENDED for known in history.values())
                if over == 5 and history["litter-0-1"][-1].health is Health.HEALTHY:
                    break
        assert history.pop("litter-0-1")[-1].phase is Phase.RUNNING
        await until(lambda: not living("sleep 7112"))
        ends = {name.split("-")[0]: known[-1] for name, known in history.items()}
        assert {found.ending for found in ends.values()} == {Ending.UNHEALTHY}
        assert {found.health for found in ends.values()} == {Health.UNHEALTHY}
        assert Health.HEALTHY in [found.health for found in history["web-0-1"]]
        assert ends["web"].health_output == "HTTP 503 (1 in a row)"
        assert "Connect" in ends["silent"].health_output
        assert ends["slow"].health_output == "no answer within 1 s (1 in a row)"
        assert ends["bare"].health_output.startswith("status 4: -/")
        assert ends["own"].health_output == "status 4: blue argument (2 in a row)"
        outputs = [found.health_output for found in history["own-0-1"]]
        assert "status 4: blue argument (1 in a row)" in outputs
        assert living("7110") == []

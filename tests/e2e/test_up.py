"""`roundhouse up` as a user meets it: real processes and sockets, kills, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.cli import lock, ports
from tests.e2e.process import HOST, ROOT, Up, free_base_port, gone, roundhouse, watched


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "data") as process:
        yield process.ready()


def listening(process: Up) -> list[str]:
    return [name for name in ("pipelines", "console") if ports.is_taken(HOST, process.http_port(name))]


def supervisor_pid(process: Up) -> int:
    return int((process.data / "run" / "supervisord.pid").read_text())


def documented(metric: str, text: str) -> bool:
    verb = re.fullmatch(r"experiment_server_(\w+)_requests(_total)?", metric)
    if verb:
        return f"`{verb[1]}`" in text or f"_{verb[1]}_requests" in text
    return metric.startswith("process_") or metric in text


def children(process: Up) -> list[int]:
    return [process.pid(name) for name in ("pipelines", "console")]


def test_a_day_with_it(up: Up) -> None:
    """Start, use, a crash, Ctrl-C, start again: nothing is lost and everything is said."""
    link = up.wait_for(r"console +(http://\S+/sign-in\?code=\S+)").group(1)
    status, page = up.request("console", "GET", re.sub(r"^http://[^/]+", "", link))
    assert status == 200
    assert "<form" in page
    identifier = up.experiment("kept")

    seen = len(up.lines)
    with watched(up.pid("pipelines")) as handles:
        os.kill(up.pid("pipelines"), signal.SIGKILL)
        assert gone(handles)
    up.wait_for(r"^pipelines died \(SIGKILL\), restarting (now|in 1 s); its log: .*\.log", after=seen)
    up.wait_for(r"^pipelines is started again \(pid \d+\)", after=seen)
    up.wait_for(r"^pipelines is ready again", after=seen)
    status, answer = up.request(
        "pipelines", "GET", f"/apis/v2beta1/experiments/{identifier}", token=up.token()
    )
    assert (status, answer["display_name"]) == (200, "kept")

    # What /metrics shows is documented.
    known = (ROOT / "docs" / "operating.md").read_text()
    for service in ("pipelines", "console"):
        _, numbers = up.request(service, "GET", "/metrics")
        names = set(re.findall(r"^# TYPE (\w+?)(?:_created)? ", numbers, re.MULTILINE))
        assert [name for name in sorted(names) if not documented(name, known)] == []

    doctor = up.command("doctor")
    assert (doctor.returncode, doctor.stderr) == (0, "")
    assert "all is well" in doctor.stdout

    with watched(supervisor_pid(up), *children(up)) as handles:
        assert up.interrupt() == 0
        assert gone(handles)
    up.wait_for(r"^stopped in \d")
    assert listening(up) == []
    assert lock.read(up.data / "run") is None

    with Up(up.data, base_port=up.base_port) as again:
        # How fast is measured where nothing else runs: .ci/fresh-clone.
        again.ready()
        status, answer = again.request(
            "pipelines", "GET", f"/apis/v2beta1/experiments/{identifier}", token=up.token()
        )
        assert (status, answer["display_name"]) == (200, "kept")
        # As supervisors stop: with several signals at once, which are one wish.
        again.process.send_signal(signal.SIGTERM)
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(20) == 0
    again.wait_for(r"^stopped in \d")


def test_a_second_start_says_what_runs_there(up: Up, tmp_path: Path) -> None:
    same_data = roundhouse("up", "--data", str(up.data), "--base-port", str(free_base_port()))
    assert same_data.returncode == 1
    assert f"pid {up.process.pid}" in same_data.stderr
    assert f"http://{HOST}:{up.base_port}" in same_data.stderr

    same_ports = roundhouse("up", "--data", str(tmp_path / "other"), "--base-port", str(up.base_port))
    assert same_ports.returncode == 1
    assert f"{up.http_port('pipelines')} (pipelines REST) by pid {up.pid('pipelines')}: " in same_ports.stderr
    assert f"{up.base_port} (console HTTP) by pid {up.pid('console')}: " in same_ports.stderr
    assert not list((tmp_path / "other").glob("*.db")), "nothing may have been started"
    assert sorted(listening(up)) == ["console", "pipelines"]


def test_a_killed_supervisor_leaves_nothing_behind(up: Up) -> None:
    with watched(*children(up)) as handles:
        os.kill(supervisor_pid(up), signal.SIGKILL)
        assert gone(handles)
    assert up.process.wait(20) == 1
    up.wait_for(r"^the supervisor died \(SIGKILL\)")
    assert listening(up) == []


def test_killed_itself_it_leaves_nothing_behind(up: Up) -> None:
    with watched(supervisor_pid(up), *children(up)) as handles:
        up.process.kill()
        assert gone(handles)
    with Up(up.data, "--no-console", base_port=up.base_port) as again:
        again.ready()
        assert listening(again) == ["pipelines"]


def test_what_cannot_start_is_tried_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "pipelines.db").mkdir(parents=True)
    with Up(data, "--no-console") as process:
        process.wait_for(r"^pipelines died \(exit 1\), restarting (now|in 1 s)")
        process.wait_for(r"^    .*cannot start")
        (data / "pipelines.db").rmdir()
        process.ready()
        assert process.interrupt() == 0


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    base = free_base_port()
    with socket.create_server((HOST, base + 40)):
        result = roundhouse("up", "--data", str(tmp_path / "data"), "--base-port", str(base))
    assert result.returncode == 1
    assert f"  {base + 40} (pipelines gRPC) by pid {os.getpid()}: " in result.stderr
    assert not list((tmp_path / "data").glob("*.db"))


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (["--only", "nonsense"], {}, "no service 'nonsense' in this version; there is meta, "),
        (["--base-port", "70000"], {}, "--base-port"),
        (["--store", "postgres://x"], {}, "'postgres://x' is neither sqlite nor a mongodb:// URL"),
        (["--store", "memory"], {}, "--store: memory is for tests"),
        ([], {"ROUNDHOUSE_GRPC_PORT": "1"}, "ROUNDHOUSE_GRPC_PORT: is for a single process; use --base-port"),
        ([], {"ROUNDHOUSE_TYPO": "1"}, "ROUNDHOUSE_TYPO: no such setting"),
        ([], {"ROUNDHOUSE_STOP_GRACE": "soon"}, "ROUNDHOUSE_STOP_GRACE: 'soon' is not a duration"),
        ([], {"ROUNDHOUSE_DATA": "/tmp/100%"}, "must not contain %"),
        ([], {"ROUNDHOUSE_TLS_CERT": "cert.pem", "ROUNDHOUSE_TLS_KEY": "key.pem"}, "ROUNDHOUSE_TLS_CA"),
    ],
)
def test_wrong_settings_are_usage_errors(
    tmp_path: Path, options: list[str], variables: dict[str, str], message: str
) -> None:
    where = [] if "ROUNDHOUSE_DATA" in variables else ["--data", str(tmp_path / "data")]
    result = roundhouse("up", *where, *options, **variables)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data").exists()

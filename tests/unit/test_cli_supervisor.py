"""supervisord's configuration, and what its log becomes on the terminal."""

from __future__ import annotations

import configparser
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from shared.cli.logs import Follower, serious, tail, warnings
from shared.cli.suite import Program
from shared.cli.supervisor import CONFIGURATION, Died, Reader, Said, Spawned, configuration

STAMP = "2026-01-02 03:04:05,678"
PROGRAMS = [Program("pipelines", "services.pipelines"), Program("console", "admin_ui")]


def events(*lines: str) -> list[object]:
    reader = Reader()
    found = [reader.event(f"{STAMP} {line}") for line in lines]
    return [event for event in found if event is not None]


def test_a_crash_after_a_while_restarts_at_once() -> None:
    assert events(
        "INFO spawned: 'pipelines' with pid 7",
        "INFO success: pipelines entered RUNNING state, process has stayed up for > than 5 seconds",
        "WARN exited: pipelines (terminated by SIGKILL; not expected)",
        "INFO spawned: 'pipelines' with pid 8",
    ) == [
        Spawned("pipelines", 7, again=False),
        Died("pipelines", "SIGKILL", 0),
        Spawned("pipelines", 8, again=True),
    ]


def test_quick_deaths_are_delayed_ever_longer_until_one_settles() -> None:
    died = "WARN exited: console (exit status 1; not expected)"
    settled = "INFO success: console entered RUNNING state, process has stayed up"
    spawned = "INFO spawned: 'console' with pid 7"
    found = events(spawned, died, spawned, died, spawned, settled, died, spawned, died)
    assert [event.delay for event in found if isinstance(event, Died)] == [1, 2, 0, 1]
    assert str(found[1]) == "console died (exit 1), restarting in 1 s"


def test_an_unasked_orderly_end_is_a_death_too() -> None:
    assert events("INFO exited: console (exit status 0; expected)") == [Died("console", "exit 0", 1)]


def test_only_what_helps_is_shown() -> None:
    assert events(
        "CRIT Supervisor is running as root.  Privileges were not dropped",
        "CRIT Server 'unix_http_server' running without any HTTP authentication checking",
        "INFO RPC interface 'supervisor' initialized",
        "WARN received SIGTERM indicating exit request",
        "INFO stopped: pipelines (exit status 0)",
        "WARN killing 'console' (7) with SIGKILL",
    ) == [Said("killing 'console' (7) with SIGKILL")]


def test_pids_are_those_of_now() -> None:
    reader = Reader()
    for line in (
        "INFO spawned: 'pipelines' with pid 7",
        "INFO spawned: 'console' with pid 8",
        "WARN exited: pipelines (exit status 1; not expected)",
    ):
        reader.event(f"{STAMP} {line}")
    assert reader.pids == {"console": 8}


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder in which a socket's path fits, wherever the tests' own folders are."""
    with tempfile.TemporaryDirectory(prefix="rh") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", ["data", "with space", "odd; name #1"])
def test_supervisord_reads_the_configuration(short_path: Path, name: str) -> None:
    run, logs = short_path / name / "run", short_path / name / "logs"
    run.mkdir(parents=True)
    logs.mkdir()
    path = run / CONFIGURATION
    path.write_text(configuration(PROGRAMS, run=run, logs=logs, stop_seconds=8))
    options = ServerOptions()
    options.realize(["-c", str(path)])
    groups = options.process_group_configs
    assert [group.name for group in groups] == ["roundhouse"]
    found = {process.name: process for process in groups[0].process_configs}
    assert sorted(found) == ["console", "pipelines"]
    process = found["pipelines"]
    assert process.command.endswith(" services.pipelines")
    assert Path(process.stdout_logfile).resolve() == (logs / "pipelines.log").resolve()
    assert process.stopwaitsecs == 8
    assert not process.stopasgroup, "what a service keeps running must outlive it"
    assert [Path(server["file"]).parent for server in options.server_configs] == [run]


def test_no_socket_where_its_path_would_not_fit(tmp_path: Path) -> None:
    run = tmp_path / ("x" * 120) / "run"
    parser = configparser.RawConfigParser()
    parser.read_string(configuration(PROGRAMS, run=run, logs=run.parent / "logs", stop_seconds=8))
    assert "unix_http_server" not in parser.sections()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026-01-02T03:04:05Z [error    ] cannot start [shared.service.runner]", True),
        ("2026-01-02T03:04:05Z [critical ] x", True),
        ('{"event": "x", "level": "error"}', True),
        ('{"level":"critical"}', True),
        ("2026-01-02T03:04:05Z [info     ] an error was answered", False),
        ('{"event": "error", "level": "info"}', False),
    ],
)
def test_serious_lines(line: str, expected: bool) -> None:
    assert serious(line) is expected


def test_what_a_process_warns_of_is_told_once(tmp_path: Path) -> None:
    log = tmp_path / "jobs.log"
    log.write_text("2026-11-22T08:59:40.1Z [warning  ] of an earlier start  [services.jobs] process=jobs\n")
    after = log.stat().st_size
    with log.open("a") as file:
        for _ in range(2):
            file.write("2026-11-22T08:59:41.1Z [warning  ] pods run as root  [services.jobs] process=jobs\n")
        file.write(
            "2026-11-22T08:59:41.2Z [info     ] said [warning  ] by a pod  [services.jobs] process=jobs\n"
        )
        file.write('{"event": "limits are advisory", "level": "warning"}\nnot JSON\n["level"]\n')
    assert warnings(log, after=after) == ["pods run as root", "limits are advisory"]
    assert warnings(tmp_path / "none", after=0) == []


def test_a_log_is_followed_over_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("[error] old\n")
    follower = Follower(path)
    assert list(follower.read()) == []
    with path.open("a") as file:
        file.write("[info] a\n[error] b\n[error] unfin")
    assert list(follower.read()) == ["[error] b"]
    with path.open("a") as file:
        file.write("ished\n")
    assert list(follower.read()) == ["[error] unfinished"]
    path.rename(tmp_path / "x.log.1")
    path.write_text("[error] c\n")
    assert list(follower.read()) == ["[error] c"]
    assert tail(path, 5, after=follower.start) == ["[error] c"]
    assert tail(tmp_path / "none.log", 5) == []

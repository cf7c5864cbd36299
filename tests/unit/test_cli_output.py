"""Tables, objects and error lines; exit codes of wrong usage."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from grpc import StatusCode

from shared.cli import failures, main, ports, render, suite
from shared.errors import InvalidArgument, Violation
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2
from shared.rpc.client import Failure
from shared.service.config import Config


def experiment(name: str, **fields: object) -> admin_pb2.Object:
    found = admin_pb2.Object(kind="experiment", name=name, revision=3)
    found.body.Pack(Experiment(experiment_id=name, **fields))  # type: ignore[arg-type]
    return found


def test_a_table_shows_what_is_set_and_does_not_repeat_the_name() -> None:
    rows = [experiment("a", display_name="one"), experiment("b", description="two\nlines", storage_state=2)]
    names = render.columns(rows)
    assert names == ["display_name", "description", "storage_state"]
    lines = render.table(["name", *names], [[row.name, *render.cells(row, names)] for row in rows])
    assert lines == [
        "NAME  DISPLAY_NAME  DESCRIPTION  STORAGE_STATE",
        "a     one",
        "b                   two·lines    ARCHIVED",
    ]


def packed(name: str, body: Message) -> admin_pb2.Object:
    found = admin_pb2.Object(name=name)
    found.body.Pack(body)
    return found


def test_a_table_shows_what_people_look_for() -> None:
    job = jobs_pb2.Job(id="1", name="clock", respool_id="p", state=2, configuration=7)
    assert render.columns([packed("1", job)]) == ["name", "state"]
    pods = [packed(f"1-{i}", jobs_pb2.Pod(name=f"1-{i}", job="1", instance=i, run=3)) for i in range(2)]
    pods[0].body.Pack(jobs_pb2.Pod(status=pod_pb2.PodStatus(state=pod_pb2.POD_STATE_FAILED)))
    names = render.columns(pods)
    assert names == ["instance", "run", "status.state"]
    assert [render.cells(pod, names) for pod in pods] == [["0", "0", "POD_STATE_FAILED"], ["1", "3", ""]]


def test_a_table_of_a_lab_says_who_has_what() -> None:
    exporter = packed(
        "a", lab_pb2.Exporter(uid="u", namespace="n", status=1, lease="l", status_message="idle")
    )
    assert render.columns([exporter]) == ["status", "lease", "status_message"]
    lease = packed("l", lab_pb2.Lease(namespace="n", selector="a=b", client="c", exporter="e", ended=True))
    assert render.columns([lease]) == ["client", "selector", "exporter"]


def test_a_table_tells_nanoseconds_as_a_time() -> None:
    configuration = packed("1", jobs_pb2.Configuration(created_at=1_795_340_788_291_857_837))
    assert render.columns([configuration]) == ["created_at"]
    assert render.cells(configuration, ["created_at"]) == ["2026-11-22T09:46:28.291857837Z"]
    assert render.cells(packed("2", jobs_pb2.Configuration()), ["created_at"]) == [""]


def test_a_cell_is_cut_and_cannot_control_the_terminal() -> None:
    assert render.cut("x" * 41) == "x" * 39 + "…"
    assert render.cut("\x1b[31mred") == "·[31mred"


def test_an_unknown_type_is_named_and_breaks_nothing() -> None:
    unknown = admin_pb2.Object(name="x", body=any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"x"))
    assert render.fields(unknown.body) == {"@type": "type.googleapis.com/no.Such"}
    assert render.columns([unknown]) == []
    assert render.cells(unknown, ["a"]) == ["?"]
    broken = any_pb2.Any()
    broken.Pack(duration_pb2.Duration())
    broken.value = b"\xff"
    assert render.unpack(broken) is None


def test_an_object_in_yaml_and_json() -> None:
    found = experiment("a", display_name="ä", storage_state=1)
    assert render.to_yaml(render.fields(found.body)).splitlines() == [
        "experiment_id: a",
        "display_name: ä",
        "storage_state: AVAILABLE",
    ]
    assert render.to_json(render.entry(found), indent=None) == (
        '{"kind": "experiment", "name": "a", "revision": 3, "body": '
        '{"experiment_id": "a", "display_name": "ä", "storage_state": "AVAILABLE"}}'
    )


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure(StatusCode.NOT_FOUND, "no such\nthing"), "NOT_FOUND from x: no such thing"),
        (
            Failure(StatusCode.INVALID_ARGUMENT, "a: is wrong", (Violation("a", "is wrong"),)),
            "INVALID_ARGUMENT from x: a: is wrong",
        ),
        (
            Failure(
                StatusCode.INVALID_ARGUMENT, "bad", violations=(Violation("a", "is"), Violation("b", "so"))
            ),
            "INVALID_ARGUMENT from x: bad [a: is; b: so]",
        ),
        (
            Failure(StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: ..."),
            "UNAVAILABLE from x: nothing answers at host:1 (is it running?",
        ),
        (
            Failure(StatusCode.UNAVAILABLE, "the store is locked", reason="STORE_UNAVAILABLE"),
            "UNAVAILABLE from x: the store is locked (is it running?",
        ),
        (
            Failure(StatusCode.PERMISSION_DENIED, "no", permission="a.b"),
            "PERMISSION_DENIED from x: no (needs permission a.b; ask an admin",
        ),
        (
            Failure(StatusCode.UNAVAILABLE, "lost", reason="STORE_UNAVAILABLE", info={"outcome": "unknown"}),
            "UNAVAILABLE from x: lost (the write may have happened: read before trying again)",
        ),
    ],
)
def test_a_failure_is_one_line(failure: Failure, expected: str) -> None:
    line = failures.line(failure, service="x", target="host:1")
    assert line.startswith(expected)
    assert "\n" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["list"],
        ["get", "experiment"],
        ["apply"],
        ["list", "experiments", "-o", "xml"],
        ["list", "experiments", "--page-size", "0"],
        ["audit", "--access", "--kind", "experiment"],
        ["audit", "--name", "x"],
        ["token", "create", "--subject", "x", "--role", "viewer", "--ttl", "soon"],
        ["sign-in", "--ttl", "2h"],
        ["import", "dragons", "x"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in main.COMMANDS:
        with pytest.raises(SystemExit) as end:
            main.main([name, "--help"])
        assert end.value.code == 0
        assert f"Usage: roundhouse {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("roundhouse aud", ["audit"]),
        ("roundhouse audit --no", ["--no-steps"]),
        ("roundhouse list leases --sel", ["--selector"]),
        ("roundhouse list leases -o n", ["name"]),
        ("roundhouse token c", ["create"]),
    ],
)
def test_a_shell_completes_commands_options_and_choices(
    words: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_ROUNDHOUSE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit) as end:
        main.main([])
    assert end.value.code == 0
    found = [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]
    assert found == expected


def test_every_command_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text()
    assert [name for name in main.COMMANDS if f"| `roundhouse {name}" not in text] == []


@pytest.mark.parametrize(("error", "code"), [(InvalidArgument.at("a", "b"), 2), (ZeroDivisionError("x"), 1)])
def test_no_error_is_a_traceback(error: Exception, code: int) -> None:
    message, found = main.explain(error)
    assert found == code
    assert "\n" not in message


def test_a_port_knows_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.is_taken("127.0.0.1", port)
        assert ports.holder(port).pid == os.getpid()
    assert not ports.is_taken("127.0.0.1", port)
    assert str(ports.holder(port)) == "another program"


def test_targets_follow_the_settings() -> None:
    config = Config.load({}, base_port=9000)
    assert suite.targets(config)["pipelines"] == "127.0.0.1:9040"
    config = Config.load({}, host="0.0.0.0", services="pipelines=far:1, jobs=there:2")
    assert suite.targets(config)["pipelines"] == "far:1"
    assert suite.targets(config)["jobs"] == "there:2"
    with pytest.raises(InvalidArgument, match="dragons=x:1"):
        suite.targets(Config.load({}, services="dragons=x:1"))
    assert suite.dial_host(Config.load({}, host="::")) == "[::1]"


def test_every_command_that_looks_for_a_suite_is_told_alike_where_it_is() -> None:
    with click.Context(main.cli) as context:
        found = dict(commands(main.cli, context))
    lacking = {
        path: sorted({"--base-port", "--data", "--token-file"} - options) for path, options in found.items()
    }
    # `up` makes the token of its data folder.
    assert {path: names for path, names in lacking.items() if names} == {"up": ["--token-file"]}


def commands(group: click.Group, context: click.Context, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """The path and the options of each command that is no group."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, context, f"{path}{name} ")
        else:
            yield f"{path}{name}", {option for parameter in command.params for option in parameter.opts}

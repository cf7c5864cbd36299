"""From a pod's spec to what the keeper runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.jobs.runtime.command import argv, describe
from services.jobs.runtime.node import Node
from services.jobs.runtime.port import Attempt
from shared.pb.mesos.v1 import mesos_pb2
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import HealthCheckSpec, PodSpec, PortSpec

_NODE = Node(enforce=False)


def _spec(value: str = "run", *arguments: str, shell: bool | None = None) -> PodSpec:
    spec = PodSpec()
    spec.containers.add().entrypoint.value = value
    spec.containers[0].entrypoint.arguments.extend(arguments)
    if shell is not None:
        spec.mesos_spec.shell = shell
    return spec


def _described(spec: PodSpec, node: Node = _NODE, **environment: str) -> dict[str, Any]:
    return describe(Attempt("a-0-1", spec, environment), node)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (_spec("echo $1"), ["/bin/sh", "-c", "echo $1", "sh"]),
        (_spec("echo $1", "x", "y"), ["/bin/sh", "-c", "echo $1", "sh", "x", "y"]),
        (_spec("echo", "x", shell=True), ["/bin/sh", "-c", "echo", "sh", "x"]),
        (_spec("/bin/echo", "x", shell=False), ["/bin/echo", "x"]),
        (_spec("", "/bin/echo", "x"), ["/bin/echo", "x"]),
        (_spec("", "/bin/echo", "x", shell=False), ["/bin/echo", "x"]),
    ],
)
def test_the_entrypoint_runs_in_a_shell_unless_it_says_otherwise(spec: PodSpec, expected: list[str]) -> None:
    assert argv(spec) == expected


def test_the_deprecated_command_counts_without_an_entrypoint() -> None:
    spec = PodSpec()
    command = spec.containers.add().command
    command.value = "old"
    assert argv(spec) == ["/bin/sh", "-c", "old", "sh"]
    command.shell = False
    command.arguments.extend(["old", "x"])
    assert argv(spec) == ["old", "x"]
    spec.containers[0].entrypoint.value = "new"
    assert argv(spec) == ["/bin/sh", "-c", "new", "sh"]


def test_what_the_attempt_adds_wins_over_the_spec_and_that_over_the_deprecated_command() -> None:
    spec = _spec()
    for name, value in (("A", "old"), ("B", "old"), ("POD_ID", "old")):
        variable = mesos_pb2.Environment.Variable(name=name, value=value)
        spec.containers[0].command.environment.variables.append(variable)
    spec.containers[0].environment.add(name="B", value="new")
    spec.containers[0].environment.add(name="POD_ID", value="a lie")
    found = _described(spec, POD_ID="a-0-1")["environment"]
    assert found == {"A": "old", "B": "new", "POD_ID": "a-0-1"}


def test_a_port_with_a_number_is_that_one_and_a_name_is_one_port() -> None:
    spec = _spec()
    ports = spec.containers[0].ports
    ports.add(name="web", env_name="WEB", type=PortSpec.PORT_TYPE_DYNAMIC_ENV_VAR)
    ports.add(name="fixed", value=8080, type=PortSpec.PORT_TYPE_STATIC)
    ports.add(name="named", env_name="N", template_name="n", type=PortSpec.PORT_TYPE_DYNAMIC_TEMPLATE_VAR)
    spec.host_ports.add(name="web", value=9090)
    spec.host_ports.add(name="more", env_name="MORE")
    assert _described(spec)["ports"] == [
        {"name": "web", "value": 9090, "variable": "WEB", "template": ""},
        {"name": "fixed", "value": 8080, "variable": "", "template": ""},
        {"name": "named", "value": 0, "variable": "N", "template": "n"},
        {"name": "more", "value": 0, "variable": "MORE", "template": ""},
    ]


def _limited() -> PodSpec:
    spec = _spec()
    resource = spec.containers[0].resource
    resource.cpu_limit, resource.mem_limit_mb, resource.disk_limit_mb, resource.fd_limit = 1.5, 64, 10, 99
    return spec


def test_limits_without_control_groups_are_those_of_a_process_and_the_rest_is_said() -> None:
    found = _described(_limited())
    assert found["limits"] == {
        "cpu": 0,
        "memory": 0,
        "address_space": 64 << 20,
        "file_size": 10 << 20,
        "files": 99,
        "processes": 0,
    }
    assert found["cgroup"] == ""
    assert found["note"] == (
        "The CPU limit is counted, not enforced, the memory limit holds for each process alone, "
        "the disk limit holds for each file alone"
    )
    assert _described(_spec())["note"] == ""


def test_limits_with_control_groups_are_those_of_the_group(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    found = _described(_limited(), replace(_NODE, cgroup=tmp_path, processes=50))
    assert found["limits"] == {
        "cpu": 1.5,
        "memory": 64 << 20,
        "address_space": 0,
        "file_size": 10 << 20,
        "files": 99,
        "processes": 50,
    }
    assert found["cgroup"] == str(tmp_path)
    assert found["note"] == "The disk limit holds for each file alone"


def test_a_check_has_the_defaults_of_the_contract() -> None:
    spec = _spec()
    check = spec.containers[0].liveness_check
    check.type = HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND
    check.command_check.command = "test -e up"
    assert _described(spec)["check"] is None
    check.enabled = True
    assert _described(spec)["check"] == {
        "initial": 15,
        "interval": 10,
        "failures": 3,
        "successes": 1,
        "timeout": 20,
        "type": "command",
        "argv": ["/bin/sh", "-c", "test -e up"],
        "bare": False,
    }


def test_a_check_can_be_said_in_four_ways() -> None:
    spec = _spec(shell=False)
    check = spec.containers[0].liveness_check
    check.enabled = True
    check.initial_interval_secs, check.interval_secs, check.max_consecutive_failures = 1, 2, 4
    check.timeout_secs, check.success_threshold = 5, 6
    check.type = HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND
    check.command.value = "/bin/probe"
    check.command.arguments.append("--fast")
    found = _described(spec)["check"]
    assert [found[name] for name in ("initial", "interval", "failures", "timeout", "successes")] == [
        1,
        2,
        4,
        5,
        6,
    ]
    assert (found["argv"], found["bare"]) == (["/bin/probe", "--fast"], False)

    check.ClearField("command")
    check.command_check.command, check.command_check.unshare_environments = "probe", True
    found = _described(spec)["check"]
    assert (found["argv"], found["bare"]) == (["/bin/sh", "-c", "probe"], True)

    check.type = HealthCheckSpec.HEALTH_CHECK_TYPE_HTTP
    check.http_check.port, check.http_check.path = 80, "/old"
    assert {name: _described(spec)["check"][name] for name in ("scheme", "port", "path", "headers")} == {
        "scheme": "http", "port": 80, "path": "/old", "headers": {},
    }  # fmt: skip

    check.http_get.scheme, check.http_get.path = "HTTPS", "/new"
    check.http_get.port_spec.name = "web"
    check.http_get.http_headers.add(name="X", value="1")
    found = _described(spec)["check"]
    assert (found["scheme"], found["port_name"], found["path"], found["headers"]) == (
        "https",
        "web",
        "/new",
        {"X": "1"},
    )


@pytest.mark.parametrize(("given", "expected"), [(0, 30.0), (5, 5.0)])
def test_the_grace_of_a_sick_pod_is_that_of_a_stop(given: int, expected: float) -> None:
    spec = _spec()
    spec.kill_grace_period_seconds = given
    assert _described(spec)["grace"] == expected

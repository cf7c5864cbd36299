"""What the process runtime refuses, by the path of the field (jobs contract, section 9, column L)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format

from services.jobs.runtime.node import Node
from services.jobs.runtime.unsupported import unsupported
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import PodSpec

_NODE = Node(labels={"zone": "a"}, host_paths=("/srv/shared", "/opt"))
_EMPTY = 'volumes { name: "v" type: VOLUME_TYPE_EMPTY_DIR empty_dir {%s} }'
_HOST = 'volumes { name: "v" type: VOLUME_TYPE_HOST_PATH host_path { path: "%s" } }'


def _container(text: str) -> str:
    return f'containers {{ entrypoint {{ value: "x" }} {text} }}'


def _mount(path: str) -> str:
    return _container(f'volume_mounts {{ name: "v" mount_path: "{path}" }}')


def _refused(text: str, node: Node = _NODE) -> list[str]:
    return [found.field for found in unsupported(text_format.Parse(text, PodSpec()), node)]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("containers {} containers {}", ["containers"]),
        ("init_containers {}", ["init_containers"]),
        ('volume { container_path: "/x" }', ["volume"]),
        (_container('image: "busybox"'), ["containers[0].image"]),
        (_container("container { type: DOCKER }"), ["containers[0].container"]),
        (_container('container { type: MESOS docker { image: "x" } }'), ["containers[0].container"]),
        (_container('executor { executor_id { value: "x" } type: CUSTOM }'), ["containers[0].executor"]),
        (_container('command { value: "x" uris { value: "http://x" } }'), ["containers[0].command.uris"]),
        (_container('command { value: "x" user: "root" }'), ["containers[0].command.user"]),
        (
            _container('command { environment { variables { name: "x" type: SECRET } } }'),
            ["containers[0].command.environment.variables[0].type"],
        ),
        (_container("readiness_check { enabled: true }"), ["containers[0].readiness_check"]),
        (
            _container(
                'liveness_check { enabled: true type: HEALTH_CHECK_TYPE_HTTP http_get { scheme: "ftp" } }'
            ),
            ["containers[0].liveness_check.http_get.scheme"],
        ),
        (_container("resource { gpu_limit: 1 }"), ["containers[0].resource.gpu_limit"]),
        (_container("resource { cpu_limit: 0.5 }"), ["containers[0].resource.cpu_limit"]),
        (_container("resource { disk_limit_mb: 1 }"), ["containers[0].resource.disk_limit_mb"]),
        ("mesos_spec { type: CONTAINER_TYPE_DOCKER }", ["mesos_spec.type"]),
        (_container("resource { fd_limit: 4000000000 }"), ["containers[0].resource.fd_limit"]),
        ('mesos_spec { docker_parameters { key: "x" } }', ["mesos_spec.docker_parameters"]),
        ('mesos_spec { uris { value: "x" } }', ["mesos_spec.uris"]),
        ("mesos_spec { executor_spec { type: EXECUTOR_TYPE_CUSTOM } }", ["mesos_spec.executor_spec.type"]),
        ('mesos_spec { executor_spec { data: "x" } }', ["mesos_spec.executor_spec"]),
        ("mesos_spec { network_spec { type: NETWORK_TYPE_BRIDGE } }", ["mesos_spec.network_spec"]),
        ('mesos_spec { network_spec { name: "x" } }', ["mesos_spec.network_spec"]),
        (_EMPTY % 'medium: "Memory"', ["volumes[0].empty_dir.medium"]),
        (_EMPTY % "size_in_mb: 5", ["volumes[0].empty_dir.size_in_mb"]),
        (_HOST % "/etc", ["volumes[0].host_path.path"]),
        (_HOST % "/srv/shared/../../etc", ["volumes[0].host_path.path"]),
        (_HOST % "/srv/shared-not", ["volumes[0].host_path.path"]),
        (_HOST % "opt", ["volumes[0].host_path.path"]),
        (_HOST % "/opt/x" + _mount("/elsewhere"), ["containers[0].volume_mounts[0].mount_path"]),
        (_EMPTY % "" + _mount("/data"), ["containers[0].volume_mounts[0].mount_path"]),
        (_EMPTY % "" + _mount("../data"), ["containers[0].volume_mounts[0].mount_path"]),
        (_EMPTY % "" + _mount("a/../.."), ["containers[0].volume_mounts[0].mount_path"]),
        (_EMPTY % "" + _mount("stdout"), ["containers[0].volume_mounts[0].mount_path"]),
        (_EMPTY % "" + _mount("."), ["containers[0].volume_mounts[0].mount_path"]),
        (
            _EMPTY % "" + _container('volume_mounts { name: "v" mount_path: "d" read_only: true }'),
            ["containers[0].volume_mounts[0].read_only"],
        ),
        (
            _container('ports { name: "web" value: 80 }') + 'host_ports { name: "web" value: 81 }',
            ["host_ports[0].value"],
        ),
    ],
)
def test_it_is_refused(text: str, paths: list[str]) -> None:
    assert _refused(text) == paths


@pytest.mark.parametrize(
    "text",
    [
        _container("resource { mem_limit_mb: 10 fd_limit: 5 }"),
        _container("container { type: MESOS }"),
        _container("readiness_check { enabled: false }"),
        _container(
            'liveness_check { enabled: true type: HEALTH_CHECK_TYPE_HTTP http_get { scheme: "HTTPS" } }'
        ),
        _container('ports { name: "web" value: 80 }') + 'host_ports { name: "web" value: 80 }',
        "mesos_spec { type: CONTAINER_TYPE_MESOS executor_spec { type: EXECUTOR_TYPE_DEFAULT } }",
        "mesos_spec { network_spec { type: NETWORK_TYPE_HOST } }",
        _EMPTY % "" + _mount("work/./deep"),
        _HOST % "/srv/shared/data/" + _mount("/srv/shared/data"),
        # Where it may run is a matter of waiting.
        'constraint { type: CONSTRAINT_TYPE_LABEL label_constraint { label { key: "zone" value: "b" } } }',
        'labels { key: "a" value: "b" } controller: true revocable: true restart_policy { max_failures: 3 }',
    ],
)
def test_it_is_taken(text: str) -> None:
    assert _refused(text) == []


@pytest.mark.parametrize(
    ("text", "change", "paths"),
    [
        (
            "resource { cpu_limit: 1 disk_limit_mb: 1 fd_limit: 4000000000 }",
            lambda node: replace(node, enforce=False),
            [],
        ),
        ("resource { gpu_limit: 2 }", lambda node: replace(node, gpus=("0",)), []),
        (
            "resource { gpu_limit: 0.5 }",
            lambda node: replace(node, gpus=("0",)),
            ["containers[0].resource.gpu_limit"],
        ),
    ],
)
def test_it_depends_on_the_node(text: str, change: Callable[[Node], Node], paths: list[str]) -> None:
    assert _refused(_container(text), change(_NODE)) == paths


def test_a_delegated_control_group_makes_cpu_limits_true(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory")
    node = replace(_NODE, cgroup=tmp_path)
    assert _refused(_container("resource { cpu_limit: 1 }"), node) == ["containers[0].resource.cpu_limit"]
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    assert _refused(_container("resource { cpu_limit: 1 }"), node) == []

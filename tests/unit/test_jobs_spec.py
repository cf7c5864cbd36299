# ruff: noqa: E501 - tables, one case a line
"""What an instance runs, when two specs mean the same, what a patch comes to, and ranges of instances
(jobs contract, sections 4, 7 and 10)."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from services.jobs import ranges, spec
from services.jobs.api import patch
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import PodSpec


def pod(text: str) -> PodSpec:
    return text_format.Parse(text, PodSpec())


def job(text: str) -> JobSpec:
    return text_format.Parse(text, JobSpec())


def container(text: str) -> str:
    return f"containers {{ {text} }}"


RUN = 'name: "main" entrypoint { value: "run" arguments: "a" }'


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [
        pytest.param(
            container(RUN),
            container("resource { cpu_limit: 2 }"),
            container(f"{RUN} resource {{ cpu_limit: 2 }}"),
            id="resources alone keep the command",
        ),
        pytest.param(
            container(f"{RUN} resource {{ cpu_limit: 1 mem_limit_mb: 5 }}"),
            container("resource { cpu_limit: 2 }"),
            container(f"{RUN} resource {{ cpu_limit: 2 }}"),
            id="a message replaces the whole",
        ),
        pytest.param(
            container(f'{RUN} ports {{ name: "a" value: 1 }} ports {{ name: "b" value: 2 }}'),
            container('ports { name: "c" value: 3 }'),
            container(f'{RUN} ports {{ name: "c" value: 3 }}'),
            id="a list replaces the whole",
        ),
        pytest.param(
            container(RUN),
            container('entrypoint { value: "other" }'),
            container('name: "main" entrypoint { value: "other" }'),
            id="a command",
        ),
        pytest.param(
            container(RUN),
            container('command { value: "other" }'),
            container('name: "main" command { value: "other" }'),
            id="a command in the deprecated field",
        ),
        pytest.param(
            container(RUN), container('name: "mine"'), container(RUN.replace("main", "mine")), id="a text"
        ),
        pytest.param(
            f'kill_grace_period_seconds: 5 labels {{ key: "a" }} {container(RUN)}',
            "",
            f'kill_grace_period_seconds: 5 labels {{ key: "a" }} {container(RUN)}',
            id="nothing",
        ),
        pytest.param(
            f'kill_grace_period_seconds: 5 labels {{ key: "a" }} {container(RUN)}',
            'kill_grace_period_seconds: 7 labels { key: "b" }',
            f'kill_grace_period_seconds: 7 labels {{ key: "b" }} {container(RUN)}',
            id="a number and a list",
        ),
        pytest.param(
            f"controller: true revocable: true {container(RUN)}",
            "kill_grace_period_seconds: 1",
            f"kill_grace_period_seconds: 1 {container(RUN)}",
            id="booleans are always taken from the override",
        ),
        pytest.param("", container(RUN), container(RUN), id="no default"),
    ],
)
def test_an_instances_own_spec_goes_over_the_default(default: str, own: str, expected: str) -> None:
    wanted = JobSpec(instance_count=2, default_spec=pod(default))
    wanted.instance_spec[1].CopyFrom(pod(own))
    assert spec.effective(wanted, 1) == pod(expected)
    assert spec.effective(wanted, 0) == pod(default)
    assert wanted.default_spec == pod(default)


def test_a_revocable_job_has_revocable_pods() -> None:
    wanted = JobSpec(default_spec=pod(container(RUN)), sla={"revocable": True, "preemptible": True})
    wanted.instance_spec[1].kill_grace_period_seconds = 3
    assert [spec.effective(wanted, instance).revocable for instance in (0, 1)] == [True, True]


def both(field: str, one: str, other: str) -> tuple[str, str]:
    inside = [
        container(f"{RUN} {field} {{ {a} }} {field} {{ {b} }}") for a, b in ((one, other), (other, one))
    ]
    return inside[0], inside[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(*both("ports", 'name: "a" value: 1', 'name: "b" value: 2'), id="order of ports"),
        pytest.param(*both("environment", 'name: "a"', 'name: "b"'), id="order of variables"),
        pytest.param(*both("volume_mounts", 'name: "a"', 'name: "b"'), id="order of mounts"),
        pytest.param(
            'labels { key: "a" } labels { key: "b" }', 'labels { key: "b" } labels { key: "a" }', id="labels"
        ),
        pytest.param(container(RUN), container(RUN.replace("main", "other")), id="name of the container"),
        pytest.param(f'pod_name {{ value: "x" }} {container(RUN)}', container(RUN), id="name of the pod"),
        pytest.param(
            container('command { value: "run" arguments: "a" }'), container(RUN), id="field of the command"
        ),
        pytest.param(
            "restart_policy { max_failures: 100 }", "restart_policy { max_failures: 5000 }", id="clamped"
        ),
    ],
)
def test_what_means_the_same(one: str, other: str) -> None:
    assert spec.same(pod(one), pod(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (container(RUN), container(RUN.replace("run", "run2"))),
        (container(RUN), container(f"{RUN} resource {{ cpu_limit: 1 }}")),
        ('labels { key: "a" }', 'labels { key: "b" }'),
        ("kill_grace_period_seconds: 1", "kill_grace_period_seconds: 2"),
        ("restart_policy { max_failures: 1 }", "restart_policy { max_failures: 2 }"),
        (container('entrypoint { arguments: "a" arguments: "b" }'), container('entrypoint { arguments: "b" arguments: "a" }')),
    ],
)  # fmt: skip
def test_what_does_not(one: str, other: str) -> None:
    assert not spec.same(pod(one), pod(other))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", 'name: "a" owner: "o" instance_count: 3 labels { key: "x" } sla { priority: 1 }'),
        ('owner: "p"', 'name: "a" owner: "p" instance_count: 3 labels { key: "x" } sla { priority: 1 }'),
        ('owner: "" instance_count: 0', 'name: "a" owner: "o" instance_count: 3 labels { key: "x" } sla { priority: 1 }'),
        ('labels { key: "y" } labels { key: "z" }', 'name: "a" owner: "o" instance_count: 3 labels { key: "y" } labels { key: "z" } sla { priority: 1 }'),
        ("sla { preemptible: true }", 'name: "a" owner: "o" instance_count: 3 labels { key: "x" } sla { priority: 1 preemptible: true }'),
        ("instance_spec { key: 1 value { controller: true } }", 'name: "a" owner: "o" instance_count: 3 labels { key: "x" } sla { priority: 1 } instance_spec { key: 1 value { controller: true } }'),
    ],
)  # fmt: skip
def test_what_a_patch_comes_to(given: str, expected: str) -> None:
    current = job('name: "a" owner: "o" instance_count: 3 labels { key: "x" } sla { priority: 1 }')
    before = JobSpec.FromString(current.SerializeToString())
    assert patch.merged(current, job(given)) == job(expected)
    assert current == before


def test_a_map_in_a_patch_replaces_the_whole() -> None:
    current = job("instance_spec { key: 1 value { controller: true } } instance_spec { key: 2 value {} }")
    found = patch.merged(current, job("instance_spec { key: 3 value {} }"))
    assert set(found.instance_spec) == {3}


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([], []),
        ([3], [(3, 4)]),
        ([2, 0, 1, 1], [(0, 3)]),
        ([0, 2, 3, 9], [(0, 1), (2, 4), (9, 10)]),
    ],
)
def test_ranges_are_half_open_and_as_few_as_can_be(
    instances: list[int], expected: list[tuple[int, int]]
) -> None:
    found = ranges.compressed(instances)
    assert [ranges.bounds(one) for one in found] == expected
    assert list(ranges.instances(found)) == sorted(set(instances))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], [0, 1, 2, 3]),
        ([(1, 2)], [1]),
        ([(2, 9), (0, 1), (2, 3)], [0, 2, 3]),
        ([(7, 9)], [0, 1, 2, 3]),
        ([(3, 1)], [0, 1, 2, 3]),
        ([(0, 2**32 - 1)], [0, 1, 2, 3]),
    ],
)
def test_ranges_of_a_restart(given: list[tuple[int, int]], expected: list[int]) -> None:
    assert ranges.within([ranges.of(*bounds) for bounds in given], 4) == expected

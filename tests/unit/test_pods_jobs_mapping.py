"""Each line of the table "Peloton to storage.Pod" (pods contract, section 7)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import pytest

from services.pods import faults
from services.pods.jobs_mapping import Rules, newest_run, pod_labels
from shared.errors import InvalidArgument
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2
from shared.pb.storage.container_runtime_pb2 import UNKNOWN_CONTAINER_RUNTIME
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod
from shared.service.config import Config

JOB = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
NAME = f"{JOB}-4"
POOL = "0b500000-0000-4000-8000-000000000001"
CLUSTER = "c1050000-0000-4000-8000-000000000001"
# Fixed for ever.
IDS = UUID("206fd016-0a69-4d34-a4fe-380f07dbaf75")
DIGEST = "sha256:" + "0123456789abcdef" * 4
# 2024-05-01T10:00:00Z
TEN = 1714557600
RULES = Rules(CLUSTER, "lab")
LIVE = ["PENDING", "LAUNCHED", "STARTING", "RUNNING", "KILLING"]
ENDED = ["SUCCEEDED", "FAILED", "KILLED"]


def container(state: str = "RUNNING", **fields: Any) -> pod_pb2.ContainerStatus:
    number = pod_pb2.ContainerState.Value(f"CONTAINER_STATE_{state}")
    return pod_pb2.ContainerStatus(**{"name": "main", "state": number, **fields})


def status(run: int, *containers: pod_pb2.ContainerStatus, **fields: Any) -> pod_pb2.PodStatus:
    found = pod_pb2.PodStatus(containers_status=containers, host="node-7", **fields)
    found.pod_id.value = f"{NAME}-{run}"
    if not found.HasField("revision"):
        found.revision.created_at = TEN * 10**9 + 5
    return found


def record(run: int, *containers: pod_pb2.ContainerStatus, **fields: Any) -> jobs_pb2.Pod:
    return jobs_pb2.Pod(name=NAME, job=JOB, instance=4, run=run, status=status(run, *containers, **fields))


def mapped(found: jobs_pb2.Pod, *earlier: pod_pb2.PodStatus, stored: tuple[Pod, ...] = ()) -> Pod:
    (one,) = RULES.pods(found, earlier, stored, "shop")
    return one


def instance(**fields: Any) -> ContainerInstance:
    """Of a run that has ended."""
    ((one,),) = (
        bucket.instances for bucket in mapped(record(1, container("FAILED", **fields))).terminated_instances
    )
    return one


def test_the_pod() -> None:
    found = mapped(record(1, container()))
    assert (found.id, found.name) == (str(uuid5(IDS, NAME)), NAME)
    assert (found.deployment_id, found.namespace, found.cluster_id) == (JOB, "shop", CLUSTER)
    assert (found.started.seconds, found.started.nanos) == (TEN, 5)


def test_it_started_with_its_first_run_where_nobody_says_when_it_was_made() -> None:
    made = pod_pb2.PodStatus().revision
    found = mapped(record(1, container(), revision=made, start_time="2024-05-01T10:00:00.25Z"))
    assert (found.started.seconds, found.started.nanos) == (TEN, 250_000_000)
    assert mapped(record(1, container(), revision=made)).started.seconds == 0


@pytest.mark.parametrize("state", LIVE)
def test_live_instances(state: str) -> None:
    found = mapped(record(3, container(state, start_time="2024-05-01T10:00:00Z", image=f"shop@{DIGEST}")))
    assert not found.terminated_instances
    (one,) = found.live_instances
    assert one == ContainerInstance(
        instance_id={
            "container_runtime": UNKNOWN_CONTAINER_RUNTIME,
            "id": f"{NAME}-3/main",
            "node": "node-7",
        },
        containing_pod_id=f"{NAME}.shop@{NAME}-3",
        container_name="main",
        started={"seconds": TEN},
        image_digest=DIGEST,
    )


@pytest.mark.parametrize("state", ENDED)
def test_terminated_instances(state: str) -> None:
    times = {"start_time": "2024-05-01T10:00:00Z", "completion_time": "2024-05-01T10:00:01.5Z"}
    found = mapped(record(1, container(state, **times)))
    assert not found.live_instances
    (one,) = found.terminated_instances[0].instances
    assert (one.started.seconds, one.finished.seconds, one.finished.nanos) == (TEN, TEN + 1, 500_000_000)


def test_containers_stand_in_the_order_of_their_ids_and_each_has_its_bucket() -> None:
    found = record(1, container(name="b"), container("FAILED", name="z"), container(name="a"))
    found.status.containers_status.add(name="neither")
    found.status.init_containers_status.add(name="init", state=pod_pb2.CONTAINER_STATE_SUCCEEDED)
    found.status.containers_status.append(container("KILLED", name="y"))
    one = mapped(found)
    assert [i.container_name for i in one.live_instances] == ["a", "b"]
    assert [[i.container_name for i in b.instances] for b in one.terminated_instances] == [["y"], ["z"]]


@pytest.mark.parametrize(
    ("ended", "reason", "found"),
    [
        ({"reason": "TERMINATION_STATUS_REASON_PREEMPTED_RESOURCES"}, "text", "PREEMPTED_RESOURCES"),
        ({"exit_code": 3}, "text", "text"),
        (None, "", "of the pod"),
    ],
)
def test_why_it_ended(ended: Any, reason: str, found: str) -> None:
    one = mapped(record(1, container("KILLED", terminationStatus=ended, reason=reason), reason="of the pod"))
    assert one.terminated_instances[0].instances[0].termination_reason == found


@pytest.mark.parametrize(("code", "found"), [(0, 0), (255, 255), (2**31 - 1, 2**31 - 1), (2**32 - 1, -1)])
def test_exit_codes_are_signed(code: int, found: int) -> None:
    assert instance(terminationStatus={"exit_code": code}).exit_code == found


@pytest.mark.parametrize("image", ["", "shop:1", "shop@sha256:12", DIGEST])
def test_no_digest_is_empty(image: str) -> None:
    assert instance(image=image).image_digest == ""


@pytest.mark.parametrize("text", ["", "yesterday"])
def test_a_time_that_is_none_is_unset(text: str) -> None:
    one = instance(start_time=text, completion_time=text)
    assert not one.HasField("started") and not one.HasField("finished")


def test_whatever_a_job_is_called_can_be_stored() -> None:
    long = "x" * 5000
    found = mapped(record(1, container(name=long), container("FAILED", name=long)))
    faults.check_pod(found, "")
    job = jobs_pb2.Job(id=JOB, name=long, respool_id="root")
    for number in range(40):
        job.labels.add(key=f"{number:03}", value="é" * (number * 1000))
    row = RULES.deployment(job, {"big": long * 60, "small": "1"})
    faults.check_row(row, "")
    assert row.namespace_id == "" and len(row.name) == faults.MAX_TEXT
    # The longest go first, and of the pods' before the job's.
    assert not row.pod_labels
    assert "000" in row.labels and "039" not in row.labels
    assert dict(RULES.deployment(jobs_pb2.Job(id=JOB), {"big": long * 60, "small": "1"}).pod_labels) == {
        "small": "1"
    }


# -- runs


def runs(found: Pod) -> list[int]:
    (bucket,) = found.terminated_instances
    return [int(i.instance_id.id.partition("/")[0].rpartition("-")[2]) for i in bucket.instances]


def test_earlier_runs_are_terminated_instances_in_order() -> None:
    earlier = [status(run, container("KILLED")) for run in (3, 1, 2, 4, 5)]
    # What is not before the run is not of the past.
    assert runs(mapped(record(4, container()), *earlier)) == [1, 2, 3]


def test_what_is_stored_stays_but_for_what_is_told_anew() -> None:
    before = mapped(
        record(4, container("RUNNING")), *(status(run, container("KILLED")) for run in range(1, 4))
    )
    told = status(3, container("FAILED", reason="at last")), status(4, container("FAILED"))
    after = mapped(record(5, container("SUCCEEDED")), *told, stored=(before,))
    assert runs(after) == [1, 2, 3, 4, 5]
    (bucket,) = after.terminated_instances
    assert bucket.instances[1] == before.terminated_instances[0].instances[1]
    assert bucket.instances[2].termination_reason == "at last"
    assert not after.live_instances
    # Once more, and nothing changes.
    assert mapped(record(5, container("SUCCEEDED")), stored=(after,)) == after


def test_a_bucket_keeps_ten() -> None:
    earlier = [status(run, container("KILLED")) for run in range(1, 14)]
    assert runs(mapped(record(14, container("FAILED")), *earlier)) == list(range(5, 15))


def test_an_instance_that_was_made_again_has_no_past() -> None:
    before = mapped(record(2, container("KILLED")))
    again = record(3, container())
    again.status.revision.created_at += 1
    assert not mapped(again, stored=(before,)).terminated_instances
    assert (newest_run([before], record(2)), newest_run([before], again), newest_run([], again)) == (2, 0, 0)


def test_a_run_may_be_a_pod() -> None:
    rules = Rules(CLUSTER, "lab", each_run=True)
    stored = mapped(record(2, container("FAILED")), status(1, container("KILLED")))
    found = rules.pods(record(3, container()), [], [stored], "other")
    assert [one.id for one in found] == [str(uuid5(IDS, f"{NAME}-{run}")) for run in (1, 2, 3)]
    assert {(one.name, one.namespace) for one in found} == {(NAME, "other")}
    assert [(len(one.live_instances), len(one.terminated_instances)) for one in found] == [(0, 1)] * 2 + [
        (1, 0)
    ]
    held = [i.containing_pod_id for one in found[:2] for i in one.terminated_instances[0].instances]
    assert held == [f"{NAME}.other@{NAME}-{run}" for run in (1, 2)]


# -- jobs


def test_the_deployment() -> None:
    job = jobs_pb2.Job(id=JOB, name="shop", respool_id=POOL, created_at=TEN * 10**9)
    job.labels.add(key="tier", value="front")
    spec = pod_pb2.PodSpec()
    spec.labels.add(key="app", value="web")
    row = RULES.deployment(job, pod_labels(spec))
    assert (row.id, row.name, row.type) == (JOB, "shop", "Job")
    assert (row.cluster_id, row.cluster_name) == (CLUSTER, "lab")
    assert (row.namespace, row.namespace_id) == (POOL, POOL)
    assert (dict(row.labels), dict(row.pod_labels)) == ({"tier": "front"}, {"app": "web"})
    assert row.created.seconds == TEN
    cluster = RULES.cluster_row()
    assert (cluster.id, cluster.name) == (CLUSTER, "lab")


@pytest.mark.parametrize(
    ("setting", "found"), [("", POOL), ("all", "all"), ("label:team", "blue"), ("label:none", POOL)]
)
def test_namespaces(setting: str, found: str) -> None:
    job = jobs_pb2.Job(respool_id=POOL)
    job.labels.add(key="team", value="blue")
    assert Rules(CLUSTER, "lab", setting).namespace_of(job) == found


def test_rules_by_settings() -> None:
    named = Rules.of(Config.load({}, pods_jobs_cluster="lab"))
    assert (named.cluster_id, named.cluster) == (str(uuid5(IDS, "lab")), "lab")
    given = Rules.of(Config.load({}, pods_jobs_cluster_id=CLUSTER.upper(), pods_jobs_pod="run"))
    assert (given.cluster_id, given.each_run) == (CLUSTER, True)
    assert len({named.text, given.text, Rules.of(Config.load({})).text}) == 3
    wrong = {
        "pods_jobs": "jobs",
        "pods_jobs_cluster_id": "x",
        "pods_jobs_pod": "job",
        "pods_jobs_cluster": "",
    }
    with pytest.raises(InvalidArgument) as caught:
        Config.load({}, **wrong)
    assert {v.field for v in caught.value.violations} == {f"ROUNDHOUSE_{name.upper()}" for name in wrong}

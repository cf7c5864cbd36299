"""Each line of the table "Kubernetes to storage.Pod" (pods contract, section 7)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import pytest

from services.pods import faults
from services.pods.collect import mapping
from services.pods.collect.owners import Owners, owner
from shared.pb.roundhouse.pods.v1.pods_pb2 import Deployment
from shared.pb.storage.container_runtime_pb2 import ContainerRuntime
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod

UID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
CLUSTER = "c1050000-0000-4000-8000-000000000001"
DIGEST = "sha256:" + "0123456789abcdef" * 4
# 2024-05-01T10:00:00Z
TEN = 1714557600


def pod(spec: Any = None, status: Any = None, **metadata: Any) -> Pod:
    about = {"name": "web-1", "namespace": "shop", "uid": UID, **metadata}
    found = {"metadata": about, "spec": spec, "status": status}
    return mapping.pod(found, cluster_id=CLUSTER, deployment_id="the owner's")


def instance(status: dict[str, Any], **pod_status: Any) -> ContainerInstance:
    found = pod({"nodeName": "node-7"}, {"containerStatuses": [status], **pod_status})
    (one,) = found.live_instances
    return one


def test_the_id_is_not_the_uid() -> None:
    assert pod().id == str(uuid5(UUID("32581326-b68f-49f5-a8a2-83853cac8813"), UID)) != UID


def test_what_is_there_from_the_start() -> None:
    found = pod(creationTimestamp="2024-05-01T10:00:00Z")
    assert (found.name, found.namespace) == ("web-1", "shop")
    assert (found.deployment_id, found.cluster_id) == ("the owner's", CLUSTER)
    assert (found.started.seconds, found.started.nanos) == (TEN, 0)
    assert not found.live_instances and not found.terminated_instances


@pytest.mark.parametrize("text", [None, "", "yesterday"])
def test_a_time_that_is_none_is_unset(text: str | None) -> None:
    assert not pod(creationTimestamp=text).HasField("started")


def test_only_containers_count_and_stand_in_the_order_of_their_ids() -> None:
    def statuses(*ids: str) -> list[dict[str, Any]]:
        return [{"name": id, "containerID": f"cri-o://{id}"} for id in ids]

    found = pod(
        status={
            "containerStatuses": statuses("b", "c", "a"),
            "initContainerStatuses": statuses("init"),
            "ephemeralContainerStatuses": statuses("debug"),
        }
    )
    assert [one.instance_id.id for one in found.live_instances] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("container", "runtime", "id"),
    [
        ("docker://abc", "DOCKER_CONTAINER_RUNTIME", "abc"),
        ("cri-o://abc", "CRIO_CONTAINER_RUNTIME", "abc"),
        ("containerd://abc", "UNKNOWN_CONTAINER_RUNTIME", "abc"),
        ("rkt://abc://d", "UNKNOWN_CONTAINER_RUNTIME", "abc://d"),
        ("", "UNKNOWN_CONTAINER_RUNTIME", ""),
        (None, "UNKNOWN_CONTAINER_RUNTIME", ""),
    ],
)
def test_instance_ids(container: str | None, runtime: str, id: str) -> None:
    found = instance({"name": "app", "containerID": container}).instance_id
    assert (ContainerRuntime.Name(found.container_runtime), found.id, found.node) == (runtime, id, "node-7")


def test_whose_container_it_is() -> None:
    found = instance({"name": "app"}, podIP="10.0.0.9", podIPs=[{"ip": "10.0.0.9"}, {"ip": "fd00::9"}])
    assert found.containing_pod_id == f"web-1.shop@{UID}"
    assert found.container_name == "app"
    assert list(found.container_ips) == ["10.0.0.9"]
    assert not instance({"name": "app"}).container_ips


def test_running() -> None:
    found = instance({"name": "a", "state": {"running": {"startedAt": "2024-05-01T10:00:00Z"}}})
    assert found.started.seconds == TEN
    assert not found.HasField("finished")


def test_terminated() -> None:
    state = {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": "2024-05-01T12:00:00+02:00",
        "finishedAt": "2024-05-01T10:00:09.5Z",
    }
    found = instance({"name": "a", "state": {"terminated": state}})
    assert found.started.seconds == TEN
    assert (found.finished.seconds, found.finished.nanos) == (TEN + 9, 500_000_000)
    assert (found.exit_code, found.termination_reason) == (137, "OOMKilled")


def test_waiting() -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"exitCode": 1, "startedAt": "2024-05-01T10:00:00Z"}}
    found = instance({"name": "a", "state": state, "lastState": last})
    assert not found.HasField("started") and not found.HasField("finished")
    assert (found.exit_code, found.termination_reason) == (0, "")


@pytest.mark.parametrize(
    ("image", "digest"),
    [
        (f"docker-pullable://registry.example/app@{DIGEST}", DIGEST),
        (f"registry.example/app@{DIGEST}", DIGEST),
        (DIGEST, DIGEST),
        ("registry.example/app:1", ""),
        ("sha256:tooshort", ""),
        (None, ""),
    ],
)
def test_image_digests(image: str | None, digest: str) -> None:
    assert instance({"name": "a", "imageID": image}).image_digest == digest


# -- the inventory


def row(found: dict[str, Any], kind: str) -> Deployment:
    return mapping.deployment(found, kind, cluster_id=CLUSTER, cluster_name="test", namespace_id=UID)


def about(**more: Any) -> dict[str, Any]:
    return {
        "name": "web",
        "namespace": "shop",
        "uid": UID,
        "creationTimestamp": "2024-05-01T10:00:00Z",
        **more,
    }


TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"serviceAccountName": "runner"}}


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job", "CronJob"])
def test_a_row_of_the_inventory(kind: str) -> None:
    spec: dict[str, Any] = {"template": TEMPLATE}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    found = row({"metadata": about(labels={"a": "b"}, annotations={"c": "d"}), "spec": spec}, kind)
    assert (found.id, found.name, found.type, found.namespace) == (UID, "web", kind, "shop")
    assert (found.cluster_id, found.cluster_name, found.namespace_id) == (CLUSTER, "test", UID)
    assert (dict(found.labels), dict(found.annotations)) == ({"a": "b"}, {"c": "d"})
    assert (dict(found.pod_labels), found.service_account) == ({"app": "web"}, "runner")
    assert found.created.seconds == TEN


def test_a_pod_alone_is_its_own_deployment() -> None:
    found = row({"metadata": about(labels={"app": "x"}), "spec": {"serviceAccountName": "me"}}, "Pod")
    assert (dict(found.labels), dict(found.pod_labels)) == ({"app": "x"}, {"app": "x"})
    assert (found.type, found.service_account) == ("Pod", "me")


def test_a_row_never_is_too_large() -> None:
    annotations = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kept": "short",
        "first": "x" * 200_000,
        "second": "y" * 150_000,
    }
    found = row({"metadata": about(annotations=annotations)}, "Deployment")
    assert found.annotations.keys() == {"kept", "second"}
    faults.check_row(found, "")


# -- owners


def ref(kind: str, uid: str, version: str = "apps/v1", **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "name": uid, "uid": uid, **more}


def of(uid: str, *references: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "ownerReferences": list(references)}}


def test_the_controller_owns() -> None:
    found = owner(of("p", ref("DaemonSet", "a"), ref("StatefulSet", "b", controller=True)))
    assert found is not None and found.uid == "b"
    found = owner(of("p", ref("DaemonSet", "a"), ref("StatefulSet", "b")))
    assert found is not None and found.uid == "a"


@pytest.mark.parametrize(
    "reference",
    [
        ref("Node", "n", "v1", controller=True),
        ref("Workflow", "w", "argoproj.io/v1alpha1", controller=True),
        ref("Deployment", "d", "example.com/v1", controller=True),
        ref("Pod", "p", "v1"),
    ],
)
def test_others_own_nothing(reference: dict[str, Any]) -> None:
    assert owner(of("p", reference)) is None
    assert Owners().top(of("p", reference)) == "p"


@pytest.mark.parametrize(
    ("between", "top", "version"), [("ReplicaSet", "Deployment", "apps/v1"), ("Job", "CronJob", "batch/v1")]
)
def test_the_top_most_counts(between: str, top: str, version: str) -> None:
    owners = Owners()
    pod = of("p", ref(between, "m", version, controller=True))
    assert owners.top(pod) is None
    assert not owners.put(between, of("m", ref(top, "t", version, controller=True)))
    # What is named is enough; it need not have been seen.
    assert owners.top(pod) == "t"
    owners.put(top, of("t"))
    assert owners.top(pod) == "t"


def test_an_owner_without_one_is_the_top() -> None:
    owners = Owners()
    owners.put("ReplicaSet", of("m", ref("Rollout", "r", "argoproj.io/v1alpha1", controller=True)))
    assert owners.top(of("p", ref("ReplicaSet", "m"))) == "m"
    assert owners.top(of("p", ref("ReplicationController", "rc", "v1"))) == "rc"
    assert owners.top(of("p", ref("CronJob", "c", "batch/v1beta1"))) == "c"


def test_moving_is_noticed() -> None:
    owners = Owners()
    assert not owners.put("ReplicaSet", of("m", ref("Deployment", "t")))
    assert not owners.put("ReplicaSet", of("m", ref("Deployment", "t")))
    assert owners.put("ReplicaSet", of("m"))
    assert owners.put("ReplicaSet", of("m", ref("Deployment", "u")))


def test_an_owner_that_went_is_remembered() -> None:
    owners = Owners()
    owners.put("ReplicaSet", of("m", ref("Deployment", "t")))
    owners.remove("ReplicaSet", "m")
    owners.remove("ReplicaSet", "m")
    assert owners.uids("ReplicaSet") == set()
    assert owners.top(of("p", ref("ReplicaSet", "m"))) == "t"


def test_a_circle_ends() -> None:
    owners = Owners()
    owners.put("ReplicaSet", of("a", ref("ReplicaSet", "b")))
    owners.put("ReplicaSet", of("b", ref("ReplicaSet", "a")))
    assert owners.top(of("p", ref("ReplicaSet", "a"))) in ("a", "b")

"""Objects of Kubernetes, as its API writes them in JSON, as pods and rows of the inventory.

The table of the pods contract, section 7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from google.protobuf.timestamp_pb2 import Timestamp

from services.pods.faults import MAX_ROW
from shared.pb.roundhouse.pods.v1.pods_pb2 import Deployment
from shared.pb.storage.container_runtime_pb2 import (
    CRIO_CONTAINER_RUNTIME,
    DOCKER_CONTAINER_RUNTIME,
    UNKNOWN_CONTAINER_RUNTIME,
)
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod
from shared.rest.scalars import read_timestamp

Object = Mapping[str, Any]
POD_IDS: Final = UUID("32581326-b68f-49f5-a8a2-83853cac8813")
_RUNTIMES: Final = {"docker": DOCKER_CONTAINER_RUNTIME, "cri-o": CRIO_CONTAINER_RUNTIME}
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
# The whole manifest once more: as large as all else together, and nothing that one searches by.
_LEFT_OUT: Final = "kubectl.kubernetes.io/last-applied-configuration"


def uid(found: Object) -> str:
    return metadata(found).get("uid") or ""


def metadata(found: Object) -> Object:
    return found.get("metadata") or {}


def pod_id(pod_uid: str) -> str:
    """Not the uid itself, which is the deployment id of a pod that stands alone."""
    return str(uuid5(POD_IDS, pod_uid))


def pod(found: Object, *, cluster_id: str, deployment_id: str) -> Pod:
    about, spec, status = metadata(found), found.get("spec") or {}, found.get("status") or {}
    named = f"{about.get('name', '')}.{about.get('namespace', '')}@{about.get('uid', '')}"
    instances: list[ContainerInstance] = [
        _instance(one, named, spec.get("nodeName") or "", status.get("podIP") or "")
        for one in status.get("containerStatuses") or ()
    ]
    instances.sort(key=lambda one: one.instance_id.id)
    return Pod(
        id=pod_id(uid(found)),
        name=about.get("name", ""),
        namespace=about.get("namespace", ""),
        deployment_id=deployment_id,
        cluster_id=cluster_id,
        started=_time(about.get("creationTimestamp")),
        live_instances=instances,
    )


def deployment(
    found: Object, kind: str, *, cluster_id: str, cluster_name: str, namespace_id: str
) -> Deployment:
    """The inventory's row of an owner, or of a pod that stands alone. Annotations that would make it
    larger than a row may be are left out, the longest first."""
    about = metadata(found)
    template = _template(found, kind)
    row = Deployment(
        id=uid(found),
        name=about.get("name", ""),
        type=kind,
        cluster_id=cluster_id,
        cluster_name=cluster_name,
        namespace=about.get("namespace", ""),
        namespace_id=namespace_id,
        labels=about.get("labels") or {},
        annotations=about.get("annotations") or {},
        pod_labels=metadata(template).get("labels") or {},
        service_account=(template.get("spec") or {}).get("serviceAccountName") or "",
        created=_time(about.get("creationTimestamp")),
    )
    row.annotations.pop(_LEFT_OUT, None)
    while row.ByteSize() > MAX_ROW and row.annotations:
        del row.annotations[max(row.annotations, key=lambda key: len(row.annotations[key]))]
    return row


def _template(found: Object, kind: str) -> Object:
    """Of the pods that an owner makes; a pod is its own."""
    if kind == "Pod":
        return found
    spec = found.get("spec") or {}
    if kind == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    return spec.get("template") or {}


def _instance(status: Object, pod_name: str, node: str, ip: str) -> ContainerInstance:
    state = status.get("state") or {}
    ended = state.get("terminated") or {}
    scheme, _, rest = (status.get("containerID") or "").partition("://")
    return ContainerInstance(
        instance_id={
            "container_runtime": _RUNTIMES.get(scheme, UNKNOWN_CONTAINER_RUNTIME),
            "id": rest,
            "node": node,
        },
        containing_pod_id=pod_name,
        container_name=status.get("name", ""),
        container_ips=[ip] if ip else [],
        started=_time((state.get("running") or ended).get("startedAt")),
        finished=_time(ended.get("finishedAt")),
        exit_code=ended.get("exitCode") or 0,
        termination_reason=ended.get("reason") or "",
        image_digest=_digest(status.get("imageID") or ""),
    )


def _digest(image: str) -> str:
    found = _DIGEST.search(image)
    return found[0] if found else ""


def _time(text: str | None) -> Timestamp | None:
    """None for no time, and for what is none."""
    if not text:
        return None
    try:
        seconds, nanos = read_timestamp(text)
    except ValueError:
        return None
    return Timestamp(seconds=seconds, nanos=nanos)

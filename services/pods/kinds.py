"""What the service stores: pods, and the clusters and deployments that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from shared.pb.roundhouse.pods.v1 import pods_pb2 as pb
from shared.pb.storage.pod_pb2 import ContainerInstance
from shared.query.schema import Field, Schema
from shared.storage.port import NULL, Kind

POD: Final = "pod"
CLUSTER: Final = "pod_cluster"
DEPLOYMENT: Final = "pod_deployment"
# One record of this kind is written with every change of the inventory: its revision says of which
# inventory a snapshot is.
MARK: Final = Kind("mark")
INVENTORY: Final = "inventory"


def instances(pod: Any) -> Iterator[ContainerInstance]:
    """Live and terminated ones."""
    yield from pod.live_instances
    for bucket in pod.terminated_instances:
        yield from bucket.instances


def _of_instances(read: Callable[[Any], str]) -> Callable[[pb.StoredPod], Any]:
    return lambda stored: tuple(map(read, instances(stored.pod)))


def _text(name: str, read: Callable[[Any], Any], **options: Any) -> Field:
    return Field(name, "text", read, **options)


# Fields by the names that filters and orders of the admin API have; `labels` says which of them the
# query language knows.
SCHEMA: Final = Schema(
    (
        _text("id", lambda stored: stored.pod.id),
        _text("name", lambda stored: stored.pod.name, folded=True),
        _text("namespace", lambda stored: stored.pod.namespace, indexed=True, folded=True),
        _text("deployment_id", lambda stored: stored.pod.deployment_id, indexed=True),
        # The same, for a list of ids that is too long to be asked of a store.
        _text("deployment", lambda stored: stored.pod.deployment_id),
        _text("cluster_id", lambda stored: stored.pod.cluster_id, indexed=True),
        _text("source", lambda stored: stored.source, indexed=True),
        Field("updated_at", "int", lambda stored: stored.updated_at, indexed=True),
        _text(
            "image_digest",
            lambda stored: tuple(instance.image_digest for instance in stored.pod.live_instances),
            many=True,
        ),
        _text("container_name", _of_instances(lambda instance: instance.container_name), many=True),
        _text("container_id", _of_instances(lambda instance: instance.instance_id.id), many=True),
        _text("node", _of_instances(lambda instance: instance.instance_id.node), many=True),
    ),
    key="id",
)
# What lists of the admin API are sorted by: names as the store keeps them, which is without case.
_NAME: Final = _text(
    "name_folded", lambda stored: stored.pod.name.casefold(), indexed=True, aliases=("name",)
)
ORDERED: Final = Schema((_NAME, *(entry for entry in SCHEMA.fields if entry.name != "name")), key="id")
# What pods are counted by, and the newest of a source.
COMPOSITES: Final = (("cluster_id", "namespace", "deployment_id"), ("source", "updated_at"))


@dataclass(frozen=True)
class Row:
    """A deployment of the inventory, with its cluster's name."""

    deployment: pb.Deployment
    cluster_name: str


def _created(row: Row) -> Any:
    if not row.deployment.HasField("created"):
        return NULL
    return row.deployment.created.seconds * 1_000_000_000 + row.deployment.created.nanos


ROW_SCHEMA: Final = Schema(
    (
        _text("cluster_name", lambda row: row.cluster_name),
        _text("name", lambda row: row.deployment.name),
        _text("type", lambda row: row.deployment.type),
        _text("service_account", lambda row: row.deployment.service_account),
        _text("namespace_id", lambda row: row.deployment.namespace_id),
        Field("labels", "map", lambda row: row.deployment.labels),
        Field("annotations", "map", lambda row: row.deployment.annotations),
        Field("pod_labels", "map", lambda row: row.deployment.pod_labels),
        Field("created", "timestamp", _created),
    )
)

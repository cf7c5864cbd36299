"""The kinds as the admin API shows them. Only feeds write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format

from services.pods import stored
from services.pods.inventory import Inventory
from services.pods.kinds import CLUSTER, COMPOSITES, DEPLOYMENT, ORDERED, POD, SCHEMA
from shared.pb.roundhouse.pods.v1 import pods_pb2 as pb
from shared.query import order_by
from shared.query.ast import Node
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish import Sqlish
from shared.resource.definition import Definition


@dataclass(frozen=True)
class PodDefinition(Definition[pb.StoredPod]):
    """`inventory`: what filters of the admin API know deployments by."""

    inventory: Inventory = field(default_factory=Inventory)

    def shown(self, body: bytes) -> bytes:
        """Nobody needs a second copy of the pod, in base64."""
        return stored.without_line(body)

    def _document(self, body: bytes) -> dict[str, Any]:
        return json_format.MessageToDict(self.parse(self.shown(body)), preserving_proto_field_name=True)


def definitions(inventory: Inventory, parse_filter: Callable[[str], Node]) -> list[Definition[Any]]:
    """Pods, clusters and deployments. `parse_filter` reads the query language, for the admin API."""
    return [
        PodDefinition(
            kind=POD,
            plural="pods",
            message=pb.StoredPod,
            name=lambda found: found.pod.id,
            schema=SCHEMA,
            parse_filter=parse_filter,
            parse_order=lambda text: order_by.parse(text, ORDERED),
            composites=COMPOSITES,
            namespace="namespace",
            inventory=inventory,
        ),
        _inventory(CLUSTER, "pod_clusters", pb.Cluster),
        _inventory(DEPLOYMENT, "pod_deployments", pb.Deployment, "name", "cluster_id", namespace="namespace"),
    ]


def _inventory(kind: str, plural: str, message: Any, *indexed: str, namespace: str = "") -> Definition[Any]:
    schema = DescriptorSchema(message.DESCRIPTOR, names={}, indexed=indexed, key="id")
    return Definition(
        kind=kind,
        plural=plural,
        message=message,
        name=lambda row: row.id,
        schema=schema,
        parse_filter=Sqlish(schema).parse,
        namespace=namespace,
    )

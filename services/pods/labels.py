"""The labels of the query language and the fields behind them (pods contract, section 3)."""

from __future__ import annotations

from typing import Final

from shared.query.dialects.search import Label, Search

# Of the pod itself. Container names, ids and nodes are ours to match on instances: upstream answers
# them from processes that it observed.
OWN: Final = (
    Label("Pod ID", "id", "id"),
    Label("Deployment ID", "id", "deployment_id"),
    Label("Cluster ID", "id", "cluster_id"),
    Label("Pod Name", "text", "name"),
    Label("Namespace", "text", "namespace"),
    Label("Container Image Digest", "text", "image_digest"),
    Label("Container Name", "text", "container_name"),
    Label("Container ID", "text", "container_id"),
    Label("Node", "text", "node"),
)
# Of the deployment that the pod names; a pod whose deployment is unknown never matches.
JOINED: Final = (
    Label("Cluster", "text", "cluster_name", joined=True),
    Label("Deployment", "text", "name", joined=True),
    Label("Deployment Type", "text", "type", joined=True),
    Label("Service Account", "text", "service_account", joined=True),
    Label("Namespace ID", "id", "namespace_id", joined=True),
    Label("Deployment Label", "map", "labels", joined=True),
    Label("Deployment Annotation", "map", "annotations", joined=True),
    Label("Pod Label", "map", "pod_labels", joined=True),
    Label("Created", "time", "created", joined=True),
)
SEARCH: Final = Search((*OWN, *JOINED))

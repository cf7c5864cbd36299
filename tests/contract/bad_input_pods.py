# ruff: noqa: E501 - a table, one case a line
"""Malformed requests to the pods service: what is sent, the code that answers, the field that is named.

Data only; test_bad_input_pods.py sends them. Of a stream each request is sent, and then its end.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf.message import Message
from grpc import StatusCode

from shared.pb.api.v1 import pod_service_pb2 as pods
from shared.pb.api.v1.pagination_pb2 import Pagination, SortOption
from shared.pb.api.v1.search_service_pb2 import RawQuery
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as feed
from shared.pb.roundhouse.pods.v1.browse_pb2 import CountPodsRequest
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment
from tests.contract.bad_input import Rest
from tests.contract.pods_yard import CLUSTER, EXPORT, OTHER, id_of, pod

INVALID = StatusCode.INVALID_ARGUMENT
_PODS = "/v1.PodService/"
_FEED = "/podfeed.v1.PodFeedService/"
_BROWSE = "/roundhouse.pods.v1.BrowseService/"
_LONG = "x" * 300_000
_FEED_PODS, _FEED_INVENTORY = "/v1/feed/pods", "/v1/feed/inventory"


@dataclass(frozen=True)
class Grpc:
    name: str
    method: str
    requests: Sequence[Message | bytes]
    code: StatusCode = INVALID
    field: str = ""


def export(name: str, query: str) -> Grpc:
    return Grpc(name, f"{_PODS}ExportPods", [pods.ExportPodRequest(query=query)], field="query")


def listed(name: str, field: str, **pagination: Any) -> Grpc:
    return Grpc(name, f"{_PODS}GetPods", [RawQuery(pagination=Pagination(**pagination))], field=field)


def counted(name: str, field: str, **fields: Any) -> Grpc:
    return Grpc(name, f"{_BROWSE}CountPods", [CountPodsRequest(**fields)], field=field)


def push(name: str, field: str, *events: feed.PodEvent | bytes) -> Grpc:
    return Grpc(name, f"{_FEED}Push", events, field=field)


def upsert(**fields: Any) -> feed.PodEvent:
    return feed.PodEvent(pod=pod(1, **fields))


def sync(name: str, field: str, *items: feed.SyncItem | bytes) -> Grpc:
    return Grpc(name, f"{_FEED}Sync", items, field=field)


def inventory(name: str, field: str, *items: feed.InventoryItem | bytes) -> Grpc:
    return Grpc(name, f"{_FEED}PutInventory", items, field=field)


START = feed.SyncItem(start=feed.SyncStart(cluster_id=CLUSTER, source="k8s"))
_SURROGATE = b"\x12\x03\xed\xa0\x80"
_ENDED = {"container_name": "a", "finished": {"seconds": 1 << 50}}

GRPC = (
    # -- bytes
    Grpc("bytes that are no message", f"{_PODS}ExportPods", [b"\xff\xff\xff"], field="request"),
    Grpc("a query of invalid UTF-8", f"{_PODS}ExportPods", [b"\x12\x02\xff\xfe"], field="request"),
    Grpc("a query with a lone surrogate", f"{_PODS}ExportPods", [_SURROGATE], field="request"),
    Grpc("a truncated list", f"{_PODS}GetPods", [b"\x0a\x24abc"], field="request"),
    Grpc("a group that does not end", f"{_FEED}Sync", [b"\x0b\x0b\x0b"], field="request"),
    push("an event that is none", "request", b"\xff\xff"),
    push("an event that is none, behind a good one", "request", upsert(), b"\x0a\x24abc"),
    inventory("a row that is none", "request", b"\xff"),
    Grpc("more than the largest message", f"{_FEED}Push", [b"\x12" * (5 << 20)], StatusCode.RESOURCE_EXHAUSTED),
    # -- queries
    export("an id that is none", "Pod ID:abc"),
    export("an id with a letter too many", f"Deployment ID:{id_of(1)}0"),
    export("an id without dashes", f"Cluster ID:{id_of(1).replace('-', '')}"),
    export("an empty id", f"Pod ID:{id_of(1)},"),
    export("a namespace id that is none", "Namespace ID:prod"),
    export("an expression without an end", "Namespace:r/("),
    export("an expression that looks ahead", "Pod Name:!r/(?=x)"),
    export("an expression that looks back", "Pod ID:r/\\1"),
    export("an expression that explodes", "Namespace:r/((a{100}){100}){100}"),
    export("an expression of 300,000 characters", f"Namespace:r/{_LONG}"),
    export("33 expressions", "Node:" + ",".join(["r/a"] * 33)),
    export("a query of 300,000 characters", f"Namespace:{_LONG}"),
    export("300,000 pluses", "+" * 300_000),
    export("a reserved sign", "Namespace:!!x"),
    export("a negated key with a value", "Deployment Label:!a=b"),
    export("a time that is none", "Created:yesterday"),
    export("the 30th of February", "Created:02/30/2026"),
    export("days that are not counted", "Created:1234567d"),
    export("a wrong value behind a good pair", "Namespace:prod+Pod ID:x"),
    Grpc("a negative timeout", f"{_PODS}ExportPods", [pods.ExportPodRequest(timeout=-1)], StatusCode.DEADLINE_EXCEEDED),
    # -- lists
    listed("a negative limit", "pagination.limit", limit=-1),
    listed("a negative offset", "pagination.offset", offset=-(2**31)),
    listed("an order by nothing", "pagination.sort_option.field", sort_option=SortOption()),
    listed("an order by many values", "pagination.sort_option.field", sort_option=SortOption(field="Node")),
    listed("an order by what is joined", "pagination.sort_options[1].field", sort_options=[SortOption(field="Pod ID"), SortOption(field="Cluster")]),
    listed("an aggregation", "pagination.sort_option.aggregate_by", sort_option=SortOption(field="Pod ID", aggregate_by={})),
    Grpc("a list of a query that is wrong", f"{_PODS}GetPods", [RawQuery(query="Pod ID:x")], field="query"),
    # -- counts
    counted("a count by nothing known", "by", by=9),
    counted("a negative page", "page_size", page_size=-1),
    counted("a page of too many", "page_size", page_size=1001),
    counted("a token that is none", "page_token", page_token="x"),
    counted("an order that is none", "order_by", order_by="pods up"),
    counted("a count of a query that is wrong", "query", query="Pod ID:x"),
    Grpc("lines of a query that is wrong", f"{_BROWSE}ExportLines", [pods.ExportPodRequest(query="Pod ID:x")], field="query"),
    # -- events
    push("an event of nothing", "events[0].pod.id", feed.PodEvent()),
    push("no id", "events[0].pod.id", upsert(id=None)),
    push("an id that is no UUID", "events[0].pod.id", upsert(id="web-1")),
    push("an id in braces", "events[0].pod.id", upsert(id=f"{{{id_of(1)}}}")),
    push("no cluster", "events[0].pod.cluster_id", upsert(cluster_id=None)),
    push("a cluster by name", "events[0].pod.cluster_id", upsert(cluster_id="prod")),
    push("a deployment by name", "events[0].pod.deployment_id", upsert(deployment_id="web")),
    push("an action that does not exist", "events[0].action", feed.PodEvent(action=7, pod=pod(1))),
    push("a removal of nothing", "events[0].pod.id", feed.PodEvent(action=feed.REMOVE)),
    push("a name of 300,000 characters", "events[0].pod.name", upsert(name=_LONG)),
    push("a namespace of 300,000 characters", "events[0].pod.namespace", upsert(namespace=_LONG)),
    push("a digest of 300,000 characters", "events[0].pod.instances.image_digest", upsert(live_instances=[{"image_digest": _LONG}])),
    push("a container of 300,000 characters", "events[0].pod.instances.container_name", upsert(live_instances=[{"container_name": _LONG}])),
    push("a node of 300,000 characters", "events[0].pod.instances.instance_id.node", upsert(live_instances=[{"instance_id": {"node": _LONG}}])),
    push("more than a pod may take", "events[0].pod", upsert(live_instances=[{"termination_reason": "x" * (1 << 20)}])),
    push("a start that no calendar has", "events[0].pod.started", upsert(started={"seconds": 1 << 60})),
    push("a start with too many nanos", "events[0].pod.started", upsert(started={"nanos": 10**9})),
    push("an end that no calendar has", "events[0].pod.instances.finished", upsert(terminated_instances=[{"instances": [_ENDED]}])),
    push("a source of 65 characters", "events[0].source", feed.PodEvent(pod=pod(1), source="s" * 65)),
    push("a source with a NUL", "events[0].source", feed.PodEvent(pod=pod(1), source="a\0")),
    push("a source of this installation", "events[0].source", feed.PodEvent(pod=pod(1), source="roundhouse/jobs")),
    push("a wrong event behind good ones", "events[2].pod.id", upsert(), upsert(), upsert(id="x")),
    # -- syncs
    sync("a sync of nothing", "items[0].start"),
    sync("a pod first", "items[0].start", feed.SyncItem(pod=pod(1))),
    sync("no cluster to sync", "items[0].start.cluster_id", feed.SyncItem(start=feed.SyncStart(source="a"))),
    sync("no source to sync", "items[0].start.source", feed.SyncItem(start=feed.SyncStart(cluster_id=CLUSTER))),
    sync("a sync of this installation's own", "items[0].start.source", feed.SyncItem(start=feed.SyncStart(cluster_id=CLUSTER, source="roundhouse/jobs"))),
    sync("two starts", "items[1].pod", START, START),
    sync("an empty item", "items[1].pod", START, feed.SyncItem()),
    sync("a pod of another cluster", "items[1].pod.cluster_id", START, feed.SyncItem(pod=pod(1, cluster_id=OTHER))),
    sync("a pod that is wrong", "items[2].pod.deployment_id", START, feed.SyncItem(pod=pod(1)), feed.SyncItem(pod=pod(2, deployment_id="x"))),
    # -- inventory
    inventory("an empty row", "items[0]", feed.InventoryItem()),
    inventory("a cluster without an id", "items[0].cluster.id", feed.InventoryItem(cluster=Cluster(name="a"))),
    inventory("a row by name", "items[0].deployment.id", feed.InventoryItem(deployment=Deployment(id="web"))),
    inventory("a namespace id by name", "items[0].deployment.namespace_id", feed.InventoryItem(deployment=Deployment(id=id_of(1), namespace_id="prod"))),
    inventory("a row of 300,000 characters", "items[0].deployment", feed.InventoryItem(deployment=Deployment(id=id_of(1), labels={"a": _LONG}))),
    inventory("a creation that no calendar has", "items[0].deployment.created", feed.InventoryItem(deployment=Deployment(id=id_of(1), created={"nanos": -1}))),
    inventory("a removal by name", "items[0].removed_deployment", feed.InventoryItem(removed_deployment="web")),
    inventory("a wrong row behind a good one", "items[1].cluster.id", feed.InventoryItem(cluster=Cluster(id=id_of(1))), feed.InventoryItem(cluster=Cluster(id="x"))),
)  # fmt: skip


def line(**fields: Any) -> str:
    return json.dumps({"id": id_of(1), "clusterId": CLUSTER, **fields})


def query(text: str) -> str:
    return f"{EXPORT}?query={quote(text)}"


REST = (
    # -- parameters
    Rest("a timeout in words", "GET", f"{EXPORT}?timeout=long", "", INVALID, 'parsing field "timeout"'),
    Rest("a timeout beyond 32 bits", "GET", f"{EXPORT}?timeout=4294967296", "", INVALID, 'parsing field "timeout"'),
    Rest("two timeouts", "GET", f"{EXPORT}?timeout=1&timeout=1", "", INVALID, 'too many values for field "timeout"'),
    Rest("two queries", "GET", f"{EXPORT}?query=a&query=b", "", INVALID, 'too many values for field "query"'),
    Rest("a negative timeout", "GET", f"{EXPORT}?timeout=-5", "", StatusCode.DEADLINE_EXCEEDED, "deadline"),
    Rest("a query that is no UTF-8", "GET", f"{EXPORT}?query=%FF%FE", "", INVALID, "query"),
    Rest("a percent that escapes nothing", "GET", f"{EXPORT}?query=%zz", "", INVALID, "query"),
    Rest("an id that is none", "GET", query("Pod ID:x"), "", INVALID, "must be valid UUID"),
    Rest("an expression without an end", "GET", query("Namespace:r/["), "", INVALID, "invalid regexp"),
    Rest("40,000 characters of expression", "GET", query("Namespace:r/" + "a" * 40_000), "", INVALID, "1000 characters"),
    Rest("a negative limit", "GET", "/v1/pods?pagination.limit=-1", "", INVALID, "pagination.limit"),
    Rest("a limit in words", "GET", "/v1/pods?pagination.limit=many", "", INVALID, "pagination.limit"),
    Rest("an order by nothing", "GET", "/v1/pods?pagination.sort_option.field=x", "", INVALID, "pagination.sort_option.field"),
    # -- paths and verbs
    Rest("an unknown path", "GET", "/v1/export/deployments", "", StatusCode.NOT_FOUND, "/v1/export/deployments"),
    Rest("a path with a slash behind", "GET", f"{EXPORT}/", "", StatusCode.NOT_FOUND, "path"),
    Rest("a write to the export", "POST", EXPORT, "{}", StatusCode.UNIMPLEMENTED, "POST"),
    Rest("a read of the feed", "GET", _FEED_PODS, "", StatusCode.UNIMPLEMENTED, "GET"),
    Rest("a verb of one's own", "PROPFIND", EXPORT, "", StatusCode.UNIMPLEMENTED, "PROPFIND"),
    # -- fed pods
    Rest("no JSON", "POST", _FEED_PODS, "{", INVALID, "line 1"),
    Rest("a list", "POST", _FEED_PODS, "[]", INVALID, "line 1"),
    Rest("a list of pods", "POST", _FEED_PODS, f"[{line()}]", INVALID, "line 1"),
    Rest("a number", "POST", _FEED_PODS, "3", INVALID, "line 1"),
    Rest("bytes that are no UTF-8", "POST", _FEED_PODS, b'{"id": "\xff"}', INVALID, "line 1"),
    Rest("a lone surrogate", "POST", _FEED_PODS, '{"id": "\\ud800"}', INVALID, "line 1"),
    Rest("100,000 brackets", "POST", _FEED_PODS, "[" * 100_000, INVALID, "line 1"),
    Rest("an export without a pod", "POST", _FEED_PODS, '{"result": {}}', INVALID, "line 1"),
    Rest("an export that failed", "POST", _FEED_PODS, '{"error": {"message": "no"}}', INVALID, "line 1"),
    Rest("no id", "POST", _FEED_PODS, "{}", INVALID, "line 1: id"),
    Rest("an id of the wrong type", "POST", _FEED_PODS, line(id=7), INVALID, "line 1: id"),
    Rest("a cluster by name", "POST", _FEED_PODS, line(clusterId="prod"), INVALID, "line 1: cluster_id"),
    Rest("instances that are no list", "POST", _FEED_PODS, line(liveInstances={}), INVALID, "line 1: live_instances"),
    Rest("an instance that is null", "POST", _FEED_PODS, line(liveInstances=[None]), INVALID, "line 1: live_instances[0]"),
    Rest("a runtime that does not exist", "POST", _FEED_PODS, line(liveInstances=[{"instanceId": {"containerRuntime": "RKT"}}]), INVALID, "container_runtime"),
    Rest("an exit code beyond 32 bits", "POST", _FEED_PODS, line(liveInstances=[{"exitCode": 1 << 40}]), INVALID, "exit_code"),
    Rest("a start that is no time", "POST", _FEED_PODS, line(started="today"), INVALID, "line 1: started"),
    Rest("a field in both spellings", "POST", _FEED_PODS, line(cluster_id=OTHER), INVALID, "cluster_id"),
    Rest("a wrong line behind a good one", "POST", _FEED_PODS, f"{line()}\n\n{{", INVALID, "line 3"),
    Rest("a mode that does not exist", "POST", f"{_FEED_PODS}?mode=merge", line(), INVALID, "mode"),
    Rest("two modes", "POST", f"{_FEED_PODS}?mode=replace&mode=replace", line(), INVALID, "mode"),
    Rest("a source of 65 characters", "POST", f"{_FEED_PODS}?source={'s' * 65}", line(), INVALID, "source"),
    Rest("a source of this installation", "POST", f"{_FEED_PODS}?source=roundhouse%2Fjobs", line(), INVALID, "source"),
    Rest("two sources", "POST", f"{_FEED_PODS}?source=a&source=b", line(), INVALID, "source"),
    Rest("no gzip", "POST", _FEED_PODS, line(), INVALID, "body", {"Content-Encoding": "gzip"}),
    Rest("half of it", "POST", _FEED_PODS, gzip.compress(line().encode())[:-4], INVALID, "body", {"Content-Encoding": "gzip"}),
    Rest("an encoding that is not known", "POST", _FEED_PODS, line(), INVALID, "body", {"Content-Encoding": "zstd"}),
    Rest("a line of 5 MB", "POST", _FEED_PODS, line(name="x" * (5 << 20)), INVALID, "line 1"),
    # -- fed inventories
    Rest("no kind", "POST", _FEED_INVENTORY, '{"id": "x"}', INVALID, "line 1: kind"),
    Rest("a kind that does not exist", "POST", _FEED_INVENTORY, '{"kind": "node"}', INVALID, "line 1: kind"),
    Rest("a cluster without an id", "POST", _FEED_INVENTORY, '{"kind": "cluster"}', INVALID, "line 1: id"),
    Rest("labels that are no map", "POST", _FEED_INVENTORY, '{"kind": "deployment", "labels": 1}', INVALID, "line 1: labels"),
    Rest("a label that is no text", "POST", _FEED_INVENTORY, '{"kind": "deployment", "labels": {"a": 1}}', INVALID, "line 1: labels"),
    Rest("a pod", "POST", _FEED_INVENTORY, line(), INVALID, "line 1: kind"),
)  # fmt: skip

"""Pods, and what they are counted by, as rows and pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from admin_ui.pod_state import CLUSTERS, DEPLOYMENTS, NAMESPACES, PODS, SOURCES, PodState
from admin_ui.pods import Names
from admin_ui.presenters import moments, pod_query
from admin_ui.presenters.pod_query import CLUSTER_ID, DEPLOYMENT_ID, NAMESPACE
from shared.pb.roundhouse.pods.v1 import browse_pb2 as pb
from shared.pb.roundhouse.pods.v1.pods_pb2 import Deployment, StoredPod
from shared.pb.storage import container_runtime_pb2
from shared.pb.storage.pod_pb2 import ContainerInstance

# What the feed of our own jobs calls itself: its deployments are jobs, its pods are named after theirs.
JOBS_SOURCE: Final = "roundhouse/jobs"
_RUNTIMES: Final[Mapping[int, str]] = {
    container_runtime_pb2.DOCKER_CONTAINER_RUNTIME: "Docker",
    container_runtime_pb2.CRIO_CONTAINER_RUNTIME: "CRI-O",
}


@dataclass(frozen=True, slots=True)
class State:
    """A state in words, with a tone and an icon: colour alone says nothing."""

    label: str
    tone: str
    icon: str


RUNNING: Final = State("Running", "ok", "play")
WAITING: Final = State("Waiting", "warn", "clock")
FAILED: Final = State("Failed", "bad", "cross")
ENDED: Final = State("Ended", "muted", "check")
EMPTY: Final = State("No containers", "muted", "ring")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is. Names are empty where the inventory has none."""

    cluster_id: str
    cluster: str
    namespace: str
    deployment_id: str
    deployment: str
    type: str


@dataclass(frozen=True, slots=True)
class Group:
    """Pods that have something in common. `inside`: the query string of what is in it; `key` tells
    it apart from others."""

    key: str
    title: str
    place: Place
    pods: int
    namespaces: int
    deployments: int
    changed: datetime | None
    inside: str


@dataclass(frozen=True, slots=True)
class Instance:
    name: str
    id: str
    runtime: str
    node: str
    digest: str
    ips: tuple[str, ...]
    state: State
    started: datetime | None
    finished: datetime | None
    # Empty while it runs.
    exit_code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pod:
    id: str
    name: str
    place: Place
    state: State
    # How many of its containers run, wait and have ended: "2 running, 1 waiting".
    told: str
    nodes: tuple[str, ...]
    live: tuple[Instance, ...]
    # A bucket for each container, its runs from the newest on.
    ended: tuple[tuple[str, tuple[Instance, ...]], ...]
    started: datetime | None
    changed: datetime | None
    source: str
    # The id of the job that it belongs to, when it is one of ours, and its number there.
    job: str = ""
    instance: str = ""


# --- groups -------------------------------------------------------------------------------------


def group(found: pb.Group, state: PodState) -> Group:
    place = Place(
        found.cluster_id,
        found.cluster,
        found.namespace,
        found.deployment_id,
        found.deployment,
        found.deployment_type,
    )
    key = found.source if state.by == SOURCES else "/".join((*_parts(place, state.by), ""))
    return Group(
        key=key,
        title=_title(found, state.by),
        place=place,
        pods=found.totals.pods,
        namespaces=found.totals.namespaces,
        deployments=found.totals.deployments,
        changed=moments.from_timestamp(found.changed) if found.HasField("changed") else None,
        inside="" if state.by == SOURCES else state.to(*_inside(place, state)),
    )


def _parts(place: Place, by: str) -> tuple[str, ...]:
    """What makes a group of its own."""
    whole = (place.cluster_id, place.namespace, place.deployment_id)
    return whole[: (CLUSTERS, NAMESPACES, DEPLOYMENTS).index(by) + 1]


def _title(found: pb.Group, by: str) -> str:
    if by == CLUSTERS:
        return found.cluster or found.cluster_id
    if by == NAMESPACES:
        return found.namespace or "no namespace"
    if by == SOURCES:
        return found.source
    return found.deployment or found.deployment_id or "no deployment"


def _inside(place: Place, state: PodState) -> tuple[str, str]:
    """The query of what is in a group, and as which rows."""
    query = state.filter
    labels = (CLUSTER_ID, NAMESPACE, DEPLOYMENT_ID)
    for label, value in zip(labels, _parts(place, state.by), strict=False):
        query = pod_query.narrowed(query, label, value)
    return query, {CLUSTERS: NAMESPACES, NAMESPACES: DEPLOYMENTS, DEPLOYMENTS: PODS}[state.by]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way into the whole. `out`: the query string without it and what follows."""

    what: str
    name: str
    here: str
    out: str


def path(state: PodState, names: Names) -> list[Step]:
    """What the query pins, from the outside in."""
    found: list[Step] = []
    levels = {CLUSTER_ID: NAMESPACES, NAMESPACE: DEPLOYMENTS, DEPLOYMENT_ID: PODS}
    shown = {
        CLUSTER_ID: lambda id: names.clusters[id].name if id in names.clusters else id,
        NAMESPACE: lambda name: name or "no namespace",
        DEPLOYMENT_ID: lambda id: names.deployments[id].name if id in names.deployments else id or "none",
    }
    outer = {CLUSTER_ID: CLUSTERS, NAMESPACE: NAMESPACES, DEPLOYMENT_ID: DEPLOYMENTS}
    for number, label in enumerate(pod_query.DRILL):
        value = pod_query.pinned(state.filter, label)
        if value is None:
            continue
        inner, own = pod_query.DRILL[number + 1 :], pod_query.DRILL[number:]
        found.append(
            Step(
                label.removesuffix(" ID").lower(),
                shown[label](value),
                state.to(pod_query.without(state.filter, inner), levels[label]),
                state.to(pod_query.without(state.filter, own), outer[label]),
            )
        )
    return found


def pinned_ids(state: PodState) -> tuple[list[str], list[str]]:
    """Of clusters and of deployments that the query pins."""
    found = [pod_query.pinned(state.filter, label) for label in (CLUSTER_ID, DEPLOYMENT_ID)]
    return [found[0]] if found[0] else [], [found[1]] if found[1] else []


# --- pods ---------------------------------------------------------------------------------------


def pod(stored: StoredPod, names: Names) -> Pod:
    one = stored.pod
    live = tuple(map(instance, one.live_instances))
    buckets = [tuple(map(instance, reversed(b.instances))) for b in one.terminated_instances if b.instances]
    deployment = names.deployments.get(one.deployment_id, Deployment())
    cluster = names.clusters.get(one.cluster_id)
    ended = tuple((runs[0].name, runs) for runs in buckets)
    own = stored.source == JOBS_SOURCE
    return Pod(
        id=one.id,
        name=one.name,
        place=Place(
            one.cluster_id,
            cluster.name if cluster is not None else deployment.cluster_name,
            one.namespace,
            one.deployment_id,
            deployment.name,
            deployment.type,
        ),
        state=_state(live, buckets),
        told=_told(live, buckets),
        nodes=tuple(dict.fromkeys(i.node for i in (live or _last(buckets)) if i.node)),
        live=live,
        ended=ended,
        started=moments.from_timestamp(one.started),
        changed=_nanoseconds(stored.updated_at),
        source=stored.source,
        job=one.deployment_id if own else "",
        instance=_number(one.name, one.deployment_id) if own else "",
    )


def _number(name: str, job: str) -> str:
    """Of a job's pod: the name is the job's id, the number and, where each run is a pod, the run."""
    rest = name.removeprefix(f"{job}-").split("-") if name.startswith(f"{job}-") else [""]
    return rest[0] if rest[0].isdigit() else ""


def instance(one: ContainerInstance) -> Instance:
    started, finished = moments.from_timestamp(one.started), moments.from_timestamp(one.finished)
    over = one.HasField("finished")
    going = RUNNING if one.HasField("started") else WAITING
    ended = FAILED if one.exit_code else ENDED
    return Instance(
        one.container_name,
        one.instance_id.id,
        _RUNTIMES.get(one.instance_id.container_runtime, ""),
        one.instance_id.node,
        one.image_digest,
        tuple(one.container_ips),
        ended if over else going,
        started,
        finished,
        str(one.exit_code) if over else "",
        one.termination_reason,
    )


def _last(buckets: Sequence[Sequence[Instance]]) -> list[Instance]:
    """The last run of each container."""
    return [runs[0] for runs in buckets]


def _state(live: Sequence[Instance], buckets: Sequence[Sequence[Instance]]) -> State:
    """The worst of what is there; of a pod of which nothing is left, how its containers ended."""
    found = {one.state for one in live or _last(buckets)}
    return next((state for state in (FAILED, WAITING, RUNNING, ENDED) if state in found), EMPTY)


def _told(live: Sequence[Instance], buckets: Sequence[Sequence[Instance]]) -> str:
    words = [
        f"{count} {state.label.lower()}"
        for state in (RUNNING, WAITING, FAILED, ENDED)
        if (count := sum(one.state is state for one in live))
    ]
    over = sum(map(len, buckets))
    return ", ".join([*words, f"{over} terminated"] if over else words)


def _nanoseconds(at: int) -> datetime | None:
    return datetime.fromtimestamp(at / 1_000_000_000, UTC) if at else None


# --- the inventory ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tag:
    """A label of a deployment, and the query string of all pods that have it."""

    key: str
    value: str
    query: str


def tags(label: str, found: Iterable[tuple[str, str]], base: PodState) -> list[Tag]:
    """`label`: Deployment Label or Pod Label."""
    return [Tag(key, value, base.to(_tag_query(label, key, value), PODS)) for key, value in sorted(found)]


def _tag_query(label: str, key: str, value: str) -> str:
    if not value:
        return f"{label}:{pod_query.exactly(key)}="
    return f"{label}:{pod_query.exactly(key)}={pod_query.exactly(value)}"


@dataclass(frozen=True, slots=True)
class Where:
    """The query strings of all pods in the same cluster, namespace and deployment."""

    cluster: str
    namespace: str
    deployment: str


def where(place: Place, base: PodState) -> Where:
    cluster = pod_query.narrowed("", CLUSTER_ID, place.cluster_id)
    namespace = pod_query.narrowed(cluster, NAMESPACE, place.namespace)
    deployment = pod_query.narrowed(namespace, DEPLOYMENT_ID, place.deployment_id)
    return Where(base.to(cluster, NAMESPACES), base.to(namespace, DEPLOYMENTS), base.to(deployment, PODS))

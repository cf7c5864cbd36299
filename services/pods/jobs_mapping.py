"""Jobs and their pods, as the jobs service keeps them, as pods and rows of the inventory.

The table of the pods contract, section 7. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Self
from uuid import UUID, uuid5

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from services.pods.faults import MAX_ROW, MAX_TEXT
from services.pods.kinds import instances
from services.pods.merge import KEPT
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment
from shared.pb.storage.container_runtime_pb2 import UNKNOWN_CONTAINER_RUNTIME
from shared.pb.storage.pod_pb2 import ContainerInstance, Pod
from shared.query.dialects.search import uuid
from shared.rest.scalars import read_timestamp
from shared.service.config import Config

# What the ids of pods and clusters are made in.
IDS: Final = UUID("206fd016-0a69-4d34-a4fe-380f07dbaf75")
TYPE: Final = "Job"
_LABEL: Final = "label:"
_REASON: Final = "TERMINATION_STATUS_REASON_"
_DIGEST: Final = re.compile(r"@(sha256:[0-9a-f]{64})")
_ENDED: Final = frozenset(
    {pod_pb2.CONTAINER_STATE_SUCCEEDED, pod_pb2.CONTAINER_STATE_FAILED, pod_pb2.CONTAINER_STATE_KILLED}
)


@dataclass(frozen=True)
class Rules:
    """What the table leaves to the operator. `namespace`: `label:` and the key of a job's label, or the
    namespace of all; empty is the job's resource pool. `each_run`: a run is a pod of its own."""

    cluster_id: str
    cluster: str
    namespace: str = ""
    each_run: bool = False

    @classmethod
    def of(cls, config: Config) -> Self:
        name = config.pods_jobs_cluster
        cluster_id = config.pods_jobs_cluster_id or str(uuid5(IDS, name))
        return cls(cluster_id, name, config.pods_jobs_namespace, config.pods_jobs_pod == "run")

    @property
    def text(self) -> str:
        """Equal for equal rules."""
        return orjson.dumps(asdict(self)).decode()

    # -- jobs

    def namespace_of(self, job: jobs_pb2.Job) -> str:
        """A job without the label is in the namespace of its pool."""
        if not self.namespace.startswith(_LABEL):
            return self.namespace or job.respool_id
        key = self.namespace.removeprefix(_LABEL)
        return next((label.value for label in job.labels if label.key == key), job.respool_id)[:MAX_TEXT]

    def cluster_row(self) -> Cluster:
        return Cluster(id=self.cluster_id, name=self.cluster)

    def deployment(self, job: jobs_pb2.Job, pod_labels: Mapping[str, str]) -> Deployment:
        """Labels that would make it larger than a row may be are left out, the longest first."""
        row = Deployment(
            id=job.id,
            name=job.name[:MAX_TEXT],
            type=TYPE,
            cluster_id=self.cluster_id,
            cluster_name=self.cluster,
            namespace=self.namespace_of(job),
            namespace_id=uuid(job.respool_id) or "",
            labels={label.key: label.value for label in job.labels},
            pod_labels=pod_labels,
            created=_moment(job.created_at),
        )
        for labels in (row.pod_labels, row.labels):
            excess = row.ByteSize() - MAX_ROW
            for key in sorted(labels, key=lambda key: len(key) + len(labels[key]), reverse=True):
                if excess <= 0:
                    break
                excess -= len(key.encode()) + len(labels[key].encode())
                del labels[key]
        return row

    # -- pods

    def ids(self, name: str) -> list[str]:
        """Of the pods that an instance of a job may be; none are known where each run is one."""
        return [] if self.each_run else [str(uuid5(IDS, name))]

    def pods(
        self,
        found: jobs_pb2.Pod,
        earlier: Sequence[pod_pb2.PodStatus],
        stored: Iterable[Pod],
        namespace: str,
    ) -> list[Pod]:
        """What an instance of a job is, after it was `stored`, by whatever rules. `earlier` are runs
        before the one of `found`, in any order, as they ended; what is stored of these is replaced,
        what is stored of runs before those stays."""
        place = _Place(self, found, namespace)
        runs = {number(status.pod_id.value, found.name): status for status in earlier}
        runs = {run: status for run, status in runs.items() if 0 < run < found.run}
        ended = _ended(_same(stored, found), found.name, min(runs, default=found.run))
        ended |= {run: place.instances(runs[run])[1] for run in sorted(runs)}
        live, over = place.instances(found.status)
        if self.each_run:
            before = [place.pod(_id(found.name, run), (), ended[run]) for run in list(ended)[-KEPT:]]
            return [*before, place.pod(_id(found.name, found.run), live, over)]
        over = [instance for instances in ended.values() for instance in instances] + over
        return [place.pod(found.name, live, over)]


def _ended(stored: Iterable[Pod], name: str, before: int) -> dict[int, list[ContainerInstance]]:
    """What is stored of runs before that one, by run in order."""
    found: dict[int, list[ContainerInstance]] = {}
    for one in stored:
        for bucket in one.terminated_instances:
            for instance in bucket.instances:
                found.setdefault(number(instance.instance_id.id, name), []).append(instance)
    return {run: found[run] for run in sorted(found) if 0 < run < before}


def _id(name: str, run: int) -> str:
    return f"{name}-{run}"


def newest_run(stored: Iterable[Pod], found: jobs_pb2.Pod) -> int:
    """Of an instance of a job, as it is stored; 0: it is not."""
    known = (instance for one in _same(stored, found) for instance in instances(one))
    return max((number(instance.instance_id.id, found.name) for instance in known), default=0)


def _same(stored: Iterable[Pod], found: jobs_pb2.Pod) -> list[Pod]:
    """What is stored of this instance, and not of one that was removed before it was made again."""
    started = _started(found)
    return [one for one in stored if one.started == started]


def _started(found: jobs_pb2.Pod) -> Timestamp:
    created = found.status.revision.created_at
    return _moment(created) if created else _time(found.status.start_time) or Timestamp()


def number(id: str, name: str) -> int:
    """The run that an id of a run, or of an instance in it, tells of; 0: none."""
    digits = id.removeprefix(f"{name}-").partition("/")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def pod_labels(spec: pod_pb2.PodSpec) -> dict[str, str]:
    return {label.key: label.value for label in spec.labels}


class _Place:
    """An instance of a job, and what all its runs share."""

    def __init__(self, rules: Rules, found: jobs_pb2.Pod, namespace: str) -> None:
        self._rules = rules
        self._name = found.name
        self._job = found.job
        self._namespace = namespace
        self._started = _started(found)

    def pod(self, key: str, live: Iterable[ContainerInstance], ended: Iterable[ContainerInstance]) -> Pod:
        """`key`: what its id is made of. `ended`: oldest first."""
        found = Pod(
            id=str(uuid5(IDS, key)),
            name=self._name,
            deployment_id=self._job,
            namespace=self._namespace,
            cluster_id=self._rules.cluster_id,
            live_instances=live,
            started=self._started,
        )
        buckets: dict[str, list[ContainerInstance]] = {}
        for instance in ended:
            buckets.setdefault(instance.container_name, []).append(instance)
        for _, bucket in sorted(buckets.items()):
            kept = found.terminated_instances.add().instances
            kept.extend(bucket[-KEPT:])
            for instance in kept:
                # It may be stored by other rules.
                instance.containing_pod_id = self._containing(number(instance.instance_id.id, self._name))
        return found

    def instances(self, status: pod_pb2.PodStatus) -> tuple[list[ContainerInstance], list[ContainerInstance]]:
        """Of a run, in the order of their ids: those that live, and those that have ended."""
        live: list[ContainerInstance] = []
        ended: list[ContainerInstance] = []
        for one in status.containers_status:
            if one.state != pod_pb2.CONTAINER_STATE_INVALID:
                (ended if one.state in _ENDED else live).append(self._instance(status, one))
        for found in (live, ended):
            found.sort(key=lambda instance: instance.instance_id.id)
        return live, ended

    def _containing(self, run: int) -> str:
        return f"{self._name}.{self._namespace}@{_id(self._name, run)}"

    def _instance(self, status: pod_pb2.PodStatus, container: pod_pb2.ContainerStatus) -> ContainerInstance:
        run = status.pod_id.value
        digest = _DIGEST.search(container.image)
        found = ContainerInstance(
            instance_id={
                "container_runtime": UNKNOWN_CONTAINER_RUNTIME,
                "id": f"{run}/{container.name}"[:MAX_TEXT],
                "node": status.host[:MAX_TEXT],
            },
            containing_pod_id=self._containing(number(run, self._name)),
            container_name=container.name[:MAX_TEXT],
            started=_time(container.start_time),
            image_digest=digest[1] if digest else "",
        )
        if container.state in _ENDED:
            _finish(found, status, container)
        return found


def _finish(found: ContainerInstance, status: pod_pb2.PodStatus, container: pod_pb2.ContainerStatus) -> None:
    ended = container.terminationStatus
    finished = _time(container.completion_time)
    if finished is not None:
        found.finished.CopyFrom(finished)
    # Unsigned there, signed here.
    found.exit_code = ended.exit_code - (ended.exit_code >> 31 << 32)
    if ended.reason:
        found.termination_reason = pod_pb2.TerminationStatus.Reason.Name(ended.reason).removeprefix(_REASON)
    else:
        found.termination_reason = container.reason or status.reason


def _moment(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def _time(text: str) -> Timestamp | None:
    """None for no time, and for what is none."""
    if not text:
        return None
    try:
        seconds, nanos = read_timestamp(text)
    except ValueError:
        return None
    return Timestamp(seconds=seconds, nanos=nanos)

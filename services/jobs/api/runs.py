"""Reads pods and their runs from the store, for whoever asks any process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from services.jobs import kinds, names, spec
from shared.errors import NotFound
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as pb
from shared.storage.port import Condition, Order, Query, Store


@dataclass(frozen=True, slots=True)
class Place:
    """Of a pod: its job and its instance."""

    job: str
    instance: int

    @classmethod
    def of(cls, pod_name: str) -> Place:
        """Raises InvalidArgument."""
        job, instance = names.parse_pod_name(pod_name)
        return cls(job.lower(), instance)

    @property
    def pod(self) -> str:
        return names.pod_name(self.job, self.instance)


class Runs:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def pod(self, place: Place) -> pb.Pod:
        """Raises NotFound."""
        record = await self._store.get(kinds.POD, place.pod)
        if record is None:
            raise NotFound(f"pod {place.pod[:100]!r} not found", kind=kinds.POD, name=place.pod[:100])
        return pb.Pod.FromString(record.body)

    async def wanted(self, place: Place) -> bool:
        """Whether the job's configuration has that instance, be there a pod of it or not."""
        record = await self._store.get(kinds.JOB, place.job)
        return record is not None and place.instance < pb.Job.FromString(record.body).instance_count

    async def earlier(self, place: Place, limit: int | None) -> Sequence[pb.Run]:
        """Those that another one followed, newest first."""
        query = Query(
            kinds.RUN,
            parent=place.job,
            where=(Condition("pod", "=", place.pod),),
            order=(Order("run", descending=True),),
            limit=limit,
        )
        async with aclosing(self._store.scan(query)) as records:
            return [pb.Run.FromString(record.body) async for record in records]

    async def run(self, place: Place, pod_id: str) -> pb.Run:
        """The run of that id; of an empty one the newest. Raises InvalidArgument for the id of another
        pod, and NotFound."""
        pod = await self.pod(place)
        number = names.parse_pod_id(pod_id.lower(), pod.name) if pod_id else pod.run
        if number == pod.run:
            return pb.Run(
                pod=pod.name,
                run=pod.run,
                configuration=pod.configuration,
                status=pod.status,
                events=pod.events,
            )
        record = await self._store.get(kinds.RUN, names.run(pod.name, number))
        if record is None:
            raise NotFound(f"pod {pod.name} has no run {number} (any more)", kind="run", name=pod_id)
        return pb.Run.FromString(record.body)

    async def specs(self, place: Place, configurations: set[int]) -> dict[int, pod_pb2.PodSpec]:
        """What the instance is by each of the configurations; those that are forgotten are left out."""
        wanted = {names.configuration(place.job, version): version for version in configurations}
        found = await self._store.get_many(kinds.CONFIGURATION, list(wanted)) if wanted else {}
        return {
            wanted[name]: shown(pb.Configuration.FromString(record.body).spec, place)
            for name, record in found.items()
        }


def shown(of: JobSpec, place: Place) -> pod_pb2.PodSpec:
    """The effective spec of an instance, under its name."""
    found = spec.effective(of, place.instance)
    found.pod_name.value = place.pod
    return found

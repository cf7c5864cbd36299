"""QueryJobs and QueryPods: filters, orders and pages (jobs contract, section 4)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar

from services.jobs import kinds, machines, names, ranges, spec
from services.jobs.engine import job as jobs
from services.jobs.engine import workflow
from shared.errors import InvalidArgument, Violation
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.peloton_pb2 import TimeRange
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.query import query_pb2
from shared.pb.roundhouse.jobs.v1 import jobs_pb2 as stored
from shared.service.service import Clock
from shared.storage.port import Condition, Order, Query, Store

T = TypeVar("T")
Test = Callable[[stored.Job], bool]

PAGE: Final = 10
MAX_RESULTS: Final = 100
_DAY: Final = 86_400 * 1_000_000_000
# Jobs that have ended are looked for among those of so long, unless a time is given.
_WINDOW: Final = 7 * _DAY + 30 * 1_000_000_000
_INSTANCES: Final = 1 << 32

# What the store orders by.
_JOB_ORDERS: Final[Mapping[str, str]] = {
    "creation_time": "created_at",
    "completion_time": "completed_at",
    "start_time": "started_at",
    "update_time": "updated_at",
    "name": "name",
    "owner": "owner",
    "state": "state",
    "respool_id": "respool_id",
    "instance_count": "instance_count",
}
_POD_ORDERS: Final[Mapping[str, Callable[[stored.Pod], Any]]] = {
    # Those that have not begun last.
    "creation_time": lambda pod: (not pod.status.start_time, pod.status.start_time),
    "host": lambda pod: pod.status.host,
    "instanceId": lambda pod: pod.instance,
    "message": lambda pod: pod.status.message,
    "name": lambda pod: pod.name,
    "reason": lambda pod: pod.status.reason,
    "state": lambda pod: pod.status.state,
}


class Queries:
    """`pool_of` answers the id of the pool at a path, None for an unknown one."""

    def __init__(self, store: Store, clock: Clock, pool_of: Callable[[str], Awaitable[str | None]]) -> None:
        self._store = store
        self._clock = clock
        self._pool_of = pool_of

    async def query_jobs(self, request: pb.QueryJobsRequest) -> pb.QueryJobsResponse:
        wanted = request.spec
        tests, conditions = await self._tests(wanted)
        paging = wanted.pagination
        asked = _ordering(paging.order_by, _JOB_ORDERS, "spec.pagination.order_by")
        orders: dict[str, Order] = {}
        for index, descending in asked or [("created_at", True)]:
            # A second mention of a property decides nothing.
            orders.setdefault(index, Order(index, descending))
        most = paging.max_limit or MAX_RESULTS
        # The first ones found are the first ones wanted.
        limit = None if tests else most
        query = Query(
            kinds.JOB,
            where=tuple(conditions),
            order=tuple(orders.values()),
            # Ties go the same way: then an index has that very order.
            name_descending=all(one.descending for one in orders.values()),
            limit=limit,
        )
        rows: list[stored.Job] = []
        async with aclosing(self._store.scan(query)) as records:
            async for record in records:
                job = stored.Job.FromString(record.body)
                if all(test(job) for test in tests):
                    rows.append(job)
                    if len(rows) == most:
                        break
        page = rows[paging.offset : paging.offset + (paging.limit or PAGE)]
        answer = pb.QueryJobsResponse(spec=wanted, records=[jobs.summary(job) for job in page])
        answer.pagination.CopyFrom(
            query_pb2.Pagination(offset=paging.offset, limit=paging.limit, total=len(rows))
        )
        return answer

    async def query_pods(self, job: stored.Job, request: pb.QueryPodsRequest) -> pb.QueryPodsResponse:
        wanted = request.spec
        given = request.HasField("pagination")
        paging = request.pagination if given else wanted.pagination
        parameter = "pagination.order_by" if given else "spec.pagination.order_by"
        order = _ordering(paging.order_by, _POD_ORDERS, parameter)
        states, pods = set[int](wanted.pod_states), {name.value for name in wanted.names}
        hosts = set(wanted.hosts)
        _known_states(states, pod_pb2.PodState, "spec.pod_states")
        found: list[stored.Pod] = []
        async with aclosing(self.pods(job.id, None)) as records:
            async for pod in records:
                fits = (not states or pod.status.state in states) and (not pods or pod.name in pods)
                if fits and (not hosts or pod.status.host in hosts):
                    found.append(pod)
        rows = _sorted(found, order, lambda pod: pod.instance)
        page = rows[paging.offset : paging.offset + (paging.limit or PAGE)]
        answer = pb.QueryPodsResponse()
        shown = await self._specs(
            job.id, {pod.configuration for pod in page} if not request.summary_only else ()
        )
        for pod in page:
            entry = answer.pods.add(status=pod.status)
            if pod.configuration in shown:
                entry.spec.CopyFrom(spec.effective(shown[pod.configuration], pod.instance))
                entry.spec.pod_name.value = pod.name
        answer.pagination.CopyFrom(
            query_pb2.Pagination(offset=paging.offset, limit=paging.limit, total=len(rows))
        )
        return answer

    async def pods(self, job: str, bounds: tuple[int, int] | None) -> AsyncGenerator[stored.Pod, None]:
        """Those of the instances within `bounds`, in their order."""
        low, high = bounds or (0, _INSTANCES)
        where = (Condition("instance", ">=", low), Condition("instance", "<", high)) if bounds else ()
        query = Query(kinds.POD, parent=job, where=where, order=(Order("instance"),))
        async with aclosing(self._store.scan(query, at=await self._store.head())) as records:
            async for record in records:
                yield stored.Pod.FromString(record.body)

    async def progress(self, found: stored.Workflow, job: stored.Job) -> stateless.WorkflowStatus:
        """Of a workflow that another one followed."""
        status = workflow.status(found, job)
        about = [*found.added, *found.updated, *found.removed]
        total = sum(high - low for low, high in map(ranges.bounds, about))
        query = Query(kinds.STEP.name, where=(Condition("workflow", "=", found.name),))
        async with aclosing(self._store.scan(query)) as records:
            async for record in records:
                step = stored.Step.FromString(record.body)
                if step.backward == bool(found.rolled_back_at):
                    status.num_instances_completed += step.result == stored.Step.DONE
                    status.num_instances_failed += step.result == stored.Step.FAILED
        status.num_instances_remaining = max(
            0, total - status.num_instances_completed - status.num_instances_failed
        )
        return status

    async def _specs(self, job: str, versions: Iterable[int]) -> dict[int, stateless.JobSpec]:
        wanted = {names.configuration(job, version): version for version in versions}
        found = await self._store.get_many(kinds.CONFIGURATION, list(wanted)) if wanted else {}
        return {
            wanted[name]: stored.Configuration.FromString(record.body).spec for name, record in found.items()
        }

    async def _tests(self, wanted: stateless.QuerySpec) -> tuple[list[Test], list[Condition]]:
        """What a job must pass, and what the store asks for besides. Raises InvalidArgument."""
        tests: list[Test] = []
        conditions: list[Condition] = []
        states = set[int](wanted.job_states)
        _known_states(states, stateless.JobState, "spec.job_states")
        if states:
            conditions.append(Condition("state", "in", tuple(sorted(states))))
        for label in wanted.labels:
            tests.append(lambda job, label=label: _labelled(job, label))  # type: ignore[misc]  # bound early
        for word in wanted.keywords:
            folded = word.casefold()
            tests.append(lambda job, folded=folded: folded in _words(job))  # type: ignore[misc]
        if wanted.HasField("respool"):
            pool = await self._pool_of(wanted.respool.value)
            if pool is None or not wanted.respool.value.startswith("/"):
                raise InvalidArgument.at(
                    "spec.respool", f"{wanted.respool.value[:100]!r} is no path of a pool"
                )
            conditions.append(Condition("respool_id", "=", pool))
        if wanted.owner:
            tests.append(lambda job: wanted.owner in (job.owner, job.owning_team))
        if wanted.name:
            tests.append(lambda job: wanted.name in job.name)
        self._times(wanted, states, conditions)
        return tests, conditions

    def _times(self, wanted: stateless.QuerySpec, states: set[int], conditions: list[Condition]) -> None:
        given = False
        for field, index in (
            ("creation_time_range", "created_at"),
            ("completion_time_range", "completed_at"),
        ):
            if not wanted.HasField(field):
                continue
            given = True
            low, high = _bounds(getattr(wanted, field), f"spec.{field}")
            low = max(low, 1) if index == "completed_at" else low
            conditions += [Condition(index, ">=", low), Condition(index, "<", high)]
        if not given and states & machines.TERMINAL:
            since = self._clock() - _WINDOW
            conditions.append(Condition("created_at", ">=", since))


def _labelled(job: stored.Job, wanted: Any) -> bool:
    """An empty key asks for the value alone."""
    return any((not wanted.key or own.key == wanted.key) and own.value == wanted.value for own in job.labels)


def _words(job: stored.Job) -> str:
    labels = (text for label in job.labels for text in (label.key, label.value))
    return "\0".join((job.name, job.owner, job.owning_team, job.description, *labels)).casefold()


def _known_states(states: set[int], enum: Any, parameter: str) -> None:
    wrong = sorted(state for state in states if state not in enum.values() or not state)
    if wrong:
        raise InvalidArgument.at(parameter, f"{wrong[0]} is no state")


def _bounds(range_: TimeRange, parameter: str) -> tuple[int, int]:
    missing = [name for name in ("min", "max") if not range_.HasField(name)]
    if missing:
        raise InvalidArgument.of([Violation(f"{parameter}.{name}", "must be set") for name in missing])
    try:
        low, high = range_.min.ToNanoseconds(), range_.max.ToNanoseconds()
    except ValueError as error:
        raise InvalidArgument.at(parameter, str(error)) from error
    if high < low:
        raise InvalidArgument.at(f"{parameter}.max", "is before min")
    return low, high


def _ordering(
    given: Sequence[query_pb2.OrderBy], known: Mapping[str, T], parameter: str
) -> list[tuple[T, bool]]:
    """What each key stands for, and whether it descends. Raises InvalidArgument for an unknown property."""
    found: list[tuple[T, bool]] = []
    for index, entry in enumerate(given):
        name = entry.property.value
        if name not in known:
            raise InvalidArgument.at(
                f"{parameter}[{index}].property", f"{name[:100]!r} is none of {', '.join(sorted(known))}"
            )
        found.append((known[name], entry.order == query_pb2.OrderBy.ORDER_BY_DESC))
    return found


def _sorted(
    rows: list[T], order: list[tuple[Callable[[Any], Any], bool]], tie: Callable[[T], Any]
) -> list[T]:
    """By the first key first; ties by `tie`, ascending."""
    found = sorted(rows, key=tie)
    for value, descending in reversed(order):
        found.sort(key=value, reverse=descending)
    return found

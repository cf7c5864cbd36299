"""ListJobs, QueryJobs, ListPods and QueryPods (jobs contract, section 4)."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from shared.pb.peloton.api.v1alpha import peloton_pb2 as peloton
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.svc.pod_svc_pb2 import RestartPodRequest
from shared.pb.peloton.api.v1alpha.query import query_pb2
from tests.contract.jobs_yard import STARTING, Job, Yard, opened, span, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-lists")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ASC, DESC = query_pb2.OrderBy.ORDER_BY_ASC, query_pb2.OrderBy.ORDER_BY_DESC
DAY = 86_400
_marks = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


class Group:
    """Jobs that share a label, and queries among them."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.mark = f"group-{next(_marks)}"
        self.names: dict[str, str] = {}

    async def job(self, name: str, *, count: int = 0, command: str = "run", **fields: Any) -> Job:
        labels = {"group": self.mark, **fields.pop("labels", {})}
        await self.yard.advance(1)
        job = await self.yard.job(command, count, name=name, labels=labels, **fields)
        self.names[job.id] = name
        return job

    def spec(self, **fields: Any) -> stateless.QuerySpec:
        labels = [*fields.pop("labels", []), peloton.Label(key="group", value=self.mark)]
        return stateless.QuerySpec(labels=labels, **fields)

    async def ask(self, **fields: Any) -> pb.QueryJobsResponse:
        return await self.yard.call("QueryJobs", pb.QueryJobsRequest(spec=self.spec(**fields)))

    async def __call__(self, **fields: Any) -> list[str]:
        """The names that are found, in order."""
        return [self.names[found.job_id.value] for found in (await self.ask(**fields)).records]


def order(*keys: str) -> list[query_pb2.OrderBy]:
    """`-name` is descending."""
    return [
        query_pb2.OrderBy(order=DESC if key.startswith("-") else ASC, property={"value": key.lstrip("-")})
        for key in keys
    ]


def at(yard: Yard, seconds: float) -> Timestamp:
    found = Timestamp()
    found.FromNanoseconds(yard.engine.clock() + int(seconds * 1e9))
    return found


def times(yard: Yard, low: float, high: float) -> peloton.TimeRange:
    """From now."""
    return peloton.TimeRange(min=at(yard, low), max=at(yard, high))


# -- ListJobs


async def test_every_job_is_listed_in_batches(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with opened(tmp_path_factory.mktemp("own")) as yard:
        assert await yard.call("ListJobs", pb.ListJobsRequest()) == []
        jobs = [await yard.job(count=0, settle=False, owner="me") for _ in range(205)]
        found = await yard.call("ListJobs", pb.ListJobsRequest(), role="viewer")
        assert [len(batch.jobs) for batch in found] == [100, 100, 5]
        summaries = [job for batch in found for job in batch.jobs]
        assert sorted(job.job_id.value for job in summaries) == sorted(job.id for job in jobs)
        assert all(job.owner == "me" and job.respool_id.value == yard.pool for job in summaries)
        # Without a spec everything matches; the cap is 100, the page 10.
        unset = await yard.call("QueryJobs", pb.QueryJobsRequest())
        assert (len(unset.records), unset.pagination) == (10, query_pb2.Pagination(total=100))
        wide = stateless.QuerySpec(pagination=query_pb2.PaginationSpec(limit=150, max_limit=150))
        found = await yard.call("QueryJobs", pb.QueryJobsRequest(spec=wide))
        assert (len(found.records), found.pagination.total) == (150, 150)


async def test_metrics_count_jobs_and_pods_by_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with opened(tmp_path_factory.mktemp("own")) as yard:

        async def numbers(*names: str) -> list[str]:
            async with yard.http.get(f"{yard.service.url}/metrics") as answer:
                lines = dict(line.rsplit(" ", 1) for line in (await answer.text()).splitlines())
            return [lines[f"roundhouse_{name}"] for name in names]

        running, killed = 'pods{state="running"}', 'pods{state="killed"}'
        assert await numbers('jobs{state="running"}', running, "pod_launches_total") == ["0.0"] * 3
        job = await yard.job(count=3)
        assert await numbers('jobs{state="running"}', running, "pod_launches_total") == ["1.0", "3.0", "3.0"]
        await job.stop_pod(1)
        await job.until_pod(pod_pb2.POD_STATE_KILLED, 1)
        assert await numbers(running, killed, "jobs_writer") == ["2.0", "1.0", "1.0"]
        [passes] = await numbers("job_pass_seconds_count")
        assert float(passes) >= 3
        await job.delete()
        assert await numbers('jobs{state="running"}', running, killed) == ["0.0"] * 3


async def test_a_roll_out_that_is_stuck_is_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with opened(tmp_path_factory.mktemp("own")) as yard:

        async def stale() -> float:
            async with yard.http.get(f"{yard.service.url}/metrics") as answer:
                return float(
                    re.findall(r"^roundhouse_jobs_stale_workflows (.*)$", await answer.text(), re.M)[0]
                )

        job = await yard.job("slow start", 2, create_spec=stateless.CreateSpec(batch_size=1), settle=False)
        await job.until_flying(0, state=STARTING)
        begun = (await job.workflow()).status
        assert begun.creation_time == begun.update_time
        await yard.advance(30)
        # The next instance is taken: that is progress, though the state is the same.
        found = (await job.until_flying(1, state=STARTING)).status
        assert found.update_time > begun.update_time and found.state == begun.state
        await yard.advance(30)
        await job.until_over()
        pods = yard.spec(count=1)
        label = pods.default_spec.constraint.label_constraint
        pods.default_spec.constraint.type = pod_pb2.Constraint.CONSTRAINT_TYPE_LABEL
        label.kind = pod_pb2.LabelConstraint.LABEL_CONSTRAINT_KIND_HOST
        label.condition = pod_pb2.LabelConstraint.LABEL_CONSTRAINT_CONDITION_EQUAL
        label.label.key, label.requirement = "no-such-label", 1
        label.label.value = "x"
        waits = await yard.job(settle=False)
        await waits.replace(pods)
        await waits.until_pod(pod_pb2.POD_STATE_PENDING)
        await yard.advance(29 * 60)
        assert await stale() == 0
        await yard.advance(2 * 60)
        assert await stale() == 1
        await waits.pause()
        assert await stale() == 0


# -- QueryJobs


async def test_labels_match_by_key_and_value(yard: Yard) -> None:
    jobs = Group(yard)
    await jobs.job("one", labels={"a": "1", "b": "2"})
    await jobs.job("two", labels={"a": "2", "b": "1"})
    assert await jobs(labels=[peloton.Label(key="a", value="1")]) == ["one"]
    assert await jobs(labels=[peloton.Label(value="1")]) == ["two", "one"]
    assert await jobs(labels=[peloton.Label(key="a", value="1"), peloton.Label(key="b", value="1")]) == []
    assert await jobs(labels=[peloton.Label(key="a")]) == []


async def test_words_are_looked_for_everywhere(yard: Yard) -> None:
    jobs = Group(yard)
    await jobs.job("Alpha", owner="Ann", description="first of all")
    await jobs.job("beta", owning_team="alphabets", labels={"Word": "Value"})
    assert await jobs(keywords=["ALPHA"]) == ["beta", "Alpha"]
    assert await jobs(keywords=["alpha", "ann"]) == ["Alpha"]
    assert await jobs(keywords=["first OF"]) == ["Alpha"]
    assert await jobs(keywords=["word"]) == await jobs(keywords=["value"]) == ["beta"]
    assert await jobs(keywords=["alpha", "none"]) == []


async def test_states(yard: Yard) -> None:
    jobs = Group(yard)
    await jobs.job("waits")
    stopped = await jobs.job("stopped")
    await stopped.stop()
    await jobs.job("runs", count=1)
    assert await jobs(job_states=[stateless.JOB_STATE_PENDING]) == ["waits"]
    assert await jobs(job_states=[stateless.JOB_STATE_KILLED]) == ["stopped"]
    both = [stateless.JOB_STATE_KILLED, stateless.JOB_STATE_RUNNING]
    assert await jobs(job_states=both) == ["runs", "stopped"]
    for wrong in (0, 99):
        request = pb.QueryJobsRequest(spec=jobs.spec(job_states=[stateless.JOB_STATE_RUNNING, wrong]))
        await yard.fails(INVALID, "QueryJobs", request, "spec.job_states")


async def test_owner_team_and_name(yard: Yard) -> None:
    jobs = Group(yard)
    await jobs.job("web-front", owner="ann", owning_team="red")
    await jobs.job("web-back", owner="bob", owning_team="ann")
    assert await jobs(owner="ann") == ["web-back", "web-front"]
    assert await jobs(owner="Ann") == await jobs(owner="an") == []
    assert await jobs(owner="red") == ["web-front"]
    assert await jobs(name="web") == ["web-back", "web-front"]
    assert await jobs(name="front") == ["web-front"]
    assert await jobs(name="Web") == []
    [summary] = (await jobs.ask(name="front")).records
    assert (summary.owner, summary.owning_team) == ("ann", "red")


async def test_pools_by_path(yard: Yard) -> None:
    jobs = Group(yard)
    await jobs.job("one")
    await yard.apply(resource_pools=[{"path": "/other"}])
    assert await jobs(respool={"value": "/DefaultResPool"}) == ["one"]
    assert await jobs(respool={"value": "/other"}) == []
    for path in ("", "DefaultResPool", "/unknown", "/other/", yard.pool):
        request = pb.QueryJobsRequest(spec=jobs.spec(respool={"value": path}))
        await yard.fails(INVALID, "QueryJobs", request, "spec.respool")


async def test_times_are_half_open(yard: Yard) -> None:
    jobs = Group(yard)
    job = await jobs.job("one")
    now = times(yard, 0, 10)
    created = Timestamp()
    created.FromJsonString((await job.status()).creation_time)
    assert created == now.min
    assert await jobs(creation_time_range=now) == ["one"]
    assert await jobs(creation_time_range=times(yard, -10, 0)) == []
    assert await jobs(creation_time_range=times(yard, 0, 0)) == []
    assert await jobs(completion_time_range=times(yard, -100, 100)) == []
    await yard.advance(5)
    await job.stop()
    assert await jobs(completion_time_range=times(yard, 0, 1)) == ["one"]
    assert await jobs(completion_time_range=times(yard, -5, 0)) == []
    assert await jobs(completion_time_range=times(yard, -5, 1), creation_time_range=now) == ["one"]
    await job.start()
    assert await jobs(completion_time_range=times(yard, -100, 100)) == []


@pytest.mark.parametrize("name", ["creation_time_range", "completion_time_range"])
async def test_times_that_are_wrong(yard: Yard, name: str) -> None:
    for wrong, field in (
        (peloton.TimeRange(min=at(yard, 0)), f"spec.{name}.max"),
        (peloton.TimeRange(max=at(yard, 0)), f"spec.{name}.min"),
        (peloton.TimeRange(), f"spec.{name}.min"),
        (times(yard, 1, 0), f"spec.{name}.max"),
    ):
        request = pb.QueryJobsRequest(spec=stateless.QuerySpec(**{name: wrong}))
        await yard.fails(INVALID, "QueryJobs", request, field)


async def test_ended_jobs_are_looked_for_among_those_of_a_week(yard: Yard) -> None:
    jobs = Group(yard)
    job = await jobs.job("old")
    await job.stop()
    killed = [stateless.JOB_STATE_KILLED]
    await yard.advance(7 * DAY + 29)
    assert await jobs(job_states=killed) == ["old"]
    await yard.advance(2)
    assert await jobs(job_states=killed) == []
    assert await jobs(job_states=[stateless.JOB_STATE_PENDING]) == []
    assert await jobs() == ["old"]
    assert await jobs(job_states=killed, creation_time_range=times(yard, -8 * DAY, 0)) == ["old"]


async def test_orders(yard: Yard) -> None:
    jobs = Group(yard)
    b = await jobs.job("b", owner="x", count=2)
    await jobs.job("a", owner="y", count=1)
    await jobs.job("c", owner="x", count=3)
    await yard.advance(1)
    await b.stop()

    async def by(*keys: str) -> list[str]:
        return await jobs(pagination=query_pb2.PaginationSpec(order_by=order(*keys)))

    assert await jobs() == ["c", "a", "b"]
    assert await by("creation_time") == ["b", "a", "c"]
    assert await by("-creation_time") == ["c", "a", "b"]
    assert await by("name") == ["a", "b", "c"]
    assert await by("-owner", "name") == ["a", "b", "c"]
    assert await by("owner", "-name") == ["c", "b", "a"]
    assert await by("instance_count") == ["a", "b", "c"]
    assert await by("state", "-name") == ["c", "a", "b"]
    assert await by("-completion_time", "name") == ["b", "a", "c"]
    assert await by("-update_time") == ["b", "c", "a"]
    assert await by("start_time") == ["b", "a", "c"]
    ties = await by("respool_id")
    assert ties == [jobs.names[id] for id in sorted(jobs.names)]
    zero = query_pb2.OrderBy(property={"value": "name"})
    assert await jobs(pagination=query_pb2.PaginationSpec(order_by=[zero])) == ["a", "b", "c"]
    for wrong in ("", "nam", "id", "Name"):
        request = pb.QueryJobsRequest(spec={"pagination": {"order_by": order("name", wrong)}})
        await yard.fails(INVALID, "QueryJobs", request, "spec.pagination.order_by[1].property")


async def test_pages_of_jobs(yard: Yard) -> None:
    jobs = Group(yard)
    for number in range(12):
        await jobs.job(f"{number:02}")

    async def page(**fields: Any) -> tuple[list[str], int]:
        paging = query_pb2.PaginationSpec(order_by=order("name"), **fields)
        found = await jobs.ask(pagination=paging)
        assert found.spec == jobs.spec(pagination=paging)
        assert (found.pagination.offset, found.pagination.limit) == (paging.offset, paging.limit)
        return [jobs.names[one.job_id.value] for one in found.records], found.pagination.total

    names = [f"{number:02}" for number in range(12)]
    assert await page() == (names[:10], 12)
    assert await page(offset=10) == (names[10:], 12)
    assert await page(limit=5, offset=4) == (names[4:9], 12)
    assert await page(offset=12) == ([], 12)
    assert await page(offset=4_000_000_000) == ([], 12)
    assert await page(limit=4_000_000_000) == (names, 12)
    assert await page(max_limit=7) == (names[:7], 7)
    assert await page(max_limit=7, offset=5) == (names[5:7], 7)
    newest = await jobs(pagination=query_pb2.PaginationSpec(limit=3, max_limit=5, offset=1))
    assert newest == ["10", "09", "08"]


# -- ListPods


async def test_pods_in_the_order_of_their_instances_in_batches(yard: Yard) -> None:
    job = await yard.job(count=150)
    found = await yard.call("ListPods", job.ask(pb.ListPodsRequest), role="viewer")
    assert [len(batch.pods) for batch in found] == [100, 50]
    pods = [pod for batch in found for pod in batch.pods]
    assert [pod.pod_name.value for pod in pods] == [job.pod_name(i) for i in range(150)]
    assert all(pod.status.state == pod_pb2.POD_STATE_RUNNING for pod in pods)

    async def within(begin: int, end: int) -> list[str]:
        request = job.ask(pb.ListPodsRequest, range=span(begin, end))
        found = await yard.call("ListPods", request)
        return [pod.pod_name.value for batch in found for pod in batch.pods]

    assert await within(2, 4) == [job.pod_name(2), job.pod_name(3)]
    assert await within(149, 500) == [job.pod_name(149)]
    assert await within(3, 3) == await within(5, 2) == await within(0, 0) == []
    empty = await yard.job(count=0)
    assert await yard.call("ListPods", empty.ask(pb.ListPodsRequest)) == []


# -- QueryPods


async def test_queries_of_pods(yard: Yard) -> None:
    job = await yard.job(count=12)
    await job.stop_pod(3)
    await job.until_pod(pod_pb2.POD_STATE_KILLED, 3)

    async def ask(**fields: Any) -> pb.QueryPodsResponse:
        return await yard.call("QueryPods", job.ask(pb.QueryPodsRequest, **fields))

    async def instances(**spec: Any) -> list[int]:
        found = await ask(spec=pod_pb2.QuerySpec(**spec))
        return [int(pod.status.pod_id.value.split("-")[-2]) for pod in found.pods]

    assert await instances() == list(range(10))
    running, killed = pod_pb2.POD_STATE_RUNNING, pod_pb2.POD_STATE_KILLED
    assert await instances(pod_states=[killed]) == [3]
    assert len(await instances(pod_states=[killed, running], pagination={"limit": 50})) == 12
    assert await instances(names=[{"value": job.pod_name(11)}, {"value": job.pod_name(3)}]) == [3, 11]
    assert await instances(names=[{"value": job.pod_name(3)}], pod_states=[running]) == []
    assert await instances(names=[{"value": "main"}]) == []
    [host] = {pod.host for pod in (await job.pods()).values()}
    assert len(await instances(hosts=[host, "other"], pagination={"limit": 50})) == 12
    assert await instances(hosts=["other"]) == []
    for wrong in (0, 99):
        request = job.ask(pb.QueryPodsRequest, spec={"pod_states": [wrong]})
        await yard.fails(INVALID, "QueryPods", request, "spec.pod_states")
    whole = await ask(pagination={"limit": 1})
    assert whole.pods[0].spec.pod_name.value == job.pod_name(0)
    assert whole.pods[0].spec.containers[0].entrypoint.value == "run"
    assert not (await ask(summary_only=True)).pods[0].HasField("spec")


async def test_the_requests_pages_win_over_the_specs(yard: Yard) -> None:
    job = await yard.job(count=12)

    async def page(**fields: Any) -> tuple[int, query_pb2.Pagination]:
        found = await yard.call("QueryPods", job.ask(pb.QueryPodsRequest, **fields))
        return len(found.pods), found.pagination

    assert await page() == (10, query_pb2.Pagination(total=12))
    assert await page(pagination={"limit": 5, "offset": 10}) == (
        2,
        query_pb2.Pagination(limit=5, offset=10, total=12),
    )
    inner = {"pagination": {"limit": 3}}
    assert await page(spec=inner) == (3, query_pb2.Pagination(limit=3, total=12))
    assert (await page(spec=inner, pagination={"limit": 4}))[0] == 4
    assert await page(pagination={"offset": 99}) == (0, query_pb2.Pagination(offset=99, total=12))


async def test_orders_of_pods(yard: Yard) -> None:
    job = await yard.job(count=3)
    await yard.advance(5)
    await job.about_pod("RestartPod", RestartPodRequest, 0)
    await job.until_pod(pod_pb2.POD_STATE_RUNNING, 0, 2)
    await job.replace(yard.spec(count=4, resource=None))
    await job.until_over()
    huge = yard.spec(count=5)
    huge.instance_spec[4].containers.add().resource.cpu_limit = 1e9
    await job.replace(huge)
    await until(job.pods, lambda found: 4 in found and found[4].message)

    async def by(*keys: str, outer: bool = False) -> list[int]:
        paging = query_pb2.PaginationSpec(order_by=order(*keys))
        fields: dict[str, Any] = {"pagination": paging} if outer else {"spec": {"pagination": paging}}
        found = await yard.call("QueryPods", job.ask(pb.QueryPodsRequest, **fields))
        return [int(pod.status.pod_id.value.split("-")[-2]) for pod in found.pods]

    assert await by("creation_time") == [1, 2, 0, 3, 4]
    assert await by("-instanceId", outer=True) == [4, 3, 2, 1, 0]
    assert await by("state", "-instanceId") == [4, 3, 2, 1, 0]
    assert await by("-message", "name") == [4, 0, 1, 2, 3]
    assert await by("reason") == [0, 1, 2, 3, 4]
    assert await by("host") == [4, 0, 1, 2, 3]
    assert await by("name") == [0, 1, 2, 3, 4]
    for wrong in ("", "instance_id", "podId"):
        request = job.ask(pb.QueryPodsRequest, pagination={"order_by": order(wrong)})
        await yard.fails(INVALID, "QueryPods", request, "pagination.order_by[0].property")
        request = job.ask(pb.QueryPodsRequest, spec={"pagination": {"order_by": order(wrong)}})
        await yard.fails(INVALID, "QueryPods", request, "spec.pagination.order_by[0].property")
    await job.delete()

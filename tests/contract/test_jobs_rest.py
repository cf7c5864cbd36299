"""Every route of the jobs service, its JSON and its errors."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from services.jobs.api import rest
from tests.contract.jobs_yard import JOB_RUNNING, Job, Yard, opened, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jobs-rest")]
JOBS = "/v1alpha/jobs"
TABLES = (rest.JOBS, rest.PODS, rest.LOGS, rest.WATCHES, rest.POOLS)
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


def spec(yard: Yard, command: str = "run", count: int = 2, **fields: Any) -> dict[str, Any]:
    container = {"name": "main", "entrypoint": {"value": command}}
    return {
        "instanceCount": count,
        "respoolId": {"value": yard.pool},
        "defaultSpec": {"containers": [container]},
        **fields,
    }


async def test_every_rpc_has_a_route(yard: Yard) -> None:
    for api, table in zip(yard.service.running.apis, TABLES, strict=False):
        assert {method.name for method in api.methods} == set(table), api.title
        assert all(method.rules for method in api.methods)


async def test_a_jobs_life(yard: Yard) -> None:
    created = (await yard.rest("POST", JOBS, {"spec": spec(yard, name="web")})).ok
    id = created["jobId"]["value"]
    assert created["version"] == {"value": "1-1-1"}
    path = f"{JOBS}/{id}"
    job = Job(yard, id, "1-1-1")
    await job.until_over()

    found = (await yard.rest("GET", path)).ok
    assert found["jobInfo"]["spec"]["defaultSpec"]["containers"][0]["entrypoint"] == {"value": "run"}
    assert found["jobInfo"]["status"]["state"] == "JOB_STATE_RUNNING"
    assert found["workflowInfo"]["status"]["state"] == "WORKFLOW_STATE_SUCCEEDED"
    summary = (await yard.rest("GET", path, summaryOnly="true")).ok
    assert set(summary) == {"summary"}
    old = (await yard.rest("GET", path, **{"version.value": "1-0-0"})).ok
    assert set(old["jobInfo"]) == {"jobId", "spec"}
    assert (await yard.rest("GET", f"{path}/cache")).ok["status"]["podStats"]["POD_STATE_RUNNING"] == 2

    wanted = spec(yard, "run2", 3)
    diff = (await yard.rest("POST", f"{path}:diff", {"version": {"value": "1-1-1"}, "spec": wanted})).ok
    assert diff == {"instancesAdded": [{"from": 2, "to": 3}], "instancesUpdated": [{"to": 2}]}
    body = {"version": {"value": "1-1-1"}, "spec": wanted, "updateSpec": {"batchSize": 2}}
    assert (await yard.rest("PUT", path, body)).ok == {"version": {"value": "2-1-2"}}
    await job.until_over()
    body = {"version": {"value": "2-1-2"}, "spec": {"owner": "me"}}
    assert (await yard.rest("PATCH", path, body)).ok == {"version": {"value": "3-1-3"}}
    await job.until_over()

    version = "3-1-3"
    for verb, expected in (
        ("pause", "3-1-4"),
        ("resume", "3-1-5"),
        ("abort", "3-1-6"),
        ("restart", "4-1-7"),
        ("stop", "4-2-7"),
        ("start", "4-3-7"),
    ):
        if verb == "stop":
            await job.until_over()
        answer = await yard.rest("POST", f"{path}:{verb}", {"version": {"value": version}})
        version = answer.ok["version"]["value"]
        assert version == expected
    assert (await yard.rest("POST", f"{path}:refresh")).ok == {}
    await job.until_state(JOB_RUNNING)

    workflows = (await yard.rest("GET", f"{path}/workflows", instanceEvents="true", updatesLimit=2)).ok
    assert len(workflows["workflowInfos"]) == 2
    assert workflows["workflowInfos"][0]["instanceEvents"][0]["events"]
    events = (await yard.rest("GET", f"{path}/workflowEvents", instanceId=1)).ok
    assert events["events"][0]["state"] == "WORKFLOW_STATE_SUCCEEDED"

    stale = await yard.rest("DELETE", path, **{"version.value": "1-1-1"})
    stale.is_error(409, grpc.StatusCode.ABORTED, "unexpected entity version")
    assert (await yard.rest("DELETE", path, force="true", **{"version.value": version})).ok == {}
    await job.until_gone()
    (await yard.rest("GET", path)).is_error(404, NOT_FOUND, id)


async def test_lists_and_queries(yard: Yard) -> None:
    job = await yard.job(count=3, name="listed", labels={"a": "b"})
    [batch] = (await yard.rest("GET", JOBS, role="viewer")).ok
    assert job.id in [one["jobId"]["value"] for one in batch["result"]["jobs"]]
    query = {"spec": {"labels": [{"key": "a", "value": "b"}], "pagination": {"limit": 5}}}
    found = (await yard.rest("POST", f"{JOBS}:query", query, role="viewer")).ok
    assert [one["jobId"]["value"] for one in found["records"]] == [job.id]
    assert found["pagination"] == {"limit": 5, "total": 1}
    found = (await yard.rest("GET", f"{JOBS}:query", **{"spec.name": "listed"})).ok
    assert [one["name"] for one in found["records"]] == ["listed"]
    assert (await yard.rest("GET", f"{JOBS}:lookup", jobName="listed")).ok == {"jobId": [{"value": job.id}]}
    [batch] = (await yard.rest("GET", f"{JOBS}/{job.id}/pods", **{"range.from": 1, "range.to": 9})).ok
    assert len(batch["result"]["pods"]) == 2
    found = (await yard.rest("GET", f"{JOBS}/{job.id}/pods:query", summaryOnly="true")).ok
    assert found["pagination"] == {"total": 3} and "spec" not in found["pods"][0]
    body = {"pagination": {"limit": 1}, "spec": {"podStates": ["POD_STATE_RUNNING"]}}
    found = (await yard.rest("POST", f"{JOBS}/{job.id}/pods:query", body)).ok
    assert len(found["pods"]) == 1


async def test_pods(yard: Yard) -> None:
    job = await yard.job(count=1)
    path = f"/v1alpha/pods/{job.pod_name()}"
    found = (await yard.rest("GET", path, limit=1)).ok
    assert found["current"]["status"]["podId"]["value"] == job.pod_id()
    assert (await yard.rest("GET", f"{path}/sandbox")).ok["paths"] == ["stderr", "stdout"]
    assert (await yard.rest("GET", f"{path}/cache")).ok["status"]["state"] == "POD_STATE_RUNNING"
    assert len((await yard.rest("GET", f"{path}/events")).ok["events"]) == 4
    gone = await yard.rest("DELETE", f"{path}/events", **{"podId.value": job.pod_id()})
    assert gone.ok == {} and (await yard.rest("GET", f"{path}/events")).ok == {}
    for verb in ("stop", "start", "restart", "refresh"):
        body = {"checkSla": True} if verb == "restart" else None
        assert (await yard.rest("POST", f"{path}:{verb}", body)).ok == {}
    await until(job.runs, lambda found: found[0] >= 2)


async def test_pools(yard: Yard) -> None:
    found = (await yard.rest("GET", "/v1alpha/resourcePools", role="viewer")).ok["respools"]
    assert [pool["path"]["value"] for pool in found][:2] == ["/", "/DefaultResPool"]
    path = f"/v1alpha/resourcePools/{yard.pool}"
    assert (await yard.rest("GET", path)).ok["respool"]["respoolId"]["value"] == yard.pool
    root = (await yard.rest("GET", "/v1alpha/resourcePools/root", includeChildPools="true")).ok
    assert root["childRespools"][0]["parent"] == {"value": "root"}
    lookup = await yard.rest("GET", "/v1alpha/resourcePools:lookup", **{"path.value": "/DefaultResPool"})
    assert lookup.ok == {"respoolId": {"value": yard.pool}}


async def test_errors_are_those_of_googles_apis(yard: Yard) -> None:
    answer = await yard.rest("POST", JOBS, {"spec": {**spec(yard), "sla": {"revocable": True}}})
    answer.is_error(400, grpc.StatusCode.INVALID_ARGUMENT, "spec.sla.revocable")
    [bad, info] = answer.body["details"]
    assert bad["fieldViolations"][0]["field"] == "spec.sla.revocable"
    assert info["reason"] == "INVALID_ARGUMENT"
    two = spec(yard)
    two["defaultSpec"]["containers"] *= 2
    answer = await yard.rest("POST", JOBS, {"spec": two})
    answer.is_error(501, grpc.StatusCode.UNIMPLEMENTED, "containers")
    taken = {"jobId": {"value": str(uuid.uuid4())}, "spec": spec(yard)}
    assert (await yard.rest("POST", JOBS, taken)).status == 200
    (await yard.rest("POST", JOBS, taken)).is_error(409, grpc.StatusCode.ALREADY_EXISTS)
    (await yard.rest("GET", f"{JOBS}/x/nothing")).is_error(404, NOT_FOUND)
    assert (await yard.rest("PATCH", JOBS, {})).status == 405


async def test_ids_in_paths_are_escaped_once(yard: Yard) -> None:
    (await yard.rest("GET", f"{JOBS}/a%2Fb")).is_error(404, NOT_FOUND, "a/b")
    (await yard.rest("GET", f"{JOBS}/%ff")).is_error(400, grpc.StatusCode.INVALID_ARGUMENT, "job_id.value")


async def test_the_documentation_has_every_route(yard: Yard) -> None:
    page = (Path(__file__).parents[2] / "docs/apis/jobs.md").read_text()
    rows = dict(
        re.findall(r"^\| `(\w+)`(?: \(stream\))? \| (`(?:GET|POST|PUT|PATCH|DELETE) .*) \|$", page, re.M)
    )
    served = {
        name: ", ".join(f"`{rule.verb} {rule.path}`" for rule in rules)
        for table in TABLES
        for name, rules in table.items()
    }
    assert rows == served

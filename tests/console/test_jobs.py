"""Jobs: the list as its address says it, one job with its roll-outs, versions and history, pools, home."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from services.jobs.api.pools import id_of
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from tests.console.jobs import Works, hidden, works_in
from tests.console.test_live import DEADLINE, Stream, open_stream
from tests.contract.jobs_yard import Job, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("console-jobs")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def works(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Works]:
    async with works_in(tmp_path_factory.mktemp("works")) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def several(works: Works) -> dict[str, Job]:
    """In the order in which they were made. No other test's jobs have the team `list`."""
    yard, made = works.yard, {}
    for name, command, count, owner, labels in (
        ("web", "run", 3, "ann", {"env": "prod"}),
        ("Batch", "run", 1, "bob", {}),
        ("idle", "run", 2, "ann", {"env": "dev"}),
        ("slow", "slow start", 40, "eve", {}),
    ):
        made[name] = await yard.job(
            command, count, name=name, owner=owner, owning_team="list", labels=labels, settle=name != "slow"
        )
        await yard.advance(1)
    await made["idle"].stop()
    return made


async def part(stream: Stream, name: str, says: str) -> str:
    async with asyncio.timeout(DEADLINE):
        while True:
            parts = await stream.until("parts")
            if says in parts.get(name, ""):
                return str(parts[name])


# --- the list -----------------------------------------------------------------------------------


async def test_where_there_is_nothing_the_page_says_how_to_begin(tmp_path: Path):
    async with works_in(tmp_path) as works:
        page = await works.console.get("/jobs")
    assert "No jobs yet" in page.words
    assert page.dom.link("New job") == "/jobs/-/new"
    assert (
        "curl -X POST" in page.words
        and "/v1alpha/jobs" in page.words
        and "roundhouse watch job" in page.words
    )


async def test_a_row_says_state_pods_owner_labels_and_what_goes_on(works: Works, several: dict[str, Job]):
    page = await works.console.get("/jobs?owner=list")
    assert page.rows() == ["slow", "idle", "Batch", "web"]
    assert "3 running" in page.words and "2 stopped" in page.words
    assert "Creation: rolling out 0 of 40" in page.words
    # In words, not by colour alone; and a label leads to all that have it.
    assert 'aria-label="Instances: 3 running"' in page.text
    assert (await works.console.get(page.dom.link("envprod"))).rows() == ["web"]


@pytest.mark.parametrize(
    "query,names",
    [
        ({"q": "WEB"}, ["web"]),
        ({"q": "batch"}, ["Batch"]),
        ({"q": "prod"}, ["web"]),
        ({"q": "list ann"}, ["idle", "web"]),
        ({"q": "100%_"}, []),
        ({"owner": "ann"}, ["idle", "web"]),
        ({"owner": "list", "state": "stopped"}, ["idle"]),
        ({"owner": "list", "workflow": "going"}, ["slow"]),
        ({"label": "env=dev"}, ["idle"]),
        ({"owner": "list", "order_by": "name asc"}, ["Batch", "idle", "slow", "web"]),
        ({"owner": "list", "order_by": "instance_count desc"}, ["slow", "web", "idle", "Batch"]),
        ({"filter": 'owning_team = "list" AND instance_count > 2 -- large'}, ["slow", "web"]),
        ({"filter": 'instance_count = 2 OR instance_count = 3', "owner": "ann"}, ["idle", "web"]),
        ({"filter": "pod_stats.POD_STATE_KILLED > 0", "owner": "list"}, ["idle"]),
        ({"pool": "nowhere"}, []),
    ],
)  # fmt: skip
async def test_the_address_says_what_the_list_shows(
    works: Works, several: dict[str, Job], query: dict[str, str], names: list[str]
):
    page = await works.console.get(f"/jobs?{urlencode(query)}")
    assert page.status == 200 and page.rows() == names
    if not names:
        assert "Nothing matches" in page.words


async def test_pages_lead_on_and_back(works: Works, several: dict[str, Job]):
    for number in range(12):
        await works.yard.job("run", 0, name=f"many-{number:02}", owner="pages", settle=False)
    first = await works.console.get("/jobs?owner=pages&page_size=10&order_by=name+asc")
    assert len(first.rows()) == 10 and "1–10 of 12" in first.words
    second = await works.console.get(first.dom.link("Next page"))
    assert second.rows() == ["many-10", "many-11"]
    assert (await works.console.get(second.dom.link("Previous page"))).rows() == first.rows()
    # A place that is gone leads to the first page.
    lost = await works.console.get("/jobs?owner=pages&page_token=nonsense")
    assert lost.url == "/jobs?owner=pages" and "no longer there" in lost.words


async def test_a_wrong_expression_is_told_with_a_caret_and_stays(works: Works, several: dict[str, Job]):
    page = await works.console.get(
        f"/jobs?{urlencode({'filter': 'name = ', 'q': 'web', 'state': 'running'})}"
    )
    assert page.status == 400
    [box] = page.elements_with_error()
    assert box.attrs["name"] == "filter" and box.text.strip() == "name ="
    assert "a value is expected" in page.words and "^" in page.text
    unknown = await works.console.get(f"/jobs?{urlencode({'filter': 'nmae = 1'})}")
    assert "nmae" in unknown.words and unknown.status == 400
    # An order that there is not is left out.
    page = await works.console.get("/jobs?owner=list&order_by=colour")
    assert page.url == "/jobs?owner=list" and "cannot be sorted" in page.words


async def test_an_open_list_follows(works: Works):
    async with open_stream(works.console, "/jobs/-/live?owner=live") as stream:
        assert (await stream.until("rows"))["order"] == []
        await stream.live()
        job = await works.yard.job("run", 2, name="comes", owner="live")
        async with asyncio.timeout(DEADLINE):
            while "2</span> running" not in str((await stream.until("rows"))["rows"].get(job.id)):
                pass
        await job.stop()
        async with asyncio.timeout(DEADLINE):
            while "Stopped" not in str((await stream.until("rows"))["rows"].get(job.id)):
                pass
        await job.delete()
        async with asyncio.timeout(DEADLINE):
            while (await stream.until("rows"))["order"]:
                pass


# --- one job ------------------------------------------------------------------------------------


async def rolled(works: Works, name: str) -> Job:
    """In the middle of an update from 2 to 4 instances: 2 are in flight, 2 remain."""
    job = await works.yard.job("run", 2, name=name, owner="ann")
    wanted = works.yard.spec("slow start", 4, name=name, owner="bob")
    await job.replace(wanted, batch_size=2, max_instance_retries=3, max_tolerable_instance_failures=1)
    await job.until_flying(2, 3)
    return job


async def test_a_roll_out_says_how_far_it_is_and_by_which_rules(works: Works):
    job = await rolled(works, "halfway")
    page = await works.get(job)
    assert "Update 1 → configuration 2 Rolling out" in page.words
    assert "2 in flight 2 remaining" in page.words and "0 %" in page.words
    assert "2 at a time, an instance fails after 3 failures, fails with 1 failed instance" in page.words
    assert "Added 2 instances 2–3 Updated 2 instances 0–1" in page.words
    assert f"/jobs/{job.id}/pods/2" in page.text
    assert re.search(r"Rolling out · (just now|in |\d+ s ago)", page.words)
    assert "2-1-2" in page.words and "4 instances, running" in page.words


async def test_an_open_page_follows_pauses_and_the_end(works: Works):
    job = await rolled(works, "watched")
    async with open_stream(works.console, f"/jobs/{job.id}/live") as stream:
        await part(stream, "rollout", "Rolling out")
        await stream.live()
        paused = await works.post(job, "/pause", {"version": job.version})
        assert "Paused." in paused.words
        assert "Resume" in await part(stream, "rollout", "Paused")
        job.version = hidden(paused)["version"]
        await works.post(job, "/resume", {"version": job.version})
        await part(stream, "rollout", "Rolling out")
        await job.until_over(passing=31)
        told = await part(stream, "rollout", "Succeeded")
        assert "100 %" in told and "Pause" not in told


async def test_a_failed_roll_out_says_why_and_names_the_pods(works: Works):
    job = await works.yard.job("run", 3, name="breaks")
    how = {"batch_size": 1, "max_instance_retries": 2, "max_tolerable_instance_failures": 1}
    await job.replace(works.yard.spec("crash at once", 3, name="breaks"), **how)
    await job.until_over(stateless.WORKFLOW_STATE_FAILED, passing=31)
    await job.until_pod(pod_pb2.POD_STATE_FAILED)
    page = await works.get(job)
    assert "1 instance failed 2 times; 1 stops it." in page.words
    assert "1 pod failed and will run again" in page.words and "exit 3" in page.words
    home = await works.console.get("/jobs?workflow=failed")
    assert "breaks" in home.rows()
    # Back again: the version before, previewed first.
    versions = await works.get(job, "/versions")
    back = await works.console.get(versions.dom.link("Go back to it"))
    assert "This is configuration 1" in back.words and "value: run" in back.text


async def test_a_roll_back_says_what_became_of_it(works: Works):
    job = await works.yard.job("run", 2, name="turns")
    how = {"max_instance_retries": 1, "max_tolerable_instance_failures": 1, "rollback_on_failure": True}
    await job.replace(works.yard.spec("crash at once", 2, name="turns"), batch_size=1, **how)
    await job.until_over(stateless.WORKFLOW_STATE_ROLLED_BACK, passing=31)
    page = await works.get(job)
    assert "Rolled back" in page.words and "so it was turned back" in page.words
    page = await works.get(job, "/workflows")
    assert "Update 1 → 3 Rolled back" in page.words and "Creation configuration 1 Succeeded" in page.words
    assert "4 events" in page.words


async def test_versions_are_compared_two_by_two(works: Works):
    job = await works.yard.job("run", 1, name="grows", labels={"a": "1"})
    for count in (2, 3):
        await job.replace(works.yard.spec("run", count, name="grows"))
        await job.until_over()
    page = await works.get(job, "/versions")
    assert (
        "From configuration 2 to 3" in page.words and "− instance_count: 2 + instance_count: 3" in page.words
    )
    page = await works.get(job, "/versions?from=1&to=3")
    assert "− - key: a" in page.words and "− instance_count: 1" in page.words
    assert "They say the same" not in page.words
    # What there is not is the default.
    assert "From configuration 2 to 3" in (await works.get(job, "/versions?from=99&to=x")).words


async def test_the_history_is_what_people_did_and_what_became_of_it(works: Works):
    job = await works.yard.job("run", 2, name="told")
    await job.replace(works.yard.spec("run2", 3, name="told"))
    await job.until_over()
    await job.stop()
    words = (await works.get(job, "/history")).words
    order = ["Job stopped", "Stopped by operator", "Replaced by operator", "Created by operator"]
    assert [words.index(text) for text in order] == sorted(words.index(text) for text in order)
    assert "instance_count 2 3 configuration 1 2" in words
    # Steps of single pods say nothing to people.
    assert "pod_stats" not in words and "instances_current" not in words
    await job.delete()
    gone = await works.get(job)
    assert gone.status == 404 and "This job was deleted" in gone.words and "Deletion asked for" in gone.words
    assert (await works.console.get("/jobs/6b1cbf86-75ea-4c96-8ee4-000000000000")).status == 404
    assert (await works.console.get('/jobs/"')).status == 404


async def test_what_people_did_is_found_among_the_steps_of_many_pods(works: Works):
    job = await works.yard.job("run", 30, name="stepwise")
    await job.replace(works.yard.spec("run2", 30, name="stepwise", owner="eve"), batch_size=1)
    await job.until_over()
    for page in ("", "/history"):
        words = (await works.get(job, page)).words
        assert "Workflow succeeded" in words and "Replaced by operator" in words
        assert "Created by operator" in words
    async with open_stream(works.console, f"/jobs/{job.id}/history/live") as stream:
        await part(stream, "timeline", "Created")
        await stream.live()
        await job.stop()
        told = await part(stream, "timeline", "Job stopped")
        assert told.index("Job stopped") < told.index("Stopped</strong> by") < told.index("Created")


async def test_raw_downloads_and_commands(works: Works):
    job = await works.yard.job("run", 1, name="plain text")
    assert "job_info:" in (await works.get(job, "/raw")).words
    assert '"job_info"' in (await works.get(job, "/raw?format=json")).words
    spec = await works.get(job, "/download.yaml?what=spec")
    assert spec.text.startswith("name: plain text") and "revision" not in spec.text
    assert 'filename="plain-text.yaml"' in spec.headers["Content-Disposition"]
    assert (await works.get(job, "/download.xml")).status == 404
    words = (await works.get(job, "/commands")).words
    for command in ("curl", "grpcurl", f"roundhouse get job {job.id}", '"version": {"value": "1-1-1"}'):
        assert command in words


# --- pools and home -----------------------------------------------------------------------------


async def test_pools_show_limits_use_and_what_waits(works: Works):
    limits = [{"kind": "cpu", "limit": 4}, {"kind": "memory", "limit": 1024}]
    pool = {"path": "/small", "spec": {"description": "Narrow", "resources": limits}}
    await works.yard.apply(resource_pools=[pool])

    async def known() -> bool:
        return id_of("/small") in works.yard.controller.admission.pools

    await until(known, bool)
    job = await works.yard.job(
        "run", 3, name="wide", pool=id_of("/small"), resource={"cpu_limit": 2}, settle=False
    )
    await job.until_flying(2)
    page = await works.console.get("/pools")
    [row] = [row for row in page.dom.find("tr") if "/small" in row.text]
    told = " ".join(row.text.split())
    assert "Narrow" in told and "4 of 4" in told and "Full" in told and "1 pod" in told
    assert "0 of 1 024 MiB" in told
    assert (await works.console.get(f"/jobs?pool={id_of('/small')}")).rows() == ["wide"]
    # The job says why, and leads there.
    page = await works.get(job)
    assert "1 pod waits" in page.words and "Pool /small has not enough cpu left" in page.words
    async with open_stream(works.console, "/pools/-/live") as stream:
        await stream.until("rows")
        await stream.live()
        await job.stop()
        async with asyncio.timeout(DEADLINE):
            while ">0 of 4 <" not in str((await stream.until("rows"))["rows"].get(id_of("/small"))):
                pass


async def test_home_says_how_many_there_are_and_which_need_somebody(tmp_path: Path):
    async with works_in(tmp_path, role="admin") as works:

        async def home() -> str:
            return (await works.console.get("/")).words

        # A panel whose service is slow says so, until it answers.
        await until(home, lambda words: "No jobs yet. Make the first" in words)
        job = await works.yard.job("run", 2, name="broken")
        how = {"max_instance_retries": 1, "max_tolerable_instance_failures": 1}
        await job.replace(works.yard.spec("crash at once", 2, name="broken"), batch_size=1, **how)
        await job.until_over(stateless.WORKFLOW_STATE_FAILED, passing=31)
        huge = await works.yard.job("run", 3, name="huge", resource={"cpu_limit": 1e9}, settle=False)
        await until(huge.pods, lambda found: 2 in found and found[2].message)
        words = await until(home, lambda words: "Not known now" not in words)
        assert "1 running 1 pending 0 failed 1 rolling out" in words
        assert "broken : update failed with 1 failed instance" in words
        assert "huge : 3 pods wait It wants more cpu than the node has" in words
        assert "3 pods wait for room" in words
        # What people did is not buried under the steps of pods; and jobs have names there.
        assert "Created job huge" in words and "Carried on" not in words
        async with open_stream(works.console, "/live") as stream:
            await stream.live()
            await huge.stop()
            await part(stream, "jobs", '>0</span><span class="muted"><span class="key p-waiting">')

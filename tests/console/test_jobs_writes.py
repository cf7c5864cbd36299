"""What is done to jobs: start, stop, restart, pause, resume, abort, delete; to one and to many."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from tests.console.harness import Page
from tests.console.jobs import Works, hidden, works_in, wrong
from tests.console.test_permissions import enabled_writes
from tests.contract.jobs_yard import Job

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("console-jobs-writes")]
KILLED = stateless.JOB_STATE_KILLED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def works(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Works]:
    async with works_in(tmp_path_factory.mktemp("works")) as found:
        yield found


async def agree(works: Works, job: Job, page: str, **typed: str) -> Page:
    """Opens the page that asks and presses its button."""
    asked = await works.get(job, page)
    return await works.post(job, page, {"version": hidden(asked)["version"], **typed})


async def test_stopping_says_what_ends_and_starting_brings_it_back(works: Works):
    job = await works.yard.job("run", 3, name="halt")
    asked = await works.get(job, "/stop")
    assert "3 pods end: each gets SIGTERM, and SIGKILL after 30 s." in asked.words
    assert asked.dom.button("Stop 3 pods").enabled
    done = await agree(works, job, "/stop")
    assert "It is being stopped." in done.words
    await job.until_state(KILLED)
    page = await works.get(job)
    assert "3 stopped" in (await works.console.get("/jobs?q=halt")).words
    started = await works.post(job, "/start", {"version": hidden(page)["version"]})
    assert "It is to run." in started.words
    await job.until_state(stateless.JOB_STATE_RUNNING)


async def test_a_restart_takes_ranges_and_a_batch(works: Works):
    job = await works.yard.job("run", 5, name="ranges")
    done = await agree(works, job, "/restart", ranges="0-1, 4", batch_size="2")
    assert "The restart has begun." in done.words
    await job.until_over()
    assert await job.runs() == {0: 2, 1: 2, 2: 1, 3: 1, 4: 2}
    page = await works.get(job)
    assert "Restart configuration 2 Succeeded" in page.words and "Restarted 3 instances 0–1, 4" in page.words


@pytest.mark.parametrize(
    "typed,field,says",
    [
        ({"ranges": "x"}, "ranges", "is no range"),
        ({"ranges": "3-1"}, "ranges", "ends before it begins"),
        ({"ranges": "7-9"}, "ranges", "its instances are 0 to 1"),
        ({"batch_size": "all"}, "batch_size", "no whole number"),
    ],
)
async def test_a_restart_that_is_wrong_restarts_nothing(
    works: Works, typed: dict[str, str], field: str, says: str
):
    job = await works.yard.job("run", 2, name="wrong")
    page = await agree(works, job, "/restart", **{"batch_size": "1", **typed})
    assert page.status == 400 and says in wrong(page)[field]
    assert page.dom.find("input", id=field)[0].attrs["value"] == typed[field]
    assert (await job.status()).version.value == "1-1-1"


async def test_an_abort_says_what_stays(works: Works):
    job = await works.yard.job("run", 4, name="cut")
    await job.replace(works.yard.spec("slow start", 4, name="cut"), batch_size=1)
    await job.until_flying(0)
    asked = await works.get(job, "/abort")
    assert "4 instances stay as they are until the next roll-out." in asked.words
    done = await agree(works, job, "/abort")
    assert "Aborted." in done.words
    await job.until_over(stateless.WORKFLOW_STATE_ABORTED)
    assert "there is nothing to abort" in (await works.get(job, "/abort")).words


async def test_deleting_takes_the_name_and_force_of_one_that_runs(works: Works):
    job = await works.yard.job("run", 2, name="dear job")
    asked = await works.get(job, "/delete")
    assert "2 pods end" in asked.words and "It cannot be undone" in asked.words
    version = {"version": hidden(asked)["version"]}
    refused = await works.post(job, "/delete", {**version, "typed": "dear"})
    assert refused.status == 400 and wrong(refused).keys() == {"typed", "force"}
    assert "type dear job" in wrong(refused)["typed"]
    refused = await works.post(job, "/delete", {**version, "typed": "dear job"})
    assert wrong(refused).keys() == {"force"} and await job.exists()
    done = await works.post(job, "/delete", {**version, "typed": "dear job", "force": "on"})
    assert done.url == "/jobs" and "dear job is being deleted." in done.words
    await job.until_gone()
    again = await works.post(job, "/delete", {**version, "typed": "dear job", "force": "on"})
    assert "was deleted already" in again.words


async def test_a_job_that_is_being_deleted_says_so(works: Works):
    job = await works.yard.job("stubborn", 1, name="stays")
    await job.delete(wait=False)
    page = await works.get(job)
    assert "Being deleted" in page.words and "1 pod must end first" in page.words
    assert "Edit" not in page.words.split("Overview")[0]
    await job.until_gone(passing=31)


@pytest.mark.parametrize("page", ["stop", "restart", "delete", "abort"])
async def test_who_was_faster_is_told_and_nothing_is_done(works: Works, page: str):
    job = await works.yard.job("run", 1, name="raced")
    asked = hidden(await works.get(job, f"/{page}"))
    await job.replace(works.yard.spec("run", 2, name="raced"))
    await job.until_over()
    told = await works.post(job, f"/{page}", {**asked, "typed": "raced", "force": "on", "batch_size": "1"})
    assert told.status == 409 and "Nothing was done." in told.words
    assert "Replaced by operator" in told.words and "instance_count 1 2" in told.words
    # The page asks anew, about the job as it is now.
    assert hidden(told)["version"] == "2-1-2" == (await job.status()).version.value


@pytest.mark.parametrize("act", ["start", "pause", "resume"])
async def test_who_was_faster_than_a_button_is_told_on_the_page(works: Works, act: str):
    job = await works.yard.job("run", 1, name="pressed")
    await job.stop()
    told = await works.post(job, f"/{act}", {"version": "1-1-1"})
    assert "Nothing was done: meanwhile operator changed the job (stopped)." in told.words
    assert (await job.status()).version.value == "1-2-1"


async def test_a_refresh_and_what_the_service_refuses(works: Works):
    job = await works.yard.job("slow start", 1, name="asked", settle=False)
    done = await works.post(job, "/refresh")
    assert "looked at every pod" in done.words
    told = await agree(works, job, "/restart", batch_size="0")
    assert "has a workflow that goes on; abort it or wait for its end" in told.words


# --- many ---------------------------------------------------------------------------------------


async def test_many_are_stopped_started_and_deleted_with_a_result_for_each(works: Works):
    jobs = [await works.yard.job("run", 2, name=f"many-{number}", owner="many") for number in range(3)]
    back = {"return_to": "/jobs?owner=many"}
    chosen = [("id", job.id) for job in jobs]
    asked = await works.console.post("/jobs/-/stop", [*back.items(), *chosen])
    assert (
        "Stop 3 jobs?" in asked.words
        and "6 pods end" in asked.words
        and "many-1 running, 2 pods" in asked.words
    )
    assert (await jobs[0].status()).desired_state == stateless.JOB_STATE_RUNNING
    done = await works.console.post("/jobs/-/stop", [*back.items(), *chosen, ("confirmed", "yes")])
    assert done.url == "/jobs?owner=many" and "Stopped 3 jobs." in done.words
    for job in jobs:
        await job.until_state(KILLED)
    # Starting asks nothing; one that is gone fails alone.
    gone = [("id", "6b1cbf86-75ea-4c96-8ee4-000000000000")]
    done = await works.console.post("/jobs/-/start", [*back.items(), chosen[0], *gone])
    assert done.url.startswith("/operations/") and "Started 1 of 2 jobs" in done.words
    assert "many-0 Started" in done.words and "not found" in done.words
    # Only what is stopped is deleted; the others are named and stay.
    asked = await works.console.post("/jobs/-/delete", [*back.items(), *chosen])
    assert "Delete 2 jobs?" in asked.words and "1 job of your selection is not stopped" in asked.words
    ids = [("id", e.attrs["value"]) for e in asked.dom.find("input", type="hidden", name="id")]
    assert ids == chosen[1:]
    done = await works.console.post("/jobs/-/delete", [*back.items(), *ids, ("confirmed", "yes")])
    assert "Deleted 2 jobs." in done.words
    await jobs[1].until_gone()
    assert await jobs[0].exists()


async def test_all_that_match_are_meant_by_the_lists_own_filter(works: Works):
    mine = [await works.yard.job("run", 1, name=f"sweep-{number}", owner="sweep") for number in range(2)]
    other = await works.yard.job("run", 1, name="other", owner="keep")
    await mine[0].stop()
    data = {"return_to": "/jobs?owner=sweep", "scope": "all"}
    asked = await works.console.post("/jobs/-/delete", data)
    assert "Delete 1 job?" in asked.words and "All jobs of sweep that are stopped" in asked.words
    await works.console.post("/jobs/-/delete", {**data, "confirmed": "yes"})
    await mine[0].until_gone()
    assert await mine[1].exists() and await other.exists()
    nothing = await works.console.post("/jobs/-/stop", {"return_to": "/jobs?owner=sweep"})
    assert "Nothing was selected" in nothing.words


# --- who may ------------------------------------------------------------------------------------


async def test_a_viewer_reads_everything_and_writes_nothing(works: Works):
    job = await works.yard.job("slow start", 2, name="seen", settle=False)
    async with works.console.stranger() as viewer:
        await viewer.sign_in("viewer")
        for path in (
            "/jobs",
            "/pools",
            *(f"/jobs/{job.id}{page}" for page in ("", "/workflows", "/versions")),
        ):
            page = await viewer.get(path)
            assert page.status == 200 and enabled_writes(page) == []
        page = await viewer.get(f"/jobs/{job.id}")
        stop = next(e for e in page.dom.find("button") if "Stop" in e.text)
        assert not stop.enabled and "needs jobs.stop" in stop.text
        for path, permission in (
            ("/jobs/-/new", "jobs.create"),
            (f"/jobs/{job.id}/edit", "jobs.update"),
            (f"/jobs/{job.id}/delete", "jobs.delete"),
        ):
            refused = await viewer.get(path)
            assert refused.status == 403 and f"Missing permission: {permission}" in refused.words
        for path, permission in (
            ("/jobs", "jobs.create"),
            ("/jobs/-/stop", "jobs.stop"),
            (f"/jobs/{job.id}/edit", "jobs.update"),
            (f"/jobs/{job.id}/pause", "workflows.control"),
            (f"/jobs/{job.id}/abort", "workflows.control"),
            (f"/jobs/{job.id}/stop", "jobs.stop"),
            (f"/jobs/{job.id}/start", "jobs.start"),
            (f"/jobs/{job.id}/restart", "jobs.restart"),
            (f"/jobs/{job.id}/refresh", "jobs.refresh"),
            (f"/jobs/{job.id}/delete", "jobs.delete"),
        ):
            forged = {
                "version": job.version,
                "typed": "seen",
                "force": "on",
                "id": job.id,
                "confirmed": "yes",
            }
            refused = await viewer.post(path, forged)
            assert refused.status == 403 and f"Missing permission: {permission}" in refused.words
    status = await job.status()
    assert (status.version.value, status.desired_state) == ("1-1-1", stateless.JOB_STATE_RUNNING)

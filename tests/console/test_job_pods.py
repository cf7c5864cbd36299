"""Pods of jobs: the grid, the list, one pod with its runs, and what can be done to one or many."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import aiohttp_jinja2
import pytest
import pytest_asyncio

from admin_ui.job_pods import ranges_of
from admin_ui.presenters.job_pods import Cell, exit_of, grid
from admin_ui.render import url
from admin_ui.routes import ROUTES
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from tests.console.harness import Page
from tests.console.rail import DEADLINE, Rail, opened
from tests.console.test_live import open_stream
from tests.console.test_pages import titles
from tests.console.test_permissions import enabled_writes
from tests.contract.jobs_yard import KILLING, RUNNING

pytestmark = pytest.mark.xdist_group("console-pods")
over_sockets = pytest.mark.asyncio(loop_scope="module")
FAILED = pod_pb2.POD_STATE_FAILED
KILLED = pod_pb2.POD_STATE_KILLED
ENDED = pod_pb2.TerminationStatus


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rail(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rail]:
    async with opened(tmp_path_factory.mktemp("rail")) as found:
        yield found


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", []),
        ("7", [(7, 8)]),
        ("0-4, 7 ,20-", [(0, 5), (7, 8), (20, 1 << 32)]),
        ("3 – 5", [(3, 6)]),
        ("0", [(0, 1)]),
    ],
)
def test_ranges_as_people_write_them(text: str, ranges: list[tuple[int, int]]) -> None:
    assert ranges_of(text) == ranges


@pytest.mark.parametrize("text", ["x", "-1", "5-3", "1..4", "1-2-3", "9999999999", ",".join("1" * 41)])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"instance|begins|at most"):
        ranges_of(text)


@pytest.mark.parametrize(
    ("word", "ended", "told"),
    [
        ("running", ENDED(exit_code=3), ""),
        ("failed", ENDED(exit_code=3, reason=2), "exit 3"),
        ("failed", ENDED(signal="SIGSEGV", reason=2), "SIGSEGV"),
        ("stopped", ENDED(signal="SIGTERM", reason=1), "SIGTERM, killed on request"),
        ("stopped", ENDED(reason=6), "killed for update"),
        ("succeeded", ENDED(), "exit 0"),
    ],
)
def test_how_a_run_ended(word: str, ended: pod_pb2.TerminationStatus, told: str) -> None:
    assert exit_of(word, ended) == told


class TestGrid:
    def test_letters_and_counts_say_what_colours_say(self) -> None:
        found = grid([Cell(0, "running", False), Cell(1, "failed", False), Cell(2, "running", True)])
        [row] = found.rows
        assert [cell.letter for cell in row.cells] == ["R", "F", "r"]
        assert [cell.title for cell in row.cells] == ["0 Running", "1 Failed", "2 Running, to be replaced"]
        assert [(one.word, one.count) for one in found.counts] == [("running", 2), ("failed", 1)]
        assert (found.total, found.stale, found.dense) == (3, 1, False)

    def test_thousands_are_letters_in_stretches(self) -> None:
        cells = [Cell(i, "failed" if i in (5, 150, 151) else "running", False) for i in range(9000)]
        found = grid(cells)
        # What is alike for hundreds is one row.
        assert found.dense and [(row.first, row.last) for row in found.rows] == [
            (0, 99), (100, 199), (200, 8999),
        ]  # fmt: skip
        assert [(one.first.word, one.count) for one in found.rows[2].stretches] == [("running", 8800)]
        assert "".join(one.letters for one in found.rows[0].stretches) == "R" * 5 + "F" + "R" * 94
        assert [one.span for one in found.rows[1].stretches] == ["100-149", "150-151", "152-199"]


@over_sockets
class TestPages:
    async def test_the_grid_of_a_job_and_of_a_very_large_one(self, rail: Rail) -> None:
        job = await rail.yard.job(count=3)
        page = await rail.console.get(f"/jobs/{job.id}")
        cells = [e for e in page.dom.find("a") if "cell" in e.attrs.get("class", "").split()]
        assert [(e.text, e.attrs["title"]) for e in cells] == [
            ("R", "0 Running"), ("R", "1 Running"), ("R", "2 Running"),
        ]  # fmt: skip
        assert cells[2].attrs["href"] == f"/jobs/{job.id}/pods/2"
        # What thousands cost a browser: at best, and with no two neighbours alike.
        for words, most, packed in ((["running"], 40_000, 3000), (["running", "failed"], 400_000, 20_000)):
            cells = [Cell(i, words[i % len(words)], False) for i in range(9000)]
            env = aiohttp_jinja2.get_env(rail.console.app)
            values = {"grid": grid(cells), "job": {"id": job.id}, "may": lambda permission: True}
            values["url"] = lambda name, **parts: url(rail.console.app, name, **parts)
            html = env.get_template("jobs/_instances.html").render(values).encode()
            assert len(html) < most
            assert len(gzip.compress(html)) < packed

    async def test_a_grid_follows(self, rail: Rail) -> None:
        job = await rail.yard.job(count=2)
        async with open_stream(rail.console, f"/jobs/{job.id}/live") as stream:
            await stream.live()
            await job.stop_pod(1)
            async with asyncio.timeout(DEADLINE):
                while 'title="1 Stopped"' not in (await stream.until("parts")).get("instances", ""):
                    pass

    async def test_the_list_filters_by_state_and_place(self, rail: Rail) -> None:
        job = await rail.yard.job(count=25)
        await job.stop_pod(3)
        await job.until_pod(KILLED, 3)
        here = f"/jobs/{job.id}/pods"
        assert (await rail.console.get(here)).rows() == [str(i) for i in range(20)]
        page = await rail.console.get(f"{here}?page_size=10&order_by=instance+desc")
        assert page.rows() == [str(i) for i in range(24, 14, -1)]
        page = await rail.console.get(page.dom.find("a", rel="next")[0].attrs["href"])
        assert page.rows() == [str(i) for i in range(14, 4, -1)]
        assert (await rail.console.get(f"{here}?state=stopped")).rows() == ["3"]
        assert (await rail.console.get(f"{here}?instances=2-4,20-21")).rows() == ["2", "3", "4", "20", "21"]
        assert (await rail.console.get(f"{here}?instances=2-4&state=running")).rows() == ["2", "4"]
        nothing = await rail.console.get(f"{here}?state=failed")
        assert "There are no failed instances." in nothing.words
        wrong = await rail.console.get(f"{here}?instances=2-x")
        assert wrong.status == 400
        assert [e.attrs["value"] for e in wrong.elements_with_error()] == ["2-x"]
        async with open_stream(rail.console, f"{here}/-/live?instances=2-x") as stream:
            assert (await stream.until("end"))["reason"] == "reload"
        assert (await rail.console.get(f"{here}?page_token=nonsense")).url == here

    async def test_a_row_says_why_and_changes_by_itself(self, rail: Rail) -> None:
        job = await rail.yard.job(count=2, settle=False, resource={"cpu_limit": 1e9})
        await job.until_pod(pod_pb2.POD_STATE_PENDING, 1)
        here = f"/jobs/{job.id}/pods"
        async with open_stream(rail.console, f"{here}/-/live") as stream:
            rows = await stream.until("rows")
            assert rows["order"] == [job.pod_name(0), job.pod_name(1)]
            why = (await job.pod(1)).message
            assert why and why in rows["rows"][job.pod_name(1)]
            await stream.live()
            await job.stop_pod(1)
            async with asyncio.timeout(DEADLINE):
                while "Stopped" not in (await stream.until("rows"))["rows"].get(job.pod_name(1), ""):
                    pass
        await job.delete()

    async def test_a_pod_with_its_runs_events_and_files(self, rail: Rail) -> None:
        job = await rail.yard.job(
            "crash", count=1, resource={"cpu_limit": 0.5, "mem_limit_mb": 64}, environment={"REGION": "eu"}
        )
        await rail.yard.advance(11)
        await job.until_pod(FAILED, run=1)
        here = f"/jobs/{job.id}/pods/0"
        page = await rail.console.get(here)
        assert "exit 3" in page.words and "Command exited with status 3" in page.words
        assert "Another one follows, after a pause that grows with the failures" in page.words
        assert "CPU 0.5" in page.words and "Memory 64 MiB" in page.words and "REGION eu" in page.words
        # Its pause, and no time for run 2 to fail as well.
        await rail.yard.advance(31)
        await job.until_pod(RUNNING, run=2)
        page = await rail.console.get(here)
        runs = [
            e.attrs["href"] for e in page.dom.find("a") if e.attrs.get("href", "").startswith(f"{here}?run=")
        ]
        assert runs == [f"{here}?run=1"]
        assert "What happened to run 2" in page.words and "status 3" not in page.words
        earlier = await rail.console.get(runs[0])
        assert "What happened to run 1" in earlier.words and "status 3" in earlier.words
        assert "stdout" in earlier.words
        assert "status: state: POD_STATE_RUNNING" in (await rail.console.get(f"{here}/raw")).words
        commands = (await rail.console.get(f"{here}/commands")).words
        assert "log:download" in commands and "PodService/GetPod" in commands
        assert (await rail.console.get(f"{here}/download.json")).headers["Content-Disposition"]
        await job.delete()

    async def test_every_page_has_a_heading_a_title_and_labels(self, rail: Rail) -> None:
        job = await rail.yard.job(count=2)
        all = f"/jobs/{job.id}/pods"
        paths = [all, f"{all}?instances=x", f"{all}/0", f"{all}/0/logs", f"{all}/0/logs?q=hello"]
        await titles(rail.console, [*paths, f"{all}/0/raw", f"{all}/0/commands"])

    async def test_what_there_is_not(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        for path in ("9", "x", "0/download.xml", "-1"):
            assert (await rail.console.get(f"/jobs/{job.id}/pods/{path}")).status == 404, path
        assert (await rail.console.get("/jobs/nothing/pods")).status == 404


@over_sockets
class TestWrites:
    async def test_one_is_stopped_started_and_restarted(self, rail: Rail) -> None:
        job = await rail.yard.job(count=2)
        here = f"/jobs/{job.id}/pods/1"
        page = await rail.console.post(f"{here}/stop")
        assert "It is being stopped. The job goes on without it." in page.words
        await job.until_pod(KILLED, 1)
        # Undo starts it.
        undo = next(e for e in page.dom.find("form") if e.attrs.get("action") == f"{here}/start")
        page = await rail.console.post(undo.attrs["action"])
        await job.until_pod(RUNNING, 1, run=2)
        await rail.console.post(f"{here}/restart", {"check_sla": "on"})
        await job.until_pod(RUNNING, 1, run=3)
        assert (await job.runs())[0] == 1

    async def test_a_restart_keeps_to_the_sla_unless_told_not_to(self, rail: Rail) -> None:
        job = await rail.yard.job("slow end", count=2, sla=stateless.SlaSpec(maximum_unavailable_instances=1))
        await rail.console.post(f"/jobs/{job.id}/pods/0/restart", {"check_sla": "on"})
        await job.until_pod(KILLING, 0)
        page = await rail.console.post(f"/jobs/{job.id}/pods/1/restart", {"check_sla": "on"})
        assert "the job's SLA allows 1" in page.words
        assert (await job.runs())[1] == 1
        await rail.console.post(f"/jobs/{job.id}/pods/1/restart")
        await job.until_pod(RUNNING, 1, run=2, passing=5)
        await job.delete(wait=False)
        await job.until_gone(passing=5)

    async def test_a_range_is_restarted_after_it_was_asked(self, rail: Rail) -> None:
        job = await rail.yard.job(count=6)
        back = f"/jobs/{job.id}/pods?instances=1-3,5"
        form = {"scope": "all", "return_to": back}
        page = await rail.console.post(f"/jobs/{job.id}/pods/-/restart", form)
        assert "Restart 4 instances?" in page.words
        assert set((await job.runs()).values()) == {1}
        page = await rail.console.post(f"/jobs/{job.id}/pods/-/restart", {**form, "confirmed": "yes"})
        assert "Restarted 4 instances." in page.words
        for instance in (1, 2, 3, 5):
            await job.until_pod(RUNNING, instance, run=2)
        assert {i for i, run in (await job.runs()).items() if run == 1} == {0, 4}

    async def test_each_of_many_has_a_result_of_its_own(self, rail: Rail) -> None:
        job = await rail.yard.job("slow end", count=3, sla=stateless.SlaSpec(maximum_unavailable_instances=1))
        ids = [job.pod_name(i) for i in range(3)]
        form = {"id": ids, "return_to": f"/jobs/{job.id}/pods", "confirmed": "yes"}
        page = await rail.console.post(f"/jobs/{job.id}/pods/-/restart", form)
        assert "Restarted 1 of 3 instances" in page.words
        assert "the job's SLA allows 1" in page.words
        links = {e.attrs["href"] for e in page.dom.find("a") if e.text.startswith("instance ")}
        assert links == {f"/jobs/{job.id}/pods/{i}" for i in range(3)}
        await job.delete(wait=False)
        await job.until_gone(passing=5)

    async def test_selected_ones_are_stopped_and_started_with_a_way_back(self, rail: Rail) -> None:
        job = await rail.yard.job(count=3)
        form = {"id": [job.pod_name(0), job.pod_name(2)], "return_to": f"/jobs/{job.id}/pods"}
        page = await rail.console.post(f"/jobs/{job.id}/pods/-/stop", form)
        assert "Stop 2 instances?" in page.words and "instance 0 instance 2" in page.words
        await rail.console.post(f"/jobs/{job.id}/pods/-/stop", {**form, "confirmed": "yes"})
        await job.until_pod(KILLED, 2)
        page = await rail.console.post(f"/jobs/{job.id}/pods/-/start", form)
        assert "Started 2 instances." in page.words
        await job.until_pod(RUNNING, 2, run=2)
        undo = next(e for e in page.dom.find("form") if e.attrs.get("action", "").endswith("/undo"))
        await rail.console.post(undo.attrs["action"])
        await job.until_pod(KILLED, 2)

    async def test_ranges_that_cannot_be_read_change_nothing(self, rail: Rail) -> None:
        job = await rail.yard.job(count=2)
        form = {"scope": "all", "return_to": f"/jobs/{job.id}/pods?instances=x", "confirmed": "yes"}
        page = await rail.console.post(f"/jobs/{job.id}/pods/-/restart", form)
        assert "is no instance and no range" in page.words
        assert set((await job.runs()).values()) == {1}

    async def test_a_viewer_sees_all_of_it_and_no_enabled_write(self, rail: Rail) -> None:
        job = await rail.yard.job(count=2)
        async with rail.console.stranger() as other:
            await other.sign_in("viewer")
            reasons: set[str] = set()
            for path in ("", "/0", "/0/logs", "/0/raw", "/0/commands"):
                page = await other.get(f"/jobs/{job.id}/pods{path}")
                assert page.status == 200 and enabled_writes(page) == [], path
                reasons |= {e.attrs["title"] for e in page.dom.find("button") if "title" in e.attrs}
            assert {
                "Restart…: needs pods.restart", "Start: needs pods.start", "Stop…: needs pods.stop",
                "Restart: needs pods.restart", "Stop: needs pods.stop",
            } <= reasons  # fmt: skip
            writes = [r for r in ROUTES if r.method == "POST" and r.path.startswith("/jobs/{id}/pods")]
            assert len(writes) == 6
            for route in writes:
                path = route.path.format(id=job.id, instance=0)
                page: Page = await other.post(path, {"id": job.pod_name(), "confirmed": "yes"})
                assert page.status == 403 and f"Missing permission: {route.permission}" in page.words
        assert await job.runs() == {0: 1, 1: 1}

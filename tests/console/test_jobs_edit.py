"""New jobs and replacements: form or YAML, previewed, put together with what others changed, then done."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.jobs.api.pools import id_of
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from tests.console.harness import Page
from tests.console.jobs import Works, form, hidden, works_in, wrong
from tests.console.test_live import open_stream
from tests.contract.jobs_yard import Job

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("console-jobs-edit")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def works(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Works]:
    async with works_in(tmp_path_factory.mktemp("works")) as found:
        yield found


async def new(works: Works, query: str = "", **typed: str) -> Page:
    """What a browser gets that opens the form, types and presses Preview."""
    page = await works.console.get(f"/jobs/-/new{query}")
    return await works.console.post("/jobs", {**form(page), **typed, "action": "preview"})


async def edited(works: Works, job: Job, query: str = "", **typed: str) -> Page:
    page = await works.get(job, f"/edit{query}")
    return await works.post(job, "/edit", {**form(page), **typed, "action": "preview"})


def text_of(page: Page) -> str:
    return form(page)["text"]


# --- new ----------------------------------------------------------------------------------------


async def test_a_job_is_made_of_a_form_and_is_what_the_preview_showed(works: Works):
    typed = {
        "name": "made",
        "instances": "3",
        "command": "run",
        "cpu": "0.5",
        "memory": "64",
        "labels": "env=prod\nteam=a b",
        "environment": "MODE=a,b",
        "check": "command",
        "check_target": "true",
        "grace": "5",
        "priority": "7",
        "batch_size": "2",
        "max_instance_retries": "3",
        "start_paused": "on",
    }
    page = await new(works, **typed)
    assert page.status == 200 and "What will be created" in page.words
    assert "In all: 1.5 CPU, 192 MiB of memory." in page.words and "instance_count: 3" in page.words
    assert "curl -X POST --data-binary @-" in page.words and '"batch_size": 2' in page.words
    done = await works.console.post("/jobs", {**form(page), "action": "write"})
    assert "Created made." in done.words and "Paused" in done.words
    [id] = await ids(works, "made")
    job = Job(works.yard, id, "1-1-1")
    spec, workflow = await job.spec(), await job.workflow()
    container = spec.default_spec.containers[0]
    assert (spec.instance_count, spec.owner, spec.sla.priority) == (3, "operator", 7)
    assert {label.key: label.value for label in spec.labels} == {"env": "prod", "team": "a b"}
    assert container.environment[0].value == "a,b" and container.resource.mem_limit_mb == 64
    assert container.liveness_check.command_check.command == "true"
    assert container.liveness_check.interval_secs == 10
    assert spec.default_spec.kill_grace_period_seconds == 5
    assert (workflow.update_spec.batch_size, workflow.update_spec.max_instance_retries) == (2, 3)


async def ids(works: Works, name: str) -> list[str]:
    page = await works.console.get(f"/jobs?q={name}")
    return [e.attrs["data-key"] for e in page.dom.find("tr") if "data-key" in e.attrs]


async def test_what_was_not_previewed_is_not_written(works: Works):
    page = await new(works, name="sly", command="run")
    other = await works.console.post("/jobs", {**form(page), "instances": "9", "action": "write"})
    assert "This is not what the preview showed" in other.words and "instance_count: 9" in other.words
    unseen = await works.console.post("/jobs", {**form(page), "agreed": "", "action": "write"})
    assert "What will be created" in unseen.words
    assert await ids(works, "sly") == []
    done = await works.console.post("/jobs", {**form(other), "action": "write"})
    assert "Created sly." in done.words


@pytest.mark.parametrize(
    "typed,says",
    [
        (
            {
                "instances": "many", "command": "", "cpu": "a lot", "labels": "env", "grace": "x",
                "environment": "A=1\nB", "check": "http", "check_target": "/healthz", "check_interval": "-3",
                "batch_size": "1.5", "pool": "",
            },
            {
                "instances": "no whole number", "command": "say what to run", "cpu": "no number",
                "labels": "is not key=value", "grace": "no whole number", "environment": "is not NAME=value",
                "check_target": "a port and a path", "check_interval": "no whole number",
                "batch_size": "no whole number", "pool": "say in which pool",
            },
        ),
        ({"instances": "100001"}, {"instances": "at most 100000"}),
        ({"cpu": "-1", "memory": "nan", "pool": "nowhere"},
         {"cpu": "a number from 0", "memory": "a number from 0", "pool": "is no resource pool"}),
        ({"pool": "root", "check": "command", "check_target": "true"}, {"pool": "has pools below it"}),
        ({"check": "command", "check_target": ""}, {"check_target": "which command"}),
    ],
)  # fmt: skip
async def test_what_is_wrong_stands_under_its_field_and_nothing_typed_is_lost(
    works: Works, typed: dict[str, str], says: dict[str, str]
):
    given = {"name": "kept name", "command": "keep me", "description": "kept", **typed}
    page = await new(works, **given)
    told = wrong(page)
    assert page.status == 400 and told.keys() == says.keys()
    assert [field for field, text in says.items() if text not in told[field]] == []
    assert {name: form(page)[name] for name in given} == given
    assert not page.dom.find("section", id="preview")


async def test_yaml_is_read_with_all_its_mistakes_and_their_lines(works: Works):
    text = (
        "nmae: x\ninstance_count: many\ndefault_spec:\n  containers:\n  - entrypoint: {value: 3}\nsla: [1]\n"
    )
    page = await new(works, "?as=yaml", text=text)
    assert page.status == 400 and text_of(page) == text
    assert "4 things are wrong" in page.words
    assert "line 1 nmae is no field; perhaps name" in page.words
    assert 'line 2 instance_count is "many"; it must be a whole number from 0' in page.words
    assert "line 5 default_spec.containers[0].entrypoint.value is 3; it must be text" in page.words
    # What only the service knows stands with its lines, too.
    text = f"instance_count: 200000\nrespool_id: {{value: {works.yard.pool}}}\n"
    page = await new(works, "?as=yaml", text=text)
    assert "line 1 instance_count is 200000; a job has at most 100000" in page.words
    text = (
        f"instance_count: 1\nrespoolId: {{value: {works.yard.pool}}}\ndefaultSpec:\n  containers:\n"
        "  - entrypoint: {value: run}\n    image: nginx\n"
    )
    page = await new(works, "?as=yaml", text=text)
    assert page.status == 400 and text_of(page) == text
    assert "line 6 default_spec.containers[0].image images: not supported by the" in page.words
    for broken in ("a: [", "x: " + "[" * 50, "", "- a", "name: a\nname: b\n"):
        page = await new(works, "?as=yaml", text=broken)
        assert page.status == 400 and text_of(page) == broken


async def test_the_two_forms_turn_into_each_other_and_lose_nothing(works: Works):
    page = await works.console.get("/jobs/-/new?as=yaml")
    text = text_of(page).replace("name: clock", "name: turned")
    text += "instance_spec: {0: {labels: [{key: a, value: b}]}}\n"
    page = await works.console.post(
        "/jobs", {**form(page), "text": text, "batch_size": "4", "action": "form"}
    )
    shown = form(page)
    assert (shown["form"], shown["name"], shown["instances"], shown["batch_size"]) == (
        "form",
        "turned",
        "2",
        "4",
    )
    page = await works.console.post("/jobs", {**shown, "owner": "eve", "action": "yaml"})
    assert form(page)["form"] == "yaml" and "owner: eve" in text_of(page)
    # What the form has no field for came through it.
    assert "instance_spec:" in text_of(page) and "key: a" in text_of(page)
    page = await works.console.post("/jobs", {**form(page), "text": "name: [", "action": "form"})
    assert page.status == 400 and text_of(page) == "name: [" and "Correct this first" in page.words


async def test_the_preview_says_for_how_many_there_is_room(works: Works):
    limits = [{"kind": "cpu", "limit": 4}]
    await works.yard.apply(resource_pools=[{"path": "/four", "spec": {"resources": limits}}])
    asked = {"command": "run", "pool": id_of("/four"), "instances": "5"}
    page = await new(works, **asked, cpu="1")
    assert "Room for 4 instances now; the others wait /four has 4 of 4 CPU left." in page.words
    page = await new(works, **asked, cpu="8")
    assert "No instance will ever run" in page.words and "limit of 4 CPU in all" in page.words


async def test_a_job_like_another_begins_with_its_spec(works: Works):
    job = await works.yard.job("run", 2, name="first", labels={"a": "b"}, resource={"cpu_limit": 0.25})
    shown = form(await works.console.get(f"/jobs/-/new?like={job.id}"))
    assert (shown["name"], shown["cpu"], shown["labels"]) == ("first-copy", "0.25", "a=b")


# --- replace ------------------------------------------------------------------------------------


async def test_a_replacement_is_previewed_by_instances_and_by_text(works: Works):
    job = await works.yard.job("run", 3, name="three")
    text = text_of(await works.get(job, "/edit?as=yaml")).replace("instance_count: 3", "instance_count: 2")
    page = await edited(works, job, "?as=yaml", text=text, batch_size="1", rollback_on_failure="on")
    assert "0 added 0 updated 1 removed 2 2 unchanged 0–1" in page.words
    assert "− instance_count: 3 + instance_count: 2" in page.words
    assert "curl -X PUT" in page.words and '"rollback_on_failure": true' in page.words
    done = await works.post(job, "/edit", {**form(page), "action": "write"})
    assert "Replaced. Configuration 2 is rolled out." in done.words
    workflow = await job.until_over()
    assert (workflow.update_spec.batch_size, workflow.update_spec.rollback_on_failure) == (1, True)
    assert (await job.spec()).instance_count == 2


async def test_the_form_changes_its_fields_and_leaves_the_others(works: Works):
    spec = works.yard.spec("run", 2, name="deep", environment={"A": "1"})
    spec.instance_spec[1].labels.add(key="odd", value="yes")
    spec.default_spec.containers[0].entrypoint.arguments.append("x")
    job = await works.yard.job("run", 2, name="deep")
    await job.replace(spec)
    await job.until_over()
    page = await edited(works, job, "?as=form", owner="eve", instances="1")
    done = await works.post(job, "/edit", {**form(page), "action": "write"})
    assert "Replaced." in done.words
    found = await job.spec()
    assert (found.owner, found.instance_count) == ("eve", 1)
    assert found.instance_spec[1].labels[0].key == "odd"
    assert found.default_spec.containers[0].entrypoint.arguments == ["x"]


async def test_edit_opens_as_the_form_that_a_job_was_made_with(works: Works):
    typed = {
        "name": "formed", "instances": "2", "command": "run", "cpu": "0.25", "memory": "64", "team": "search",
        "labels": "env=prod", "environment": "MODE=a,b", "description": "of a form", "grace": "5",
        "check": "command", "check_target": "true", "priority": "7", "unavailable": "1",
    }  # fmt: skip
    page = await new(works, **typed)
    await works.console.post("/jobs", {**form(page), "action": "write"})
    [id] = await ids(works, "formed")
    job = Job(works.yard, id, "1-1-1")
    page = await works.get(job, "/edit")
    assert form(page)["form"] == "form" and "because the form" not in page.words
    assert {name: form(page)[name] for name in typed} == typed
    # Nothing of it is another by having been a form.
    page = await edited(works, job)
    assert "The spec is the one that the job has." in page.words
    assert form(await works.get(job, "/edit?as=yaml"))["form"] == "yaml"


async def test_edit_opens_as_yaml_and_says_why_where_the_form_cannot_hold_the_spec(works: Works):
    spec = works.yard.spec("run", 2, name="wide")
    spec.instance_spec[1].labels.add(key="odd", value="yes")
    spec.default_spec.containers[0].entrypoint.arguments.append("x")
    job = await works.yard.job("run", 2, name="wide")
    await job.replace(spec)
    await job.until_over()
    page = await works.get(job, "/edit")
    assert "odd" in text_of(page) and "This is YAML because the form cannot hold " in page.words
    assert "default_spec.containers[main].entrypoint.arguments[0]" in page.words
    assert "because the form" not in (await works.get(job, "/edit?as=form")).words
    # Going back to what the form can hold.
    page = await works.get(job, "/edit?configuration=1")
    assert form(page)["form"] == "form" and "This is configuration 1" in page.words


async def test_what_others_changed_is_shown_and_put_together_with_mine(works: Works):
    job = await works.yard.job("run", 2, name="both", owner="ann", labels={"a": "1"})
    page = await works.get(job, "/edit?as=yaml")
    mine = text_of(page).replace("owner: ann", "owner: me").replace("instance_count: 2", "instance_count: 5")
    async with open_stream(works.console, f"/jobs/{job.id}/edit/live?version={job.version}") as stream:
        assert "Changed" not in (await stream.until("parts"))["meanwhile"]
        await stream.live()
        theirs = works.yard.spec("run", 3, name="both", owner="ann", labels={"a": "1", "b": "2"})
        await job.replace(theirs)
        assert "Replaced" in (await stream.until("parts"))["meanwhile"]
    await job.until_over()
    page = await works.post(job, "/edit", {**form(page), "text": mine, "action": "write"})
    assert page.status == 409 and text_of(page) == mine
    assert "The job went from version 1-1-1 to 2-1-2" in page.words
    assert "Replaced by operator" in page.words and "+ - key: b + value: '2'" in page.words
    assert "Both of you changed this" in page.words and "instance_count 2 3 5" in page.words
    assert (await job.spec()).instance_count == 3
    # Mine on top of theirs: only the field that both changed is mine alone.
    page = await works.post(job, "/edit", {**form(page), "action": "merge"})
    assert page.status == 200 and "− instance_count: 3 + instance_count: 5" in page.words
    assert "owner: me" in text_of(page) and "key: b" in text_of(page)
    await works.post(job, "/edit", {**form(page), "action": "write"})
    found = await job.spec()
    assert (found.owner, found.instance_count, len(found.labels)) == ("me", 5, 2)


async def test_my_text_can_be_kept_as_it_is_and_the_preview_shows_what_that_undoes(works: Works):
    job = await works.yard.job("run", 1, name="mine")
    page = await works.get(job, "/edit?as=yaml")
    mine = {**form(page), "text": text_of(page).replace("name: mine", "name: mine\nowner: me")}
    await job.replace(works.yard.spec("run", 1, name="mine", labels={"their": "own"}))
    await job.until_over()
    page = await works.post(job, "/edit", {**mine, "action": "preview"})
    assert page.status == 409
    page = await works.post(job, "/edit", {**form(page), "action": "preview"})
    assert page.status == 200 and "− - key: their" in page.words and "+ owner: me" in page.words
    await works.post(job, "/edit", {**form(page), "action": "write"})
    assert len((await job.spec()).labels) == 0


async def test_a_change_of_state_alone_only_asks_again(works: Works):
    job = await works.yard.job("run", 1, name="halts")
    page = await edited(works, job, "?as=yaml", owner="me")
    await job.stop()
    page = await works.post(job, "/edit", {**form(page), "action": "write"})
    assert (
        page.status == 409 and "Its spec is the same." in page.words and "Stopped by operator" in page.words
    )


async def test_what_the_service_refuses_keeps_the_text(works: Works):
    job = await works.yard.job("slow start", 2, name="busy", settle=False)
    page = await works.get(job, "/edit?as=yaml")
    text = text_of(page) + "nonsense: 1\n"
    page = await works.post(job, "/edit", {**form(page), "text": text, "action": "preview"})
    assert page.status == 400 and text_of(page) == text and "nonsense is no field" in page.words
    other = text_of(await works.get(job, "/edit?as=yaml")).replace(works.yard.pool, "elsewhere")
    page = await edited(works, job, "?as=yaml", text=other)
    assert page.status == 400 and "respool_id cannot be changed" in page.words and text_of(page) == other
    page = await edited(works, job, "?as=form", command="")
    assert page.status == 400 and "say what to run" in wrong(page)["command"]


async def test_a_job_that_was_deleted_meanwhile_leaves_the_text_for_a_new_one(works: Works):
    job = await works.yard.job("run", 1, name="lost")
    page = await works.get(job, "/edit?as=yaml")
    await job.delete()
    page = await works.post(job, "/edit", {**form(page), "action": "preview"})
    assert page.status == 404 and "name: lost" in text_of(page) and "deleted meanwhile" in page.words
    page = await works.console.post("/jobs", {**form(page), "action": "preview"})
    assert "What will be created" in page.words


async def test_a_restart_in_flight_is_told(works: Works):
    job = await works.yard.job("slow end", 2, name="again")
    await job.restart()
    page = await works.get(job, "/edit?as=yaml")
    assert "A restart goes on: nothing can be replaced" in page.words
    page = await edited(works, job, "?as=yaml", owner="me")
    page = await works.post(
        job, "/edit", {**form(page), "text": text_of(page) + "owner: me\n", "action": "preview"}
    )
    page = await works.post(job, "/edit", {**form(page), "action": "write"})
    assert page.status == 400 and "is being restarted" in page.words and "owner: me" in text_of(page)
    assert hidden(page)["version"] == job.version
    await job.until_over(stateless.WORKFLOW_STATE_SUCCEEDED, passing=6)

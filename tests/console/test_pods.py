"""Pods in the console: what there are of, the pods, one pod, the export."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.pods.kinds import POD
from services.pods.stored import body_of
from shared.storage.port import Author, Put
from tests.console.harness import Console, Page, console_of
from tests.console.pods import (
    API,
    CLUSTER,
    DIGEST,
    FAILED,
    JOB,
    LONE,
    OTHER,
    WAITING,
    WEB,
    WEB_1,
    Fleet,
    fleet,
    web,
)
from tests.contract.pods_yard import id_of, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """Read only."""
    async with fleet(tmp_path_factory.mktemp("fleet")) as found:
        await found.fill()
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def console(filled: Fleet) -> AsyncIterator[Console]:
    yield filled.console


def rows(page: Page) -> list[str]:
    """The text of each row."""
    found = re.findall(r"<tr data-key=.*?</tr>", page.text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in found]


def row_link(page: Page, name: str) -> str:
    """Where the row of that name leads."""
    return next(e.attrs["href"] for e in page.dom.find("a") if "data-open" in e.attrs and e.text == name)


def step_link(page: Page, name: str) -> str:
    """Where that step of the way into the whole leads."""
    steps = [e for e in page.dom.find("a") if any(p.attrs.get("class") == "step" for p in e.inside)]
    return next(e.attrs["href"] for e in steps if e.text == name)


# --- what there are of --------------------------------------------------------------------------


async def test_a_click_leads_from_clusters_to_pods(console: Console):
    page = await console.get("/pods")
    assert rows(page) == [f"{OTHER} 1 namespace 1 1 1", "east 2 namespaces 2 2 6"]
    assert "Clusters 2 Namespaces 3 Deployments 3 Pods 7 Sources" in page.words
    page = await console.get(row_link(page, "east"))
    assert rows(page) == ["dev east east 1 1", "prod east east 1 5"]
    assert "cluster east" in page.words and f"filter=Cluster+ID:{CLUSTER}" in page.url
    page = await console.get(row_link(page, "prod"))
    assert rows(page) == ["no deployment prod · east prod east 1", "shop prod · east Deployment prod east 4"]
    page = await console.get(row_link(page, "shop"))
    assert page.rows() == ["crashing", "web-1", "web-2", "web-3"]
    assert (
        "cluster east Out of cluster east namespace prod Out of namespace prod deployment shop" in page.words
    )
    # Each step leads back, and each can be left.
    assert (await console.get(step_link(page, "prod"))).rows() == ["no deployment", "shop"]
    assert (await console.get(page.dom.link("Out of namespace prod"))).rows() == ["dev", "prod"]
    assert len(rows(await console.get(page.dom.link("All pods")))) == 2


async def test_pods_without_a_deployment_are_a_group_of_their_own(console: Console):
    page = await console.get("/pods?by=deployments")
    page = await console.get(row_link(page, "no deployment"))
    assert page.rows() == ["lone"]


async def test_groups_sort_by_name_and_count_in_pages(filled: Fleet):
    console = filled.console
    counted = await console.get("/pods?by=namespaces&order_by=pods+desc")
    assert [row.split()[-1] for row in rows(counted)] == ["5", "1", "1"]
    assert counted.dom.find("th", **{"aria-sort": "descending"})[0].text.strip() == "Pods"
    page = await console.get("/pods?by=pods&page_size=10&order_by=updated_at+desc")
    assert len(page.rows()) == 7
    page = await console.get("/pods?order_by=colour")
    assert page.status == 200 and "cannot be sorted by “colour”" in page.text
    page = await console.get("/pods?by=namespaces&page_token=nonsense")
    assert page.status == 200 and "no longer there" in page.text and len(rows(page)) == 3


async def test_sources_say_when_they_last_changed_something(console: Console):
    page = await console.get("/pods?by=sources")
    assert re.fullmatch(r"import (just now|\d+ s ago) 7", rows(page)[0])


# --- queries ------------------------------------------------------------------------------------


async def test_a_query_narrows_every_level(console: Console):
    page = await console.get("/pods?by=pods&filter=Deployment%3Ashop%2BPod+Name%3Aweb-")
    assert page.rows() == ["web-1", "web-2", "web-3"]
    assert "Clusters 1 Namespaces 1 Deployments 1 Pods 3" in page.words
    assert "Pods whose deployment begins with “shop” and pod name begins with “web-”." in page.words
    page = await console.get(page.dom.link("Namespaces"))
    assert rows(page) == ["prod east east 1 3"]
    page = await console.get("/pods?by=pods&filter=Namespace%3Anone")
    assert "There are no pods whose namespace begins with “none”." in page.words


async def test_a_wrong_value_has_a_caret_under_it(console: Console):
    for by in ("clusters", "pods"):
        page = await console.get(f"/pods?by={by}&filter=Namespace%3Aprod%2BNode%3Ar/(")
        assert page.status == 400
        assert 'Namespace:prod+Node:r/( ^ invalid regexp "("' in page.words
        [box] = page.dom.find("textarea", id="filter")
        assert box.attrs["aria-invalid"] == "true" and box.attrs["data-caret"] == "20"
        assert rows(page) == []
    page = await console.get("/pods?filter=Pod+ID%3Ax&page_token=abc", allow_redirects=True)
    assert page.status == 400 and "must be valid UUID" in page.text


async def test_an_address_may_call_the_filter_query_as_the_export_does(console: Console):
    page = await console.get("/pods?by=pods&query=Pod+Name%3Alone&page_size=50&order_by=name+asc")
    assert page.url == "/pods?filter=Pod+Name:lone&order_by=name+asc&page_size=50&by=pods"
    assert page.rows() == ["lone"]
    page = await console.get("/pods?by=pods&filter=Pod+Name%3Awaiting&query=Pod+Name%3Alone")
    assert page.rows() == ["waiting"] and "query" not in page.url
    for name in ("filter", "query"):
        lines = (await console.get(f"/pods/-/export.ndjson?{name}=Pod+Name%3Alone")).text.splitlines()
        assert [json.loads(line)["result"]["pod"]["name"] for line in lines] == ["lone"]


async def test_labels_that_nobody_knows_are_named(console: Console):
    page = await console.get("/pods?by=pods&filter=Nmespace%3Aprod")
    assert len(page.rows()) == 7
    assert "Nmespace:prod is left out: there is no label “Nmespace”. Did you mean Namespace ?" in page.words


async def test_labels_are_offered_with_and_without_javascript(console: Console):
    page = await console.get("/pods")
    options = [e.attrs["data-insert"] for e in page.dom.find("li", role="option")]
    assert {"Namespace:", "Deployment Label:", "Node:"} <= set(options)
    help = [e.text for e in page.dom.find("th", scope="row")]
    assert sorted(f"{name}:" for name in help) == sorted(options)
    assert (await console.get(page.dom.link("Deployment Label:app=web"))).status == 200


# --- the export ---------------------------------------------------------------------------------


async def test_the_export_is_the_present_query(filled: Fleet):
    console = filled.console
    page = await console.get("/pods?by=namespaces&filter=Namespace%3A%22prod%22")
    [button] = page.dom.find("a", download="pods.ndjson")
    found = await console.get(button.attrs["href"])
    assert found.headers["Content-Type"] == "application/x-ndjson"
    assert found.headers["Content-Disposition"] == 'attachment; filename="pods.ndjson"'
    assert found.text.encode() == (await filled.yard.lines('Namespace:"prod"')).body != b""
    assert all(json.loads(line)["result"]["pod"]["namespace"] == "prod" for line in found.text.splitlines())
    assert (
        "curl -G --compressed" in page.words and "--data-urlencode 'query=Namespace:\"prod\"'" in page.words
    )
    assert "v1.PodService/ExportPods" in page.words
    assert "roundhouse list pod --filter 'Namespace:\"prod\"'" in page.words
    async with console.http.head(console.base + button.attrs["href"]) as head:
        assert head.status == 200 and head.content_type == "application/x-ndjson"
    # What is wrong is a page, and no file.
    wrong = await console.get("/pods/-/export.ndjson?filter=Pod+ID%3Ax")
    assert wrong.status == 400 and "must be valid UUID" in wrong.words


async def test_everyone_sees_and_exports_what_they_may(filled: Fleet):
    async with filled.console.stranger() as viewer:
        await viewer.sign_in("viewer")
        assert rows(await viewer.get("/pods?by=namespaces"))[0].startswith("dev")
        assert (await viewer.get("/pods?by=pods")).rows() == ["api-1", "waiting"]
        lines = (await viewer.get("/pods/-/export.ndjson")).text.splitlines()
        assert {json.loads(line)["result"]["pod"]["name"] for line in lines} == {"api-1", "waiting"}
        assert (await viewer.get(f"/pods/{WAITING}")).status == 200
        refused = await viewer.get(f"/pods/{WEB_1}")
        assert refused.status in (403, 404) and "web-1" not in refused.words
    async with filled.console.stranger() as nobody:
        page = await nobody.get("/pods/-/export.ndjson")
        assert "Sign in" in page.text and "web-1" not in page.text


# --- one pod ------------------------------------------------------------------------------------


async def test_its_page_has_the_instances_and_what_it_belongs_to(console: Console):
    page = await console.get(f"/pods/{WEB_1}")
    assert "web-1 Running" in page.words
    assert "app run-1 CRI-O · 10.0.0.7 Running" in page.words and DIGEST in page.text
    assert "Name shop Type Deployment Account runner Labels app shop team <b>core</b>" in page.words
    assert "<b>core" not in page.text
    assert "owner ann@example.com" in page.words and "Source import" in page.words
    tagged = await console.get(page.dom.link("tierfront"))
    assert tagged.rows() == ["crashing", "waiting", "web-1", "web-2", "web-3"]
    assert (await console.get(page.dom.link("prod"))).rows() == ["no deployment", "shop"]
    assert not [e for e in page.dom.find("a") if "/jobs/" in e.attrs.get("href", "")]


async def test_ended_runs_say_how(console: Console):
    page = await console.get(f"/pods/{FAILED}")
    assert "crashing Failed" in page.words and "2 terminated" in page.words
    first, second = page.words.index("exit code 137, OOMKilled"), page.words.index("exit code 0, Completed")
    assert first < second and "after 1 min 0 s" in page.words
    assert "waiting Waiting" in (await console.get(f"/pods/{WAITING}")).words
    lone = await console.get(f"/pods/{LONE}")
    assert "It names no deployment." in lone.words
    api = await console.get(f"/pods/{id_of(10)}")
    assert "The inventory does not know it" in api.words and API in api.text


@pytest.mark.parametrize("tab", ["raw", "raw?format=json", "commands", "download.yaml"])
async def test_its_other_pages(console: Console, tab: str):
    page = await console.get(f"/pods/{WEB_1}/{tab}")
    assert page.status == 200 and "web-1" in page.text
    if tab == "commands":
        assert f"query=Pod ID:{WEB_1}" in page.words and f"roundhouse history pod {WEB_1}" in page.words
    if tab.startswith("raw"):
        assert DIGEST in page.words


async def test_one_that_is_gone_leaves_its_history(filled: Fleet):
    assert (await filled.console.get(f"/pods/{id_of(404)}")).status == 404
    await filled.yard.upsert(web(60), source="brief")
    await filled.yard.sync(source="brief")
    page = await filled.console.get(f"/pods/{id_of(60)}")
    assert page.status == 404 and "This pod was removed" in page.words and "Created by admin" in page.words


# --- beside others ------------------------------------------------------------------------------


async def test_a_pod_of_our_own_jobs_leads_to_its_job(tmp_path: Path):
    own = pod(70, name=f"{JOB}-3", deployment_id=JOB)
    async with fleet(tmp_path) as found:
        stored = Put(POD, own.id, body_of(own, "roundhouse/jobs", 1))
        await found.yard.store.commit([stored], by=Author("test"))
        await found.yard.upsert(pod(71, name=f"{JOB}-4", deployment_id=JOB), source="import")
        # Whoever stands at that address: the page asks nothing of it.
        beside = {"jobs": found.yard.service}
        async with console_of(found.yard.service, tmp_path / "both", name="pods", beside=beside) as console:
            await console.sign_in("admin")
            page = await console.get(f"/pods/{own.id}")
            assert f"/jobs/{JOB}" in [e.attrs.get("href") for e in page.dom.find("a")]
            assert "instance 3" in page.words
            page = await console.get(f"/pods/{id_of(71)}")
            assert not [e for e in page.dom.find("a") if e.attrs.get("href", "").startswith("/jobs/")]


async def test_empty_lists_say_how_pods_get_in(tmp_path: Path):
    async with fleet(tmp_path) as found:
        page = await found.console.get("/pods")
        assert "No pods yet" in page.words and "roundhouse import pods" in page.words
        assert "services.pods.collect kubernetes" in page.words
        home = await found.console.get("/")
        assert "How to get pods in" in home.words
        await found.fill()
        assert "7 pods 2 clusters 3 namespaces 3 deployments" in (await found.console.get("/")).words


async def test_without_the_service_the_pages_say_so(filled: Fleet, tmp_path: Path):
    async with console_of(filled.yard.service, tmp_path, name="pods", target="127.0.0.1:1") as console:
        await console.sign_in("admin")
        for path in ("/pods", "/pods?by=pods", f"/pods/{WEB_1}", "/pods/-/export.ndjson"):
            page = await console.get(path)
            assert page.status == 503 or "Sign in" in page.text, path
        # A service that goes away later is explained in place of the table.
    page = await filled.console.get("/pods")
    assert page.status == 200 and WEB not in page.words

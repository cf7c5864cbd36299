"""The catalogue's pages: lists with filters, orders and pages, and one resource of each kind."""

from __future__ import annotations

import json
import shlex
from itertools import chain, pairwise
from urllib.parse import quote, urlencode

import aiohttp
import pytest
import yaml

from admin_ui.catalogue import address
from tests.console.catalogue import REGIONS, catalogue_client, manifest
from tests.console.harness import Console, Page, console_of


@pytest.fixture
async def operator(catalogue: Console) -> Console:
    await catalogue.sign_in("operator")
    return catalogue


def filtered(path: str, filter: str, **more: str) -> str:
    return f"{path}?{urlencode({'filter': filter, **more})}"


def caret(page: Page) -> tuple[str, str]:
    """The line that is shown of a wrong filter, and what stands in it above the caret."""
    [pre] = page.dom.find("pre", **{"class": "caret"})
    line, marker = pre.text.split("\n")
    assert marker.strip() == "^"
    return line, line[marker.index("^") :]


# --- lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path,count,first",
    [
        ("/regions", 8, "eu-central"),
        ("/services", 6, "billing.example.com"),
        ("/deployments", 15, "jobs"),
        ("/resources", 20, "Account"),
    ],
)
async def test_a_list_shows_its_rows_their_number_and_its_own_commands(
    operator: Console, path: str, count: int, first: str
):
    page = await operator.get(path)
    assert page.rows()[0] == first
    assert len(page.rows()) == min(count, 20)
    assert page.dom.find("span", id="count")[0].text.strip() == str(count)
    assert f"1–{count} of {count}" in page.words
    commands = [e.text for e in page.dom.find("code")]
    assert any(text.startswith("curl -G") and "/v1alpha2/" in text for text in commands)
    assert any(text.startswith("grpcurl") and "ntt.meta.v1alpha2." in text for text in commands)
    assert any(text.startswith("roundhouse list") for text in commands)


async def test_the_commands_of_a_list_do_what_the_page_does(operator: Console):
    """What a shell would make of the curl line, sent by another client."""
    page = await operator.get(filtered("/regions", 'title LIKE "EU%"', order_by="title desc"))
    curl = next(e.text for e in page.dom.find("code") if e.text.startswith("curl -G"))
    words = shlex.split(curl.replace("$META_URL", operator.service.url))
    url = next(word for word in words if word.startswith("http"))
    fields = [word.split("=", 1) for before, word in pairwise(words) if before == "--data-urlencode"]
    headers = {"Authorization": f"Bearer {operator.service.tokens['viewer']}"}
    async with operator.http.get(url, params=dict(fields), headers=headers) as answer:
        listed = [region["name"].split("/")[1] for region in (await answer.json())["regions"]]
    assert listed == page.rows() == ["eu-west", "eu-north", "eu-central"]


async def test_a_filter_is_the_apis_own_and_told_in_words(operator: Console):
    page = await operator.get(filtered("/regions", 'location.cloud = "aws" AND NOT title LIKE "EU%"'))
    assert page.rows() == ["sa-east", "uk", "us-east"]
    assert "Regions whose location cloud is “aws” and not title is like “EU%”." in page.words
    [area] = page.dom.find("textarea", id="filter")
    assert area.text.strip() == 'location.cloud = "aws" AND NOT title LIKE "EU%"'
    page = await operator.get(filtered("/regions", 'metadata.labels.env = "test"'))
    assert page.rows() == ["jp"]


@pytest.mark.parametrize(
    "filter,at",
    [
        ('title = "EU" AND location.citty = "x"', 'citty = "x"'),
        ("title = 'EU'", "'EU'"),
        ("title = ", ""),
        ('title = "日本" AND colour = 1', "colour = 1"),
    ],
)
async def test_a_wrong_filter_has_the_services_words_and_a_caret_under_the_mistake(
    operator: Console, filter: str, at: str
):
    page = await operator.get(filtered("/regions", filter))
    assert page.status == 400
    [area] = page.dom.find("textarea", id="filter")
    assert (area.text.strip(), area.attrs["aria-invalid"]) == (filter.strip(), "true")
    assert "at position" in next(e.text for e in page.dom.find("p", id="filter-error"))
    [pre] = page.dom.find("pre", **{"class": "caret"})
    line, marker = pre.text.split("\n")
    assert line == filter.strip()
    # A wide character takes the place of two; the marker has one as wide below it.
    assert line[len(marker) - 1 :] == at
    assert set(marker[:-1]) <= {" ", "\u3000"} and marker[:-1].count("\u3000") == filter.count("日") * 2
    assert page.dom.find("textarea", id="filter")[0].attrs["data-caret"] == str(len(marker) - 1)
    assert not page.dom.find("table")


async def test_the_caret_of_a_long_filter_of_many_lines_is_on_its_line(operator: Console):
    text = 'title = "a" OR\n' + " OR ".join(f'title = "{n}"' for n in range(60)) + " OR nope = 1"
    page = await operator.get(filtered("/regions", text.replace("\n", "\r\n")))
    line, below = caret(page)
    assert page.status == 400 and line.startswith("…") and below == "nope = 1"
    at = int(page.dom.find("textarea", id="filter")[0].attrs["data-caret"])
    assert text[at:] == "nope = 1"


async def test_columns_sort_by_the_apis_order(operator: Console):
    page = await operator.get("/regions")
    titled = await operator.get(page.dom.link("Title"))
    assert "order_by=title+asc" in titled.url
    assert titled.rows()[:3] == ["eu-central", "eu-north", "eu-west"]
    [heading] = [e for e in titled.dom.find("th") if "aria-sort" in e.attrs]
    assert (heading.text.strip(), heading.attrs["aria-sort"]) == ("Title", "ascending")
    turned = await operator.get(titled.dom.link("Title"))
    assert turned.rows() == titled.rows()[::-1]
    # An order by several fields stays as it is typed.
    both = await operator.get(f"/regions?order_by={quote('location.cloud desc, name asc')}")
    clouds = [REGIONS[id][2] for id in both.rows()]
    assert clouds == sorted(clouds, reverse=True)


async def test_an_order_that_there_is_not_is_told_and_left_out(operator: Console):
    page = await operator.get(filtered("/services", 'current_version = "v1"', order_by="metadata.labels"))
    assert page.status == 200 and "order_by" not in page.url
    assert "cannot be sorted by “metadata.labels”" in page.words
    assert len(page.rows()) == 3


async def test_paging_walks_by_the_apis_tokens_both_ways(operator: Console):
    seen, urls = [], []
    page = await operator.get("/resources?order_by=plural_name&page_size=10")
    while True:
        urls.append(page.url)
        seen.append(page.rows())
        following = page.dom.find("a", rel="next")
        if not following:
            break
        page = await operator.get(following[0].attrs["href"])
    everything = await operator.get("/resources?page_size=100&order_by=plural_name")
    assert list(chain(*seen)) == everything.rows()
    assert [len(rows) for rows in seen] == [10, 10]
    assert "11–20 of 20" in page.words
    back = await operator.get(page.dom.find("a", rel="prev")[0].attrs["href"])
    assert back.rows() == seen[0] and back.url == urls[0]
    assert not back.dom.find("a", rel="prev")


async def test_a_middle_page_has_both_directions_and_the_right_numbers(operator: Console):
    async with catalogue_client(operator.service) as client:
        await client.apply({"regions": [{"name": f"regions/z{n:03}"} for n in range(33)]})
    page = await operator.get(filtered("/regions", 'name != "regions/jp"', page_size="10"))
    pages = [page]
    for _ in range(3):
        pages.append(await operator.get(pages[-1].dom.find("a", rel="next")[0].attrs["href"]))
    assert "31–40 of 40" in pages[-1].words and not pages[-1].dom.find("a", rel="next")
    for earlier, later in zip(pages[-2::-1], pages[:0:-1], strict=True):
        again = await operator.get(later.dom.find("a", rel="prev")[0].attrs["href"])
        assert again.rows() == earlier.rows()
        assert again.dom.find("textarea", id="filter")[0].text.strip() == 'name != "regions/jp"'


@pytest.mark.parametrize("token", ["forged", "r.e.C.cmg=:Zm9v", "%00"])
async def test_a_page_that_is_gone_is_the_first_page_with_a_notice(operator: Console, token: str):
    page = await operator.get(f"/regions?page_token={token}&page_size=50")
    assert (page.status, page.url) == (200, "/regions?page_size=50")
    assert "no longer there" in page.words and len(page.rows()) == 8


async def test_children_are_listed_of_one_parent_or_of_all(operator: Console):
    page = await operator.get("/deployments?parent=eu-west")
    assert page.rows() == ["billing", "jobs", "meta", "pipelines", "pods"]
    assert page.dom.find("input", id="parent")[0].attrs["value"] == "eu-west"
    assert "/v1alpha2/regions/eu-west/deployments" in page.text
    assert (await operator.get("/resources?parent=jobs.example.com")).rows() == ["Job", "Pool", "Workflow"]
    nothing = await operator.get("/deployments?parent=nowhere")
    assert nothing.status == 200 and "There are no deployments of region nowhere." in nothing.words
    wrong = await operator.get("/deployments?parent=a%2Fb")
    assert wrong.status == 400
    assert "is not of the form" in next(e.text for e in wrong.dom.find("p", id="parent-error"))


async def test_an_empty_catalogue_says_how_to_fill_it(meta, tmp_path):
    async with console_of(meta, tmp_path / "c", name="meta") as console:
        await console.sign_in("operator")
        for plural in ("regions", "services", "resources", "deployments"):
            page = await console.get(f"/{plural}")
            assert f"No {plural} yet" in page.words
            assert page.dom.link("Apply a manifest").startswith("/manifest?kind=")
        assert "Nothing matches" in (await console.get(filtered("/regions", 'title = "x"'))).words
        assert "It is empty." in (await console.get("/")).words
        empty = await console.get("/regions/-/connectivity")
        assert empty.status == 200 and "No regions yet" in empty.words


async def test_examples_of_filters_are_filters(operator: Console):
    for plural in ("regions", "services", "resources", "deployments"):
        page = await operator.get(f"/{plural}")
        links = [e for e in page.dom.find("a") if any(parent.tag == "dl" for parent in e.inside)]
        examples = [e.attrs["href"] for e in links if "filter=" in e.attrs["href"]]
        assert len(examples) == 4
        for there in examples:
            assert (await operator.get(there)).status == 200, there


# --- one resource -------------------------------------------------------------------------------


async def test_a_region_shows_where_it_is_how_it_is_connected_and_what_runs_there(operator: Console):
    page = await operator.get("/regions/eu-west")
    for text in ("EU West", "Default", "Europe Ireland Dublin", "aws", "eu-west.example.com", "generation 1"):
        assert text in page.words, text
    # To it and from it, in both directions.
    assert "eu-central 92 90" in page.words and "us-east 61 61" in page.words
    shown = {e.attrs["href"] for e in page.dom.find("a") if "/deployments/" in e.attrs.get("href", "")}
    assert len(shown) == 5 and "/regions/eu-west/deployments/jobs" in shown
    # A label leads to everything that has it.
    labelled = await operator.get(page.dom.link("env"))
    assert len(labelled.rows()) == 7
    as_list = await operator.get(page.dom.link("As a list"))
    assert len(as_list.rows()) == 5
    alone = await operator.get("/regions/jp")
    assert "51" in alone.words and "52" in alone.words


async def test_a_service_shows_its_versions_resources_and_deployments(operator: Console):
    page = await operator.get("/services/jobs.example.com")
    assert "v2 Current v1 v1beta1" in page.words
    assert "Job jobs Regional" in page.words
    links = {e.attrs.get("href", ""): e.text for e in page.dom.find("a")}
    assert [text for href, text in links.items() if href.endswith("/deployments/jobs")] == ["jobs"] * 5
    assert "https://jobs.example.com/docs" in page.words
    [there] = [href for href, text in links.items() if text == "As a list" and "deployments" in href]
    everywhere = await operator.get(there)
    assert len(everywhere.rows()) == 5


async def test_a_deployment_and_a_resource_lead_to_what_they_belong_to(operator: Console):
    page = await operator.get("/regions/jp/deployments/jobs")
    links = {e.attrs.get("href") for e in page.dom.find("a")}
    assert {"/regions/jp", "/services/jobs.example.com"} <= links
    assert (await operator.get(page.dom.link("canary"))).rows() == ["jobs"]
    page = await operator.get("/services/jobs.example.com/resources/Job")
    assert "jobs.example.com/Job" in page.words and "Regional" in page.words
    assert "/services/jobs.example.com" in {e.attrs.get("href") for e in page.dom.find("a")}


async def test_raw_is_the_whole_message(operator: Console):
    page = await operator.get("/services/jobs.example.com/raw?format=json")
    shown = json.loads(next(e.text for e in page.dom.find("pre")))
    assert shown["all_versions"] == ["v2", "v1", "v1beta1"] and shown["metadata"]["uuid"]
    download = await operator.get("/regions/eu-west/deployments/jobs/download.yaml")
    assert yaml.safe_load(download.text)["service"] == "services/jobs.example.com"
    assert download.headers["Content-Disposition"] == 'attachment; filename="jobs.yaml"'
    assert (await operator.get("/regions/jp/download.exe")).status == 404


async def test_history_shows_each_write_with_what_it_changed(operator: Console):
    async with catalogue_client(operator.service) as client:
        await client.region("jp", title="Nippon", metadata={"labels": {"env": "prod", "cloud": "gcp"}})
        await client.region("jp", connectivity_scores=[{"dest": "regions/us-west", "score": 99}])
    page = await operator.get("/regions/jp/history")
    assert page.words.count("by operator") == 3
    gone, came = [[e.text for e in page.dom.find(tag)] for tag in ("del", "ins")]
    # What the server sets with every write says nothing; of maps and lists only what differs is told.
    assert gone == ["dest regions/us-west, score 51", "Japan", "test"]
    assert came == ["dest regions/us-west, score 99", "Nippon", "prod"]
    assert "metadata.labels.env" in page.words and "resource_version" not in page.words
    assert "Created" in page.words and "Applied" not in page.words


async def test_a_long_history_is_paged(operator: Console):
    async with catalogue_client(operator.service) as client:
        for number in range(60):
            await client.region("jp", title=f"title {number}")
    page = await operator.get("/regions/jp/history")
    assert page.words.count("by operator") == 50
    older = await operator.get(page.dom.link("Older"))
    assert older.words.count("by operator") == 11 and "Created" in older.words
    assert older.dom.link("Newest") == "/regions/jp/history"


async def test_a_deleted_one_still_shows_who_deleted_it(operator: Console):
    async with catalogue_client(operator.service, "admin") as client:
        await client.delete("regions/jp/deployments/jobs")
    page = await operator.get("/regions/jp/deployments/jobs")
    assert page.status == 404
    assert "This deployment was deleted" in page.words
    assert "Deleted by admin" in page.words and "Created by operator" in page.words
    assert (await operator.get("/regions/jp/deployments/never")).status == 404


async def test_names_that_are_none_are_told_by_the_service(operator: Console):
    for path in ("/regions/-", "/regions/a%20b", "/services/a%2Fb"):
        page = await operator.get(path)
        assert page.status == 400, path
        assert "The service did not accept that" in page.words


async def test_an_id_of_dots_has_an_address(operator: Console):
    assert address("services/..", "raw") == "/services/~../raw"
    async with catalogue_client(operator.service) as client:
        await client.apply(
            {"services": [{"name": "services/..", "current_version": "v1", "all_versions": ["v1"]}]}
        )
    page = await operator.get(filtered("/services", 'name = "services/.."'))
    assert page.rows() == [".."]
    there = next(e.attrs["href"] for e in page.dom.find("a") if "data-open" in e.attrs)
    assert "services/.." in (await operator.get(there)).words


async def test_commands_of_one_are_complete(operator: Console):
    words = (await operator.get("/regions/eu-west/commands")).words
    for text in (
        "/v1alpha2/regions/eu-west",
        "RegionService/GetRegion",
        "roundhouse get region regions/eu-west -o yaml",
        ":watch",
    ):
        assert text in words


# --- when things fail ---------------------------------------------------------------------------


async def test_a_service_that_is_down_is_told_in_place_with_what_was_typed(
    catalogue: Console, tmp_path, unused_tcp_port: int
):
    await catalogue.sign_in("operator")
    cookies = {cookie.key: cookie.value for cookie in catalogue.http.cookie_jar}
    target = f"127.0.0.1:{unused_tcp_port}"
    async with console_of(catalogue.service, tmp_path / "console", name="meta", target=target) as alone:
        for path in ("/regions", "/regions/-/connectivity"):
            page = await alone.get(filtered(path, 'title = "x"'), cookies=cookies)
            assert page.status == 503
            assert "The service does not answer" in page.words
            assert page.dom.find("textarea", id="filter")[0].text.strip() == 'title = "x"'
            assert "data-retry" in page.text
        one = await alone.get("/regions/jp", cookies=cookies)
        assert one.status == 503 and 'http-equiv="refresh"' in one.text
        home = await alone.get("/", cookies=cookies)
        assert home.status == 200 and "– regions" in home.words
        form = aiohttp.FormData({"text": "regions: []", "action": "preview"})
        kept = await alone.post("/manifest", form, cookies=cookies)
        assert kept.status == 503 and "regions: []" in kept.text


async def test_a_floor_that_is_not_enabled_is_not_there(operator: Console, console: Console):
    await console.sign_in("operator")
    page = await console.get("/")
    assert not {"/regions", "/services", "/deployments"} & {e.attrs.get("href") for e in page.dom.find("a")}
    assert "Catalogue" not in page.words
    assert (await console.get("/regions")).status == 503
    page = await operator.get("/")
    assert "/experiments" not in {e.attrs.get("href") for e in page.dom.find("a")}


async def test_home_counts_the_catalogue_and_tells_what_happened(catalogue: Console):
    await catalogue.sign_in("admin")
    page = await catalogue.get("/")
    assert "8 regions 6 services 20 resources 15 deployments" in page.words
    assert "Meta" in page.words and catalogue.service.target in page.words
    assert "Applied" in page.words and "and 48 more" in page.words
    trail = await catalogue.get("/activity")
    assert "region eu-west" in trail.words and "and 46 more" in trail.words
    assert (await catalogue.get("/activity?store=access")).status == 200


async def test_a_list_page_is_small(operator: Console):
    page = await operator.get("/resources")
    assert len(page.rows()) == 20 and len(page.text.encode()) < 60_000
    assert len(manifest()["resources"]) == 20

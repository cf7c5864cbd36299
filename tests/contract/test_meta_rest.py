"""The catalogue over REST: routes, parameters, JSON, errors and streams (docs/apis/meta.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from google.protobuf import json_format

from tests.contract.meta_seed import REGION_NAMES, SEED
from tests.contract.meta_yard import APIS, BACKENDS, BASE, Yard, numbered, opened
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("meta-rest")]
EU = "regions/eu-west"
JOBS = "services/jobs.example.com"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("meta"), request.param) as found:
        await found.apply(**SEED)
        yield found


async def ok(yard: Yard, path: str, verb: str = "GET", **query: Any) -> Any:
    status, body = await yard.rest(verb, BASE + path, **query)
    assert status == 200, body
    return body


async def refused(
    yard: Yard, path: str, word: str, verb: str = "GET", body: Any = None, **query: Any
) -> None:
    """400 with google.rpc.Status as JSON, saying `word`."""
    status, found = await yard.rest(verb, BASE + path, body, **query)
    assert (status, found["code"]) == (400, 3), found
    assert set(found) == {"code", "message", "details"}
    assert word in found["message"], found["message"]


# -- routes


ROUTES = {
    "/regions/eu-west": EU,
    "/regions/eu-west/deployments/jobs": f"{EU}/deployments/jobs",
    "/services/jobs.example.com": JOBS,
    "/services/jobs.example.com/resources/Job": f"{JOBS}/resources/Job",
}


@pytest.mark.parametrize("path", ROUTES)
async def test_get(yard: Yard, path: str) -> None:
    kind = {2: {"regions": "region", "services": "service"}}.get(path.count("/"), {}).get(path.split("/")[1])
    kind = kind or {"deployments": "deployment", "resources": "resource"}[path.split("/")[3]]
    found = await ok(yard, path)
    assert found["name"] == ROUTES[path]
    assert json_format.ParseDict(found, type(await yard.get(kind, found["name"]))()) == await yard.get(
        kind, found["name"]
    )


async def test_batch_get(yard: Yard) -> None:
    names = ["regions/us-east", "regions/zz", EU]
    found = await ok(yard, "/regions:batchGet", names=names)
    assert [region["name"] for region in found["regions"]] == ["regions/us-east", EU]
    assert found["missing"] == ["regions/zz"]
    assert await ok(yard, "/regions:batchGet") == {}
    for xs, name in (("deployments", f"{EU}/deployments/jobs"), ("resources", f"{JOBS}/resources/Job")):
        found = await ok(yard, f"/{xs}:batchGet", names=[name])
        assert [one["name"] for one in found[xs]] == [name]
    # Batch bindings carry no parent even for child collections.
    status, _ = await yard.rest("GET", f"{BASE}/{EU}/deployments:batchGet")
    assert status == 404


async def test_list(yard: Yard) -> None:
    found = await ok(yard, "/regions")
    assert [region["name"] for region in found["regions"]] == REGION_NAMES
    for path, xs, count in (
        ("/services", "services", 2),
        (f"/{EU}/deployments", "deployments", 2),
        ("/regions/-/deployments", "deployments", 4),
        (f"/{JOBS}/resources", "resources", 2),
        ("/services/-/resources", "resources", 3),
    ):
        assert len((await ok(yard, path))[xs]) == count
    assert await ok(yard, "/regions/unknown/deployments") == {}


async def test_no_other_verbs(yard: Yard) -> None:
    for verb, path in (
        ("POST", "/regions"),
        ("DELETE", f"/{EU}"),
        ("PATCH", f"/{EU}"),
        ("PUT", f"/{EU}"),
        ("GET", "/regions:watch"),
        ("POST", "/regions:batchGet"),
    ):
        status, body = await yard.rest(verb, BASE + path)
        assert status in (404, 405), (verb, path, body)
    for path in ("", "/", "/things", "/deployments", "/resources", "/regions/a/b/c/d"):
        assert (await yard.rest("GET", BASE + path))[0] == 404


# -- parameters


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"page_size": "2"}, REGION_NAMES[:2]),
        ({"pageSize": "2"}, REGION_NAMES[:2]),
        ({"order_by": "name desc"}, REGION_NAMES[::-1]),
        ({"orderBy": "name desc"}, REGION_NAMES[::-1]),
        ({"filter": 'title != "" AND NOT is_default = TRUE'}, ["regions/ap-south", "regions/us-east"]),
        ({"filter": 'metadata.labels.env = "prod"', "page_size": "1"}, [EU]),
        ({"view": "NAME"}, REGION_NAMES),
        ({"view": "1"}, REGION_NAMES),
        ({"field_mask": "name"}, REGION_NAMES),
    ],
)
async def test_parameters_in_both_spellings(yard: Yard, query: dict[str, str], names: list[str]) -> None:
    found = await ok(yard, "/regions", **query)
    assert [region["name"] for region in found["regions"]] == names
    if set(query) & {"view", "field_mask"}:
        assert all(set(region) == {"name"} for region in found["regions"])


async def test_a_mask_is_one_text_with_commas(yard: Yard) -> None:
    for query in ({"field_mask": "title,metadata.labels"}, {"fieldMask": "title,metadata.labels"}):
        found = await ok(yard, f"/{EU}", **query)
        assert set(found) == {"name", "title", "metadata"} and set(found["metadata"]) == {"labels"}
    assert set(await ok(yard, f"/{EU}", field_mask="isDefault")) == {"name", "isDefault"}


async def test_paging_over_rest(yard: Yard) -> None:
    page = await ok(yard, "/regions", page_size=3, includePagingInfo="true")
    assert page["totalResultsCount"] == 4 and "currentOffset" not in page
    page = await ok(
        yard, "/regions", page_size=3, page_token=page["nextPageToken"], include_paging_info="true"
    )
    assert (page["currentOffset"], [region["name"] for region in page["regions"]]) == (3, REGION_NAMES[3:])
    back = await ok(yard, "/regions", page_size=3, pageToken=page["prevPageToken"])
    assert [region["name"] for region in back["regions"]] == REGION_NAMES[:3]


async def test_what_is_wrong_is_400(yard: Yard) -> None:
    await refused(yard, "/regions", "nothing", nothing="1")
    await refused(yard, "/regions", "page_size", page_size="many")
    await refused(yard, "/regions", "page_size", page_size="-1")
    await refused(yard, "/regions", "page_size", page_size=str(2**31))
    await refused(yard, "/regions", "view", view="WIDE")
    await refused(yard, "/regions", "view", view="7")
    await refused(yard, "/regions", "include_paging_info", include_paging_info="yes")
    await refused(yard, "/regions", "filter", filter="title = 1")
    await refused(yard, "/regions", "order_by", order_by="nothing")
    await refused(yard, "/regions", "page_token", page_token="x")
    await refused(yard, f"/{EU}", "nothing", field_mask="nothing")
    await refused(yard, "/regions/-", "fully qualified")
    await refused(yard, "/regions/a%20b", "regions/")
    await refused(yard, "/regions:batchGet", "names[0]", names=["regions/-"])
    await refused(
        yard, "/regions:watch", "starting_time", "POST", type="STATELESS", starting_time="yesterday"
    )
    await refused(yard, "/regions:watch", "type", "POST", type="SOMETIMES")
    await refused(yard, "/regions:watch", "max_chunk_size", "POST", max_chunk_size="101")


async def test_ids_may_be_percent_encoded(yard: Yard) -> None:
    assert (await ok(yard, "/regions/eu%2Dwest"))["name"] == EU
    name = "regions/us-east/deployments/_.odd-1"
    assert (await ok(yard, "/regions/us%2Deast/deployments/%5F%2Eodd-1"))["name"] == name
    # A star is exactly one segment: an encoded slash is part of the id, which then is malformed.
    await refused(yard, "/regions/eu-west%2Fdeployments%2Fjobs", "regions/")


async def test_json(yard: Yard) -> None:
    found = await ok(yard, f"/{EU}")
    assert found["isDefault"] is True
    assert found["metadata"]["generation"] == "1", "int64 is text"
    assert found["metadata"]["shards"] == {"s0": "4"}
    assert found["metadata"]["lifecycle"] == {"state": "ACTIVE"}
    assert found["metadata"]["createTime"].endswith("Z")
    assert "isDefault" not in await ok(yard, "/regions/us-east"), "what is unset is left out"
    assert (await ok(yard, "/regions/us-east"))["location"] == {}


async def test_errors(yard: Yard) -> None:
    status, body = await yard.rest("GET", f"{BASE}/regions/none")
    assert (status, body["code"]) == (404, 5) and "regions/none" in body["message"]
    status, body = await yard.rest("GET", f"{BASE}/{EU}", who="")
    assert (status, body["code"]) == (401, 16)
    status, body = await yard.rest("GET", f"{BASE}/regions", who="nonsense")
    assert (status, body["code"]) == (401, 16)
    assert isinstance(body["details"], list)


async def test_who_may_not_and_too_many_have_statuses_of_their_own(tmp_path: Path) -> None:
    async with opened(tmp_path, max_streams=1) as yard, yard.watch("region") as stream:
        status, body = await yard.rest("POST", "/admin/v1/apply", {"manifest": ""})
        assert (status, body["code"]) == (403, 7)
        await stream.change_set()
        status, body = await yard.rest("POST", f"{BASE}/regions:watch")
        assert (status, body["code"]) == (429, 8)
        status, body = await yard.rest("DELETE", "/admin/v1/region?name=regions/none", who="operator")
        assert (status, body["code"]) == (404, 5)
        await yard.apply(
            regions=numbered(1),
            services=[{"name": "services/a", "current_version": "v", "all_versions": ["v"]}],
            deployments=[{"name": "regions/r000/deployments/a", "service": "services/a"}],
        )
        status, body = await yard.rest("DELETE", "/admin/v1/region?name=regions/r000", who="operator")
        assert (status, body["code"]) == (400, 9), "FAILED_PRECONDITION"
        assert "regions/r000/deployments/a" in body["message"]


# -- streams


async def lines(yard: Yard, count: int, path: str, *, body: Any = None, **query: Any) -> list[Any]:
    """The first lines of a stream."""
    headers = dict(yard.metadata())
    data = None if body is None else json.dumps(body).encode()
    async with (
        asyncio.timeout(PATIENCE),
        yard.http.post(yard.url(BASE + path, **query), headers=headers, data=data) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        return [json.loads(await answer.content.readline()) for _ in range(count)]


async def test_a_stream_is_one_object_a_line(yard: Yard) -> None:
    found = await lines(yard, 2, "/regions:watch", type="STATELESS", max_chunk_size=3)
    assert [set(line) for line in found] == [{"result"}] * 2
    first, last = (line["result"] for line in found)
    assert (first["snapshotSize"], last["snapshotSize"]) == ("-1", "-1")
    assert "isCurrent" not in first and last["isCurrent"] is True and last["resumeToken"]
    names = [
        change["current"]["region"]["name"] for part in (first, last) for change in part["regionChanges"]
    ]
    assert sorted(names) == REGION_NAMES


async def test_every_watch_has_a_route(yard: Yard) -> None:
    for path, kind, count in (
        ("/regions:watch", "region", 4),
        ("/services:watch", "service", 2),
        (f"/{EU}/deployments:watch", "deployment", 2),
        ("/regions/-/deployments:watch", "deployment", 4),
        (f"/{JOBS}/resources:watch", "resource", 2),
        ("/services/-/resources:watch", "resource", 3),
    ):
        (line,) = await lines(yard, 1, path)
        assert len(line["result"][f"{kind}Changes"]) == count
        assert line["result"]["isCurrent"] is True
    for path, name in ROUTES.items():
        (line,) = await lines(yard, 1, f"{path}:watch")
        (resource,) = line["result"]["change"]["added"].values()
        assert resource["name"] == name


async def test_a_body_is_the_request_and_path_and_query_win(yard: Yard) -> None:
    (line,) = await lines(
        yard, 1, "/regions:watch", body={"type": "STATELESS", "filter": "is_default = TRUE"}
    )
    assert len(line["result"]["regionChanges"]) == 1 and line["result"]["resumeToken"]
    (line,) = await lines(yard, 1, "/regions:watch", body={"pageSize": 3, "orderBy": "title"}, page_size=2)
    assert len(line["result"]["regionChanges"]) == 2
    body = {"parent": "regions/us-east"}
    (line,) = await lines(yard, 1, f"/{EU}/deployments:watch", body=body)
    names = [change["added"]["deployment"]["name"] for change in line["result"]["deploymentChanges"]]
    assert names and all(name.startswith(f"{EU}/") for name in names)
    (line,) = await lines(yard, 1, "/regions:watch", body={})
    assert len(line["result"]["regionChanges"]) == 4
    for wrong in ([], {"nothing": 1}, {"pageSize": "many"}, 7):
        status, found = await yard.rest("POST", f"{BASE}/regions:watch", wrong)
        assert (status, found["code"]) == (400, 3)
    status, found = await yard.rest("POST", f"{BASE}/regions:watch", b"{")
    assert (status, found["code"]) == (400, 3)


async def test_a_failure_before_the_first_message_is_an_http_error(yard: Yard) -> None:
    await refused(yard, "/regions:watch", "order_by", "POST", type="STATELESS", order_by="title")
    status, body = await yard.rest("POST", f"{BASE}/regions/none:watch")
    assert (status, body["code"]) == (404, 5)
    status, body = await yard.rest("POST", f"{BASE}/regions:watch", who="")
    assert (status, body["code"]) == (401, 16)


@pytest.mark.parametrize("path", ["/regions:watch", "/regions:watch?type=STATELESS", "/regions/r000:watch"])
async def test_a_failure_later_is_the_last_line(tmp_path: Path, path: str) -> None:
    async with opened(tmp_path) as yard:
        await yard.apply(regions=numbered(1))
        headers = dict(yard.metadata())
        async with yard.http.post(yard.service.url + BASE + path, headers=headers) as answer:
            assert "result" in json.loads(await answer.content.readline())
            await yard.service.running.environment.tailer.__aexit__(None, None, None)
            last = json.loads(await answer.content.readline())
            assert set(last) == {"error"}
            assert last["error"]["code"] == 14 and last["error"]["message"]
            assert isinstance(last["error"]["details"], list)
            assert await answer.content.read() == b""


async def test_live_changes_and_resuming_over_rest(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        await yard.apply(regions=numbered(1))
        url = yard.url(f"{BASE}/regions:watch", type="STATELESS", field_mask="title")
        async with yard.http.post(url, headers=dict(yard.metadata())) as answer:
            first = json.loads(await answer.content.readline())["result"]
            await yard.apply(regions=numbered(1, title="new"))
            (change,) = json.loads(await answer.content.readline())["result"]["regionChanges"]
            assert change["current"]["region"] == {"name": "regions/r000", "title": "new"}
        token = first["resumeToken"]
        (line,) = await lines(
            yard, 1, "/regions:watch", type="STATELESS", field_mask="title", resume_token=token
        )
        assert line["result"]["regionChanges"] == [change]
        (line,) = await lines(
            yard, 1, "/regions:watch", type="STATELESS", startingTime="2026-01-01T00:00:00+01:00"
        )
        assert line["result"]["isCurrent"] is True and "regionChanges" not in line["result"]


async def test_a_client_that_leaves_ends_its_watch(tmp_path: Path) -> None:
    async with opened(tmp_path, max_streams=1) as yard:
        for _ in range(3):
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        await lines(yard, 1, "/regions:watch")
                        break
                    except AssertionError as error:
                        assert "streams already" in str(error)  # the one before is just ending


async def test_events(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        await yard.apply(regions=numbered(2))
        url = yard.url(f"{BASE}/regions:watch", type="STATELESS")
        headers = {**dict(yard.metadata()), "Accept": "text/event-stream"}

        async def event(answer: aiohttp.ClientResponse) -> dict[str, str]:
            found: dict[str, str] = {}
            while line := (await answer.content.readline()).decode().rstrip("\n"):
                field, _, value = line.partition(": ")
                found[field] = value
            return found

        async with asyncio.timeout(PATIENCE), yard.http.post(url, headers=headers) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            first = await event(answer)
            assert len(json.loads(first["data"])["regionChanges"]) == 2
            assert first["id"] == json.loads(first["data"])["resumeToken"]
        await yard.delete("region", "regions/r000")
        # A browser sends the last id by itself.
        again = {**headers, "Last-Event-ID": first["id"]}
        async with asyncio.timeout(PATIENCE), yard.http.post(url, headers=again) as answer:
            second = await event(answer)
        assert json.loads(second["data"])["regionChanges"] == [{"removed": {"name": "regions/r000"}}]


async def test_openapi_has_every_route(yard: Yard) -> None:
    status, document = await yard.rest("GET", "/openapi.json")
    assert status == 200
    operations = {
        f"{verb} {path}"
        for path, found in document["paths"].items()
        if path.startswith(BASE)
        for verb in found
        if verb in ("get", "post")
    }
    assert len(operations) == 20
    assert len(APIS) * 5 == 20

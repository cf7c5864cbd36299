"""ClientService over REST, by its annotations: every method, masks, nulls, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from grpc import StatusCode

from tests.contract.jumpstarter_yard import Lab, Yard, as_json, opened

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jumpstarter-rest")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def lab(yard: Yard) -> Lab:
    found = await yard.lab()
    await found.exporter("bench", board="rpi")
    return found


def bearer(lab: Lab) -> dict[str, str]:
    """A token is enough: it says who calls."""
    return {"authorization": lab.alice.metadata["authorization"]}


async def test_a_walk(lab: Lab) -> None:
    rest, who, base = lab.yard.rest, bearer(lab), f"/v1/{lab.parent}"

    board = (await rest("GET", f"{base}/exporters/bench", who=who)).ok
    assert board == {
        "name": f"{lab.parent}/exporters/bench",
        "labels": {"board": "rpi"},
        "online": True,
        "status": "EXPORTER_STATUS_AVAILABLE",
        "statusMessage": "",
        "enabled": True,
        "deprecatedLabels": {},
    }
    query = {"filter": "board in (rpi,x)", "pageSize": 10, "showHiddenLabels": "true"}
    assert (await rest("GET", f"{base}/exporters", who=who, **query)).ok == {
        "exporters": [board],
        "nextPageToken": "",
    }

    wanted = {"selector": "board==rpi", "duration": "300s", "tags": {"ci": "1"}, "exporterName": ""}
    made = (await rest("POST", f"{base}/leases", wanted, who=who, leaseId="mine")).ok
    assert made == (await rest("GET", f"{base}/leases/mine", who=who)).ok
    assert (made["name"], made["selector"], made["duration"]) == (
        lab.lease_name("mine"),
        "board=rpi",
        "300s",
    )
    assert made["exporter"] == f"{lab.parent}/exporters/bench"
    assert made["effectiveBeginTime"].endswith("Z")
    assert {key for key, value in made.items() if value is None} == {
        "beginTime",
        "endTime",
        "effectiveEndTime",
        "exporterName",
    }
    assert made["conditions"][0]["reason"] == "Ready"

    second = (
        await rest("POST", f"{base}/leases", {"exporter_name": "bench", "duration": "60.5s"}, who=who)
    ).ok
    assert (second["selector"], second["exporter"], second["duration"]) == ("<none>", None, "60.500s")
    listed = (await rest("GET", f"{base}/leases", who=who, tagFilter="ci", onlyActive="true")).ok
    assert [one["name"] for one in listed["leases"]] == [made["name"]]

    patched = (await rest("PATCH", f"{base}/leases/mine", {"duration": "600s"}, who=who)).ok
    assert (patched["duration"], patched["tags"]) == ("600s", {"ci": "1"})
    assert (await rest("DELETE", f"{base}/leases/mine", who=who)).ok == {}
    assert [one["name"] for one in (await rest("GET", f"{base}/leases", who=who)).ok["leases"]] == [
        second["name"]
    ]
    every = (await rest("GET", f"{base}/leases", who=who, only_active="false", page_size=1)).ok
    assert len(every["leases"]) == 1 and every["nextPageToken"]
    rest_of = (
        await rest("GET", f"{base}/leases", who=who, onlyActive="false", pageToken=every["nextPageToken"])
    ).ok
    assert len(rest_of["leases"]) == 1 and not rest_of["nextPageToken"]

    rotated = (await rest("POST", f"{base}/rotate-token", {}, who=who)).ok
    again = {"authorization": f"Bearer {rotated['token']}"}
    assert (await rest("GET", f"{base}/exporters", who=again)).ok["exporters"] == [board]
    assert rotated["expiry"].endswith("Z")
    assert (await rest("POST", f"{base}/rotate-token", who=who)).ok["token"] != rotated["token"]


async def test_both_transports_answer_the_same(lab: Lab) -> None:
    made = await lab.create("board=rpi", id="mine", tags={"a": "b"})
    over_rest = (await lab.yard.rest("GET", f"/v1/{made.name}", who=bearer(lab))).ok
    assert {key: value for key, value in over_rest.items() if value not in (None, False, {})} == as_json(
        await lab.get("mine")
    )


async def test_a_patch_changes_what_its_body_or_its_mask_names(lab: Lab) -> None:
    later = lab.yard.clock() + 10**13
    await lab.create("board=rpi", id="mine", begin_time=later)
    path = f"/v1/{lab.lease_name('mine')}"

    async def patch(body: object, **query: str) -> tuple[str, str | None]:
        found = (await lab.yard.rest("PATCH", path, body, who=bearer(lab), **query)).ok
        return found["duration"], found["beginTime"]

    begin = (await patch({}))[1]
    assert begin is not None
    assert await patch({"duration": "60s"}) == ("60s", begin)
    assert await patch({"duration": "70s", "name": "ignored"}) == ("70s", begin), "the path has the name"
    body = {"duration": "80s", "beginTime": "2030-01-01T00:00:00Z"}
    assert await patch(body, updateMask="duration") == ("80s", begin)
    assert await patch(body, updateMask="duration,beginTime") == ("80s", "2030-01-01T00:00:00Z")
    assert await patch({"begin_time": "2031-01-01T00:00:00.5Z"}) == ("80s", "2031-01-01T00:00:00.500Z")
    assert await patch({"beginTime": None}) == ("80s", None), "null is named, too: it unsets"
    wrong = await lab.yard.rest("PATCH", path, {"selector": "x", "duration": "1s"}, who=bearer(lab))
    wrong.is_error(400, StatusCode.INVALID_ARGUMENT, "update_mask", "'selector'")
    wrong = await lab.yard.rest("PATCH", path, {}, who=bearer(lab), updateMask="tags")
    wrong.is_error(400, StatusCode.INVALID_ARGUMENT, "update_mask")


async def test_a_transfer(lab: Lab) -> None:
    bob = await lab.client("bob")
    await lab.create("board=rpi", id="mine")
    path = f"/v1/{lab.lease_name('mine')}"
    assert (await lab.yard.rest("PATCH", path, {"client": bob.name}, who=bearer(lab))).ok[
        "client"
    ] == bob.name
    wrong = await lab.yard.rest("PATCH", path, {"duration": "1s"}, who=bearer(lab))
    wrong.is_error(403, StatusCode.PERMISSION_DENIED, "permission denied")


async def test_errors(lab: Lab) -> None:
    rest, who, base = lab.yard.rest, bearer(lab), f"/v1/{lab.parent}"
    missing = await rest("GET", f"{base}/leases/none", who=who)
    missing.is_error(404, StatusCode.NOT_FOUND, "leases/none")
    assert {one["@type"].rpartition(".")[2] for one in missing.body["details"]} >= {
        "ResourceInfo",
        "ErrorInfo",
    }
    bad = await rest("GET", f"{base}/exporters", who=who, filter="a in ()")
    bad.is_error(400, StatusCode.INVALID_ARGUMENT, "filter: at position 6")
    (violations,) = [one for one in bad.body["details"] if "fieldViolations" in one]
    assert violations["fieldViolations"][0]["field"] == "filter"
    taken = {"selector": "board=rpi", "duration": "1s"}
    assert (await rest("POST", f"{base}/leases", taken, who=who, lease_id="a")).ok
    clash = await rest("POST", f"{base}/leases", taken, who=who, lease_id="a")
    clash.is_error(409, StatusCode.ALREADY_EXISTS)
    assert (await rest("DELETE", f"{base}/leases/a", who=who)).ok == {}
    gone = await rest("DELETE", f"{base}/leases/a", who=who)
    gone.is_error(400, StatusCode.FAILED_PRECONDITION)
    (await rest("GET", f"{base}/exporters", who={})).is_error(401, StatusCode.UNAUTHENTICATED)
    elsewhere = await rest("GET", "/v1/namespaces/elsewhere/exporters", who=who)
    elsewhere.is_error(403, StatusCode.PERMISSION_DENIED, "namespace mismatch")
    odd = await rest("GET", "/v1/namespaces/A/exporters", who=who)
    odd.is_error(400, StatusCode.INVALID_ARGUMENT, "parent", "DNS-1123")


async def test_every_route_is_described(lab: Lab) -> None:
    paths = (await lab.yard.rest("GET", "/openapi.json", who=lab.yard.staff("viewer"))).ok["paths"]
    routes = {
        (verb.upper(), path) for path, verbs in paths.items() if path.startswith("/v1/") for verb in verbs
    }
    assert len(routes) == 8

"""Names, views, masks, Get and BatchGet of the catalogue (docs/apis/meta.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from tests.contract.meta_seed import REGION_NAMES, SEED
from tests.contract.meta_yard import APIS, BACKENDS, Yard, numbered, opened, rows_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("meta-reads")]
EU = "regions/eu-west"
JOBS = "services/jobs.example.com"
UNSPECIFIED, NAME, BASIC, DETAIL, FULL = range(5)
# A name of each kind that is stored.
ONE = {
    "region": EU,
    "deployment": f"{EU}/deployments/jobs",
    "service": JOBS,
    "resource": f"{JOBS}/resources/Job",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Yard]:
    data: Path = tmp_path_factory.mktemp("meta")
    async with opened(data, request.param) as found:
        await found.apply(**SEED)
        yield found


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


# -- names

UNKNOWN = {
    "region": ["regions/x", "regions/A_b.c-d", "regions/9", "regions/" + "x" * 128, "regions/_"],
    "deployment": [f"{EU}/deployments/none", "regions/none/deployments/jobs", f"{EU}/deployments/--"],
    "service": ["services/none", "services/-.-", "services/" + "s" * 128],
    "resource": [f"{JOBS}/resources/none", "services/none/resources/Job"],
}
MALFORMED = {
    "region": [
        "",
        "regions",
        "regions/",
        "Regions/eu-west",
        "regions/.x",
        "regions/a b",
        "regions/a/b",
        "regions/" + "x" * 129,
        "regions/caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        "regions/eu-west\n",
        "//meta/regions/eu-west",
        JOBS,
    ],
    "deployment": [
        "",
        EU,
        f"{EU}/deployments/",
        f"{EU}/deployments/a,b",
        f"{EU}/deployments/" + "x" * 129,
        "regions//deployments/x",
        f"{EU}/deployments/x/",
    ],
    "service": ["", "services/", "services/a_b", "services/" + "s" * 129, EU],
    "resource": [
        "",
        JOBS,
        f"{JOBS}/resources/Job1",
        f"{JOBS}/resources/a-b",
        f"{JOBS}/resources/" + "x" * 129,
    ],
}
WILD = {
    "region": ["regions/-"],
    "deployment": [f"{EU}/deployments/-", "regions/-/deployments/jobs", "regions/-/deployments/-"],
    "service": ["services/-"],
    "resource": [f"{JOBS}/resources/-", "services/-/resources/Job"],
}


@pytest.mark.parametrize("kind", APIS)
async def test_a_stored_name_is_found_by_all_that_take_a_name(yard: Yard, kind: str) -> None:
    name = ONE[kind]
    assert (await yard.get(kind, name)).name == name
    assert [row.name for row in rows_of(await yard.call(kind, "BatchGet", names=[name]))] == [name]
    async with yard.watch_one(kind, name) as stream:
        part = (await stream.message()).change.added
        assert getattr(part, kind).name == name


@pytest.mark.parametrize("kind", APIS)
async def test_a_well_formed_name_that_is_not_stored_is_not_found(yard: Yard, kind: str) -> None:
    for name in UNKNOWN[kind]:
        failure = await yard.fails(kind, "Get", StatusCode.NOT_FOUND, name=name)
        assert failure.resource_type == kind
        assert name.startswith(failure.resource_name.removesuffix("…")) and failure.resource_name
        await yard.fails(kind, "Watch", StatusCode.NOT_FOUND, name=name)
    assert list((await yard.call(kind, "BatchGet", names=UNKNOWN[kind])).missing) == UNKNOWN[kind]


@pytest.mark.parametrize("kind", APIS)
async def test_a_malformed_name_is_invalid(yard: Yard, kind: str) -> None:
    for name in MALFORMED[kind]:
        await yard.refused(kind, "Get", "name", name=name)
        await yard.refused(kind, "Watch", "name", name=name)
        await yard.refused(kind, "BatchGet", "names[1]", names=[ONE[kind], name])


@pytest.mark.parametrize("kind", APIS)
async def test_a_wildcard_names_no_single_resource(yard: Yard, kind: str) -> None:
    for name in WILD[kind]:
        for verb, asked in (("Get", {"name": name}), ("Watch", {"name": name})):
            failure = await yard.refused(kind, verb, "name", **asked)
            assert "not fully qualified" in failure.message
        failure = await yard.refused(kind, "BatchGet", "names[0]", names=[name])
        assert "not fully qualified" in failure.message


async def test_matching_is_case_sensitive(yard: Yard) -> None:
    await yard.fails("region", "Get", StatusCode.NOT_FOUND, name="regions/EU-West")
    await yard.fails("resource", "Get", StatusCode.NOT_FOUND, name=f"{JOBS}/resources/job")


async def test_the_longest_and_oddest_ids_that_are_stored(tmp_path: Path, backend: str) -> None:
    """Each is found by its name, listed, and the place of a page token."""
    region, service = "regions/a-0" + "b" * 27, "services/-." + "S" * 126
    longest = {
        "region": [region, "regions/a0"],
        "service": [service, "services/--", "services/.", "services/A", "services/a"],
        "deployment": [
            f"{region}/deployments/{id}" for id in ("--", "..", "A", "_.-" + "x" * 125, "__", "a")
        ],
        "resource": [f"{service}/resources/{id}" for id in ("J", "Job", "Z" * 128, "job")],
    }
    lists: dict[str, list[dict[str, Any]]] = {
        f"{kind}s": [{"name": name} for name in names] for kind, names in longest.items()
    }
    for item in lists["services"]:
        item |= {"current_version": "v", "all_versions": ["v"]}
    for item in lists["deployments"]:
        item["service"] = service
    async with opened(tmp_path, backend) as yard:
        await yard.apply(**lists)
        for kind, names in longest.items():
            parent = {"deployment": {"parent": region}, "resource": {"parent": service}}.get(kind, {})
            assert await yard.names(kind, **parent) == sorted(names)
            walked, token = [], ""
            for name in sorted(names):
                assert (await yard.get(kind, name)).name == name
                page = await yard.list(kind, page_size=1, page_token=token, **parent)
                walked.append(rows_of(page)[0].name)
                token = page.next_page_token
            assert (walked, token) == (sorted(names), "")


@pytest.mark.parametrize(
    ("kind", "wild", "one"), [("deployment", "regions/-", EU), ("resource", "services/-", JOBS)]
)
async def test_parents(yard: Yard, kind: str, wild: str, one: str) -> None:
    everything = await yard.names(kind, parent=wild)
    assert everything == sorted(item["name"] for item in SEED[f"{kind}s"])
    below = await yard.names(kind, parent=one)
    assert below == [name for name in everything if name.startswith(f"{one}/")]
    assert 0 < len(below) < len(everything)
    async with yard.watch(kind, parent=one) as stream:
        assert [getattr(change.added, kind).name for change in await stream.changes()] == below
    unknown = wild.replace("-", "unknown")
    assert await yard.names(kind, parent=unknown) == []
    async with yard.watch(kind, parent=unknown) as stream:
        assert await stream.changes() == []
    for wrong in (
        "",
        "-",
        "x",
        f"{one}/",
        f"{one}/{kind}s/-",
        wild.replace("-", "a b"),
        wild.replace("/", ""),
    ):
        await yard.refused(kind, "List", "parent", parent=wrong)
        for type in (0, 1):
            await yard.refused(kind, "WatchMany", "parent", parent=wrong, type=type)


# -- views and masks

EVERYTHING = {"name", "title", "domain", "location", "is_default", "connectivity_scores", "metadata"}
# view, mask, the top-level fields that are shown of the region EU
SHOWN: list[tuple[int, list[str] | None, set[str]]] = [
    (UNSPECIFIED, None, EVERYTHING),
    (BASIC, None, EVERYTHING),
    (DETAIL, None, EVERYTHING),
    (FULL, None, EVERYTHING),
    (NAME, None, {"name"}),
    (UNSPECIFIED, [], EVERYTHING),
    (NAME, [], {"name"}),
    (UNSPECIFIED, ["title"], {"name", "title"}),
    (BASIC, ["title"], {"name", "title"}),
    (DETAIL, ["title", "domain"], {"name", "title", "domain"}),
    (NAME, ["title"], {"name", "title"}),
    (FULL, ["title"], EVERYTHING),
    (UNSPECIFIED, ["*"], EVERYTHING),
    (NAME, ["*"], EVERYTHING),
    (BASIC, ["title", "*"], EVERYTHING),
    (UNSPECIFIED, ["name"], {"name"}),
]


def shown(message: Any) -> set[str]:
    return {field.name for field, _ in message.ListFields()}


@pytest.mark.parametrize(("view", "mask", "fields"), SHOWN)
async def test_views_and_masks_of_every_method(
    yard: Yard, view: int, mask: list[str] | None, fields: set[str]
) -> None:
    asked: dict[str, Any] = {"view": view}
    if mask is not None:
        asked["field_mask"] = FieldMask(paths=mask)
    found = [await yard.get("region", EU, **asked)]
    found += rows_of(await yard.call("region", "BatchGet", names=[EU], **asked))
    found += await yard.rows("region", filter=f'name = "{EU}"', **asked)
    async with yard.watch_one("region", EU, **asked) as stream:
        found.append((await stream.message()).change.added.region)
    for type, part in ((0, "added"), (1, "current")):
        async with yard.watch("region", filter=f'name = "{EU}"', type=type, **asked) as stream:
            (change,) = await stream.changes()
            found.append(getattr(change, part).region)
    assert [shown(one) for one in found] == [fields] * 6


async def test_the_view_name_of_a_service_has_its_display_name(yard: Yard) -> None:
    assert shown(await yard.get("service", JOBS, view=NAME)) == {"name", "display_name"}
    found = await yard.get("service", JOBS, view=NAME, field_mask=["current_version"])
    assert shown(found) == {"name", "display_name", "current_version"}
    assert shown(await yard.get("service", JOBS, field_mask=["current_version"])) == {
        "name",
        "current_version",
    }
    for kind in ("deployment", "resource"):
        assert shown(await yard.get(kind, ONE[kind], view=NAME)) == {"name"}


@pytest.mark.parametrize("verb", ["Get", "BatchGet", "List", "Watch", "WatchMany"])
async def test_an_unknown_view_or_path_is_invalid(yard: Yard, verb: str) -> None:
    named = {"Get": {"name": EU}, "Watch": {"name": EU}, "BatchGet": {"names": [EU]}}.get(verb, {})
    await yard.refused("region", verb, "view", view=5, **named)
    await yard.refused("region", verb, "view", view=-1, **named)
    for path in (
        "nothing",
        "title.x",
        "metadata.labels.a.b",
        "location.planet",
        "",
        "Title",
        "metadata.labels.",
    ):
        for view in (UNSPECIFIED, NAME, FULL):
            failure = await yard.refused(
                "region", verb, "field_mask", view=view, field_mask=["name", path], **named
            )
            assert repr(path) in failure.message


LABELS = {"env": "prod", "a.b/c": "dotted", "team": "x"}
DESTINATIONS = [{"dest": "regions/us-east"}, {"dest": "regions/ap-south"}]
# mask -> what is left of the region EU, as JSON in proto names
PROJECTED: list[tuple[list[str], dict[str, Any]]] = [
    (["location.city"], {"location": {"city": "Dublin"}}),
    (["location.city", "location.country"], {"location": {"city": "Dublin", "country": "IE"}}),
    (["location.city", "location"], {"location": SEED["regions"][0]["location"]}),
    (["location", "location.city"], {"location": SEED["regions"][0]["location"]}),
    (["location.agglomeration"], {"location": {}}),
    (["isDefault"], {"is_default": True}),
    (["is-default"], {"is_default": True}),
    (["metadata.labels.env"], {"metadata": {"labels": {"env": "prod"}}}),
    (["metadata.labels.none"], {"metadata": {}}),
    (["metadata.labels.a\\.b/c"], {"metadata": {"labels": {"a.b/c": "dotted"}}}),
    (["metadata.labels"], {"metadata": {"labels": LABELS}}),
    (["metadata.labels.env", "metadata.labels"], {"metadata": {"labels": LABELS}}),
    (["metadata.annotations.note"], {"metadata": {"annotations": {"note": "hello"}}}),
    (["metadata.shards.s0"], {"metadata": {"shards": {"s0": "4"}}}),
    (["metadata.tags"], {"metadata": {"tags": ["old", "big"]}}),
    (["metadata.syncing.regions"], {"metadata": {"syncing": {"regions": ["*"]}}}),
    (["connectivity_scores.score"], {"connectivity_scores": [{"score": 7}, {"score": -3}]}),
    (["connectivityScores.dest"], {"connectivity_scores": DESTINATIONS}),
    (["connectivity-scores"], {"connectivity_scores": SEED["regions"][0]["connectivity_scores"]}),
    (["metadata.ownerReferences.kind"], {"metadata": {"owner_references": [{"kind": "Service"}]}}),
    (["metadata.deleteTime"], {"metadata": {}}),
]  # fmt: skip


@pytest.mark.parametrize(("mask", "rest"), PROJECTED, ids=[",".join(mask) for mask, _ in PROJECTED])
async def test_what_a_mask_leaves(yard: Yard, mask: list[str], rest: dict[str, Any]) -> None:
    found = json_format.MessageToDict(
        await yard.get("region", EU, field_mask=mask), preserving_proto_field_name=True
    )
    assert found == {"name": EU, **rest}


async def test_keys_of_maps_are_taken_as_they_are_spelled(tmp_path: Path, backend: str) -> None:
    """Fields have three spellings, keys one."""
    labels = {"someKey": "1", "some_key": "2", "some-key": "3", "a/b": "4"}
    async with opened(tmp_path, backend) as yard:
        await yard.apply(regions=numbered(1, metadata={"labels": labels}))
        for key in labels:
            found = await yard.get("region", "regions/r000", field_mask=[f"metadata.labels.{key}"])
            assert dict(found.metadata.labels) == {key: labels[key]}
            assert await yard.names("region", filter=f'metadata.labels.{key} = "{labels[key]}"')
        found = await yard.get("region", "regions/r000", field_mask=["metadata.labels.SomeKey"])
        assert dict(found.metadata.labels) == {}


async def test_an_unset_message_stays_unset_and_an_empty_one_empty(yard: Yard) -> None:
    found = {row.name: row for row in await yard.rows("region", field_mask=["location.city"])}
    assert found["regions/us-east"].HasField("location")
    assert not found["regions/sa-east"].HasField("location")


async def test_a_hidden_field_is_filtered_and_ordered_on(yard: Yard) -> None:
    found = await yard.rows("region", view=NAME, filter='title != ""', order_by="title")
    assert [row.name for row in found] == ["regions/ap-south", "regions/eu-west", "regions/us-east"]
    assert all(shown(row) == {"name"} for row in found)


# -- Get and BatchGet


async def test_batch_get_answers_in_request_order_with_duplicates_at_their_first_place(yard: Yard) -> None:
    asked = ["regions/us-east", "regions/zz", EU, "regions/us-east", "regions/aa", EU, "regions/zz"]
    found = await yard.call("region", "BatchGet", names=asked)
    assert [row.name for row in found.regions] == ["regions/us-east", EU]
    assert list(found.missing) == ["regions/zz", "regions/aa"]


@pytest.mark.parametrize("kind", APIS)
async def test_batch_get_of_nothing_is_nothing(yard: Yard, kind: str) -> None:
    found = await yard.call(kind, "BatchGet")
    assert not found.ListFields()
    await yard.refused(kind, "BatchGet", "view", view=9)
    await yard.refused(kind, "BatchGet", "field_mask", field_mask=["nothing"])


async def test_batch_get_takes_a_thousand_names_and_no_more(yard: Yard) -> None:
    names = [f"regions/r{number}" for number in range(1000)]
    assert list((await yard.call("region", "BatchGet", names=names)).missing) == names
    failure = await yard.refused("region", "BatchGet", "names", names=[*names, "regions/one-more"])
    assert "1000" in failure.message


async def test_batch_get_crosses_parents(yard: Yard) -> None:
    names = ["regions/us-east/deployments/jobs", "regions/eu-west/deployments/jobs"]
    found = await yard.call("deployment", "BatchGet", names=names)
    assert [row.name for row in found.deployments] == names


async def test_what_is_stored_comes_back_with_what_the_server_sets(yard: Yard) -> None:
    found = await yard.get("region", EU)
    told = json_format.MessageToDict(found, preserving_proto_field_name=True)
    metadata = told["metadata"]
    for name in ("create_time", "update_time", "uuid", "resource_version"):
        assert metadata.pop(name)
    assert (metadata.pop("generation"), metadata.pop("lifecycle")) == ("1", {"state": "ACTIVE"})
    metadata["shards"] = {key: int(value) for key, value in metadata["shards"].items()}
    assert told == SEED["regions"][0]
    assert (await yard.get("resource", f"{JOBS}/resources/Job")).fqn == "jobs.example.com/Job"
    assert await yard.names("region") == REGION_NAMES


async def test_batch_get_reads_one_snapshot(tmp_path: Path, backend: str) -> None:
    """Two regions always change together: they are never seen apart."""
    async with opened(tmp_path, backend) as yard:
        await yard.apply(regions=numbered(2, title="0"))
        stop = asyncio.Event()

        async def write() -> int:
            number = 0
            while not stop.is_set():
                number += 1
                await yard.apply(regions=numbered(2, title=str(number)))
            return number

        writer = asyncio.create_task(write(), name="writer")
        try:
            for _ in range(30):
                names = ["regions/r000", "regions/r001"]
                found = await yard.call("region", "BatchGet", names=names)
                assert len({row.title for row in found.regions}) == 1
        finally:
            stop.set()
        assert await writer > 0

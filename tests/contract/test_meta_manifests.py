"""How the catalogue is filled: manifests, what is wrong with them, what the server sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from grpc import StatusCode

from shared.pb.roundhouse.admin.v1 import admin_pb2
from tests.contract.meta_seed import REGION_NAMES, SEED
from tests.contract.meta_yard import (
    APIS,
    BACKENDS,
    LASTING,
    Clock,
    Yard,
    changes_of,
    lasting,
    numbered,
    opened,
    told,
)
from tests.patience import PATIENCE

V = {"current_version": "v1", "all_versions": ["v1"]}
SERVICE = {"name": "services/a", **V}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=BACKENDS)
async def yard(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Yard]:
    async with opened(tmp_path, request.param, clock=clock) as found:
        yield found


@pytest.fixture
async def memory(tmp_path: Path, clock: Clock) -> AsyncIterator[Yard]:
    async with opened(tmp_path, clock=clock) as found:
        yield found


def said(answer: admin_pb2.ApplyResponse) -> list[tuple[str, str, list[str]]]:
    names = {1: "create", 2: "update", 3: "delete"}
    assert {d.name: d.number for d in admin_pb2.Difference.Action.DESCRIPTOR.values} == {
        "ACTION_UNSPECIFIED": 0,
        "CREATE": 1,
        "UPDATE": 2,
        "DELETE": 3,
    }
    return [(names[d.action], d.name, list(d.paths)) for d in answer.differences]


# -- what an apply writes


async def test_one_apply_is_one_revision_and_one_change_set_for_all(yard: Yard) -> None:
    wild = {"deployment": {"parent": "regions/-"}, "resource": {"parent": "services/-"}}
    streams = {}
    for kind in APIS:
        context = yard.watch(kind, type=1, **wild.get(kind, {}))
        streams[kind] = (context, await context.__aenter__())
        await streams[kind][1].change_set()
    answer = await yard.apply(**SEED)
    assert (answer.revision, answer.unchanged, len(answer.differences)) == (1, 0, 13)
    assert await yard.store.head() == 1
    for kind, (context, stream) in streams.items():
        names = sorted(told(change)[1] for change in await stream.changes())
        assert names == sorted(item["name"] for item in SEED[f"{kind}s"])
        await context.__aexit__(None, None, None)


async def test_the_same_manifest_again_writes_nothing_and_wakes_nobody(yard: Yard, clock: Clock) -> None:
    await yard.apply(**SEED)
    before = await yard.rows("region")
    async with yard.watch("region", type=1) as stream:
        await stream.change_set()
        clock.advance(60)
        for prune in (False, True):
            answer = await yard.apply(prune=prune, **SEED)
            assert (answer.revision, answer.unchanged, list(answer.differences)) == (1, 13, [])
        assert await yard.store.head() == 1
        assert await yard.rows("region") == before
        await yard.delete("region", "regions/sa-east")
        assert [told(change) for change in await stream.changes()] == [("removed", "regions/sa-east")]


async def test_values_spelled_out_as_they_are_by_default_write_nothing(yard: Yard) -> None:
    await yard.apply(
        services=[SERVICE], resources=[{"name": "services/a/resources/Job"}], regions=numbered(1)
    )
    answer = await yard.apply(
        resources=[{"name": "services/a/resources/Job", "fqn": "", "plural_name": "", "is_regional": False}],
        regions=numbered(1, title="", is_default=False, connectivity_scores=[]),
    )
    assert (answer.revision, answer.unchanged) == (1, 2)
    answer = await yard.apply(resources=[{"name": "services/a/resources/Job", "fqn": "a/Job"}])
    assert (answer.revision, answer.unchanged) == (1, 1)


async def test_only_what_an_entry_names_is_compared(yard: Yard) -> None:
    await yard.apply(regions=[{"name": "regions/aa", "title": "t", "metadata": {"labels": {"a": "1"}}}])
    answer = await yard.apply(regions=[{"name": "regions/aa", "domain": "d", "metadata": {"tags": ["x"]}}])
    assert said(answer)[0][:2] == ("update", "regions/aa")
    found = await yard.get("region", "regions/aa")
    assert (found.title, found.domain, dict(found.metadata.labels), list(found.metadata.tags)) == (
        "t",
        "d",
        {"a": "1"},
        ["x"],
    )
    # What is named is owned whole: labels are replaced, null takes a field away.
    await yard.apply(regions=[{"name": "regions/aa", "title": None, "metadata": {"labels": {"b": "2"}}}])
    found = await yard.get("region", "regions/aa")
    assert (found.title, dict(found.metadata.labels)) == ("", {"b": "2"})


async def test_a_dry_run_says_the_same_and_writes_nothing(yard: Yard) -> None:
    await yard.apply(regions=numbered(3))
    wanted = [{"name": "regions/r000", "title": "t"}, {"name": "regions/r001"}, {"name": "regions/new"}]
    dry = await yard.apply(dry_run=True, prune=True, regions=wanted)
    assert dry.revision == 1 == await yard.store.head()
    assert await yard.names("region") == ["regions/r000", "regions/r001", "regions/r002"]
    wet = await yard.apply(prune=True, regions=wanted)
    assert wet.revision == 2
    assert [one[:2] for one in said(dry)] == [one[:2] for one in said(wet)]
    assert sorted(one[:2] for one in said(wet)) == [
        ("create", "regions/new"),
        ("delete", "regions/r002"),
        ("update", "regions/r000"),
    ]
    assert dry.unchanged == wet.unchanged == 1


async def test_prune_deletes_what_the_named_lists_lack(yard: Yard) -> None:
    await yard.apply(**SEED)
    answer = await yard.apply(prune=True, resources=SEED["resources"][:1])
    assert [one[:2] for one in said(answer)] == [
        ("delete", "services/jobs.example.com/resources/Pool"),
        ("delete", "services/pods.example.com/resources/Pod"),
    ]
    assert await yard.names("region") == REGION_NAMES
    answer = await yard.apply(prune=True, regions=[], deployments=[], services=[], resources=[])
    assert answer.revision == 3
    for kind, parent in (("region", {}), ("service", {}), ("deployment", {"parent": "regions/-"})):
        assert await yard.names(kind, **parent) == []


async def test_what_is_removed_and_made_again_starts_anew(yard: Yard) -> None:
    await yard.apply(regions=numbered(1))
    first = (await yard.get("region", "regions/r000")).metadata
    await yard.delete("region", "regions/r000")
    await yard.apply(regions=numbered(1))
    second = (await yard.get("region", "regions/r000")).metadata
    assert first.uuid != second.uuid and second.generation == 1


async def test_many_who_apply_at_once_all_succeed(yard: Yard) -> None:
    answers = await asyncio.gather(
        *(yard.apply(regions=[{"name": f"regions/r{number:02}"}]) for number in range(12))
    )
    assert sorted(answer.revision for answer in answers) == list(range(1, 13))


async def test_of_two_defaults_at_once_one_wins(yard: Yard) -> None:
    async def attempt(number: int) -> str:
        try:
            await yard.apply(regions=[{"name": f"regions/r{number}", "is_default": True}])
        except Exception as error:
            return error.code().name  # type: ignore[attr-defined]
        return "OK"

    codes = await asyncio.gather(*map(attempt, range(5)))
    assert sorted(codes) == ["INVALID_ARGUMENT"] * 4 + ["OK"]
    assert len(await yard.names("region", filter="is_default = TRUE")) == 1


# -- what the server sets


async def test_server_set_fields(yard: Yard, clock: Clock) -> None:
    async def metadata() -> Any:
        return (await yard.get("region", "regions/aa")).metadata

    await yard.apply(regions=[{"name": "regions/aa"}])
    made = await metadata()
    assert made.create_time.ToNanoseconds() == made.update_time.ToNanoseconds() == clock.now
    assert made.uuid and made.resource_version and made.generation == 1
    assert made.lifecycle.state == 1 and not made.HasField("delete_time")

    # Outside metadata: all move on but what marks the creation.
    clock.advance(10)
    await yard.apply(regions=[{"name": "regions/aa", "title": "t"}])
    edited = await metadata()
    assert (edited.uuid, edited.create_time) == (made.uuid, made.create_time)
    assert edited.update_time.ToNanoseconds() == clock.now
    assert edited.generation == 2 and edited.resource_version != made.resource_version

    # Inside metadata: a new version of the same generation.
    clock.advance(10)
    await yard.apply(regions=[{"name": "regions/aa", "metadata": {"labels": {"a": "1"}}}])
    labelled = await metadata()
    assert labelled.generation == 2
    assert labelled.resource_version not in (made.resource_version, edited.resource_version)
    assert labelled.update_time.ToNanoseconds() == clock.now

    # Nothing: nothing.
    clock.advance(10)
    await yard.apply(regions=[{"name": "regions/aa", "metadata": {"labels": {"a": "1"}}}])
    assert await metadata() == labelled


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("create_time", "2020-01-01T00:00:00Z"),
        ("update_time", "2020-01-01T00:00:00Z"),
        ("delete_time", "2020-01-01T00:00:00Z"),
        ("uuid", "x"),
        ("generation", 7),
        ("resource_version", "x"),
        ("lifecycle", {"state": "DELETING"}),
        ("lifecycle", {"block_deletion": True}),
    ],
)
async def test_what_the_server_sets_is_refused(memory: Yard, field: str, value: Any) -> None:
    for applied in (False, True):
        failure = await memory.apply_fails(regions=[{"name": "regions/aa", "metadata": {field: value}}])
        assert failure.code is StatusCode.INVALID_ARGUMENT
        assert [v.field for v in failure.violations] == [f"regions[0].metadata.{field}"]
        if not applied:
            await memory.apply(regions=[{"name": "regions/aa"}])


async def test_what_callers_may_set_in_metadata(yard: Yard) -> None:
    metadata = {
        "tags": ["a"],
        "labels": {"a": "1", "": "empty", "dotted.key": "2"},
        "annotations": {"n": "x" * 1000},
        "shards": {"s": -1},
        "owner_references": [{"kind": "K", "name": "n", "controller": True, "unset_on_delete": True}],
        "syncing": {"owning_region": "regions/aa", "regions": ["*"]},
        "services": {"owning_service": "services/a", "allowed_services": ["services/b"]},
    }
    await yard.apply(regions=[{"name": "regions/aa", "metadata": metadata}])
    found = json_format.MessageToDict(
        (await yard.get("region", "regions/aa")).metadata, preserving_proto_field_name=True
    )
    found["shards"] = {key: int(value) for key, value in found["shards"].items()}
    assert {key: found[key] for key in metadata} == metadata


# -- what is wrong with a manifest

ALL = {"regions": numbered(1), "services": [SERVICE]}


def deployment(identifier: str, service: str) -> dict[str, Any]:
    return {"name": f"regions/r000/deployments/{identifier}", "service": service}


# lists of the manifest, what is said: field and words
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"regions": [{"name": "regions/x"}]}, "regions[0].name", "region id"),
    ({"regions": [{"name": "regions/Eu"}]}, "regions[0].name", "region id"),
    ({"regions": [{"name": "regions/1a"}]}, "regions[0].name", "region id"),
    ({"regions": [{"name": "regions/eu-"}]}, "regions[0].name", "region id"),
    ({"regions": [{"name": "regions/eu_west"}]}, "regions[0].name", "region id"),
    ({"regions": [{"name": "regions/" + "a" * 31}]}, "regions[0].name", "region id"),
    ({"regions": [{"name": "regions/-"}]}, "regions[0].name", "form"),
    ({"regions": [{"name": "eu-west"}]}, "regions[0].name", "form"),
    ({"regions": [{"title": "no name"}]}, "regions[0].name", "form"),
    ({"services": [{"name": "services/a_b", **V}]}, "services[0].name", "form"),
    ({"services": [{"name": "services/-", **V}]}, "services[0].name", "form"),
    ({**ALL, "resources": [{"name": "services/a/resources/Job1"}]}, "resources[0].name", "form"),
    ({**ALL, "resources": [{"name": "services/a/resources/-"}]}, "resources[0].name", "form"),
    ({"resources": [{"name": "services/a/resources/Job"}]}, "resources[0].name", "services/a does not"),
    (
        {"services": [SERVICE], "deployments": [deployment("x", "services/a")]},
        "deployments[0].name",
        "regions/r000 does not exist",
    ),
    (
        {**ALL, "deployments": [deployment("x", "services/b")]},
        "deployments[0].service",
        "services/b does not exist",
    ),
    (
        {"regions": numbered(1), "deployments": [{"name": "regions/r000/deployments/x"}]},
        "deployments[0].service",
        "form",
    ),
    (
        {**ALL, "deployments": [deployment("x", "services/-")]},
        "deployments[0].service",
        "form",
    ),
    (
        {**ALL, "deployments": [deployment("-", "services/a")]},
        "deployments[0].name",
        "form",
    ),
    (
        {"regions": numbered(1, connectivity_scores=[{"dest": "regions/r000"}, {"dest": "regions/none"}])},
        "regions[0].connectivity_scores[1].dest",
        "regions/none does not exist",
    ),
    (
        {"regions": numbered(1, connectivity_scores=[{"dest": "r000"}])},
        "regions[0].connectivity_scores[0].dest",
        "form",
    ),
    ({"regions": numbered(2, is_default=True)}, "regions[1]", "regions[0]"),
    ({"regions": [*numbered(1), *numbered(1)]}, "regions[1]", "regions[0]"),
    ({"services": [{"name": "services/a"}]}, "services[0].current_version", "all_versions"),
    (
        {"services": [{"name": "services/a", "current_version": "v2", "all_versions": ["v1"]}]},
        "services[0].current_version",
        "'v2'",
    ),
    (
        {"services": [{"name": "services/a", "current_version": "v1", "all_versions": ["v1", "v2", "v1"]}]},
        "services[0].all_versions",
        "twice",
    ),
    (
        {"services": [SERVICE], "resources": [{"name": "services/a/resources/Job", "fqn": "a/Pod"}]},
        "resources[0].fqn",
        "'a/Job'",
    ),
    ({"regions": numbered(1, title="x" * 32_768)}, "regions[0]", "32768"),
    ({"regions": [{"name": "regions/aa", "colour": "red"}]}, "regions[0]", "colour"),
    ({"regions": [{"name": "regions/aa", "title": 7}]}, "regions[0]", "title"),
    ({"regions": ["regions/aa"]}, "regions[0]", "mapping"),
    ({"regions": {"name": "regions/aa"}}, "regions", "list"),
    ({"planets": []}, "planets", "regions"),
]  # fmt: skip


@pytest.mark.parametrize(("lists", "field", "words"), WRONG, ids=[f"{f}-{w}" for _, f, w in WRONG])
async def test_what_is_wrong_is_named_and_nothing_is_written(
    memory: Yard, lists: dict[str, Any], field: str, words: str
) -> None:
    for dry_run in (True, False):
        failure = await memory.apply_fails(dry_run=dry_run, **lists)
        assert failure.code is StatusCode.INVALID_ARGUMENT
        texts = [v.description for v in failure.violations if v.field == field]
        assert texts, failure.violations
        assert any(words in text for text in texts), texts
        assert len(failure.violations) == 1, failure.violations
    assert await memory.store.head() == 0


async def test_everything_that_is_wrong_is_told_at_once(yard: Yard) -> None:
    await yard.apply(regions=[{"name": "regions/old", "is_default": True}])
    failure = await yard.apply_fails(
        regions=[
            {"name": "regions/X"},
            {
                "name": "regions/bb",
                "metadata": {"uuid": "mine"},
                "connectivity_scores": [{"dest": "nowhere"}],
            },
            {"name": "regions/cc", "connectivity_scores": [{"dest": "regions/none"}, {"dest": "regions/bb"}]},
        ],
        services=[
            {"name": "services/a", "current_version": "v2", "all_versions": ["v1", "v1"]},
            {"name": "services/b", **V},
        ],
        resources=[
            {"name": "services/a/resources/Job", "fqn": "wrong"},
            {"name": "services/none/resources/Job", "fqn": "wrong"},
            {"name": "services/b/resources/Job"},
        ],
        deployments=[{"name": "regions/none/deployments/a", "service": "services/none"}],
    )
    assert failure.code is StatusCode.INVALID_ARGUMENT
    assert sorted(violation.field for violation in failure.violations) == [
        "deployments[0].name",
        "deployments[0].service",
        "regions[0].name",
        "regions[1].connectivity_scores[0].dest",
        "regions[1].metadata.uuid",
        "regions[2].connectivity_scores[0].dest",
        "resources[0].fqn",
        "resources[1].fqn",
        "resources[1].name",
        "services[0].all_versions",
        "services[0].current_version",
    ]
    assert await yard.store.head() == 1


async def test_references_within_one_manifest_in_any_order(yard: Yard) -> None:
    await yard.apply(
        deployments=[{"name": "regions/aa/deployments/x", "service": "services/a"}],
        resources=[{"name": "services/a/resources/Job"}],
        regions=[
            {"name": "regions/aa", "connectivity_scores": [{"dest": "regions/bb"}, {"dest": "regions/aa"}]},
            {"name": "regions/bb"},
        ],
        services=[SERVICE],
    )
    assert await yard.store.head() == 1


async def test_the_largest_resource(memory: Yard) -> None:
    await memory.apply(regions=numbered(1))
    room = 32_768 - (await memory.get("region", "regions/r000")).ByteSize() - 4
    await memory.apply(regions=numbered(1, title="x" * room))
    assert (await memory.get("region", "regions/r000")).ByteSize() == 32_768
    failure = await memory.apply_fails(regions=numbered(1, title="x" * (room + 1)))
    assert "32769 bytes" in failure.violations[0].description


async def test_the_default_region(yard: Yard) -> None:
    await yard.apply(regions=[{"name": "regions/aa", "is_default": True}, {"name": "regions/bb"}])
    for dry_run in (True, False):
        failure = await yard.apply_fails(
            dry_run=dry_run, regions=[{"name": "regions/bb", "is_default": True}]
        )
        assert failure.code is StatusCode.INVALID_ARGUMENT
        (violation,) = failure.violations
        assert violation.field == "regions[0]" and "regions/aa" in violation.description
    # It changes hands in one manifest, whichever comes first.
    await yard.apply(
        regions=[{"name": "regions/bb", "is_default": True}, {"name": "regions/aa", "is_default": False}]
    )
    assert await yard.names("region", filter="is_default = TRUE") == ["regions/bb"]
    await yard.apply(
        regions=[{"name": "regions/bb", "is_default": False}, {"name": "regions/aa", "is_default": True}]
    )
    assert await yard.names("region", filter="is_default = TRUE") == ["regions/aa"]
    await yard.apply(prune=True, regions=[{"name": "regions/cc", "is_default": True}])
    assert await yard.names("region") == ["regions/cc"]
    await yard.delete("region", "regions/cc")
    await yard.apply(regions=[{"name": "regions/dd", "is_default": True}])


async def test_what_is_needed_cannot_be_removed(yard: Yard) -> None:
    await yard.apply(**SEED)
    for kind, name, by in (
        ("region", "regions/eu-west", "regions/eu-west/deployments/jobs"),
        ("region", "regions/ap-south", "regions/eu-west"),
        ("service", "services/jobs.example.com", "services/jobs.example.com/resources/Job"),
    ):
        with pytest.raises(Exception, match=by) as caught:
            await yard.delete(kind, name)
        assert caught.value.code() is StatusCode.FAILED_PRECONDITION  # type: ignore[attr-defined]
    failure = await yard.apply_fails(prune=True, services=SEED["services"][:1])
    assert failure.code is StatusCode.INVALID_ARGUMENT
    assert all("services/pods.example.com does not exist" in v.description for v in failure.violations)
    assert len(failure.violations) == 3
    assert await yard.store.head() == 1
    # With what needs it, it goes.
    await yard.apply(
        prune=True,
        services=SEED["services"][:1],
        resources=SEED["resources"][:2],
        deployments=[item for item in SEED["deployments"] if "jobs" in item["service"]],
    )
    assert await yard.names("service") == ["services/jobs.example.com"]


async def test_a_reference_made_while_its_target_goes(yard: Yard) -> None:
    """Whoever comes second is refused: never both."""
    for number in range(6):
        region = f"regions/x{number}"
        await yard.apply(regions=[{"name": region}], services=[SERVICE])

        async def refer(region: str = region) -> Any:
            return await yard.apply(
                deployments=[{"name": f"{region}/deployments/d", "service": "services/a"}]
            )

        async def remove(region: str = region) -> Any:
            return await yard.delete("region", region)

        first, second = await asyncio.gather(refer(), remove(), return_exceptions=True)
        assert isinstance(first, Exception) != isinstance(second, Exception), (first, second)
        regions = set(await yard.names("region"))
        for deployment in await yard.names("deployment", parent="regions/-"):
            assert deployment.rpartition("/deployments/")[0] in regions


async def test_an_absent_object_is_not_found(memory: Yard) -> None:
    with pytest.raises(Exception, match="regions/none") as caught:
        await memory.delete("region", "regions/none")
    assert caught.value.code() is StatusCode.NOT_FOUND  # type: ignore[attr-defined]


async def test_there_is_no_other_way_to_write(memory: Yard) -> None:
    for verb in ("Create", "Update", "Delete"):
        with pytest.raises(Exception) as caught:
            path = f"/ntt.meta.v1alpha2.RegionService/{verb}Region"
            await memory.channel.unary_unary(path)(b"", metadata=memory.metadata("admin"), timeout=PATIENCE)
        assert caught.value.code() is StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


# -- the first catalogue


@pytest.mark.parametrize("backend", LASTING)
async def test_the_first_catalogue_is_applied_once(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text("regions:\n- name: regions/first\n")
    async with lasting(backend) as store:
        async with opened(tmp_path, store=store(), catalogue=str(path)) as yard:
            assert await yard.names("region") == ["regions/first"]
            await yard.apply(prune=True, regions=[{"name": "regions/mine"}])
        async with opened(tmp_path, store=store(), catalogue=str(path)) as yard:
            assert await yard.names("region") == ["regions/mine"]


async def test_the_first_catalogue_does_not_follow_one_that_was_applied_before(tmp_path: Path) -> None:
    """Both have a default region: the service would not start."""
    path = tmp_path / "catalogue.yaml"
    path.write_text("regions:\n- {name: regions/first, is_default: true}\n")
    async with opened(tmp_path, "sqlite") as yard:
        await yard.apply(regions=[{"name": "regions/mine", "is_default": True}])
    async with opened(tmp_path, "sqlite", catalogue=str(path)) as yard:
        assert await yard.names("region") == ["regions/mine"]


async def test_the_suites_own_catalogue_is_valid(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "deploy" / "local" / "catalogue.yaml"
    async with opened(tmp_path, catalogue=str(path)) as yard:
        assert await yard.names("region") == ["regions/local"]
        assert len(await yard.names("service")) == 5
        assert len(await yard.names("deployment", parent="regions/local")) == 5
        async with yard.watch("resource", parent="services/-", type=1) as stream:
            assert len(changes_of((await stream.change_set())[-1])) >= 5

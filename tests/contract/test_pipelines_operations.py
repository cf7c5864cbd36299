"""Create, get, delete, archive and unarchive (docs/apis/pipelines.md, "Operations")."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from grpc.aio import AioRpcError

from services.pipelines import experiment
from services.pipelines.experiments import Experiments
from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.resource.collection import Collection
from shared.resource.definition import CLAIM
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Kind, Put
from tests.contract.pipelines_yard import V1, V2, Clock, Yard

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
UNKNOWN = "0e2c6d04-67ec-4d06-8a27-8be0e4f7e4c6"
# The names of the published document, and those of 2.0.0-beta.0 and later.
GENERATIONS = (
    {verb: f"{verb}Experiment" for verb in ("Create", "Get", "List", "Delete", "Archive", "Unarchive")},
    {
        verb: f"{verb}ExperimentV1" if verb != "List" else "ListExperimentsV1"
        for verb in ("Create", "Get", "List", "Delete", "Archive", "Unarchive")
    },
)
AVAILABLE = v1.Experiment.STORAGESTATE_AVAILABLE
ARCHIVED = v1.Experiment.STORAGESTATE_ARCHIVED


@pytest.mark.parametrize("names", GENERATIONS, ids=("published", "V1"))
async def test_a_life_under_both_sets_of_method_names(any_yard: Yard, names: dict[str, str]) -> None:
    yard = any_yard
    methods = {verb: getattr(yard.v1, name) for verb, name in names.items()}
    wanted = v1.Experiment(name="mnist", description="digits")
    made = await yard.call(methods["Create"], v1.CreateExperimentRequest(experiment=wanted))
    assert UUID4.fullmatch(made.id)
    assert (made.name, made.description, made.storage_state) == ("mnist", "digits", AVAILABLE)
    assert not made.resource_references
    assert await yard.call(methods["Get"], v1.GetExperimentRequest(id=made.id)) == made
    listed = await yard.call(methods["List"], v1.ListExperimentsRequest())
    assert (list(listed.experiments), listed.total_size, listed.next_page_token) == ([made], 1, "")
    await yard.call(methods["Archive"], v1.ArchiveExperimentRequest(id=made.id))
    found = await yard.call(methods["Get"], v1.GetExperimentRequest(id=made.id))
    assert found.storage_state == ARCHIVED
    await yard.call(methods["Unarchive"], v1.UnarchiveExperimentRequest(id=made.id))
    assert await yard.call(methods["Get"], v1.GetExperimentRequest(id=made.id)) == made
    await yard.call(methods["Delete"], v1.DeleteExperimentRequest(id=made.id))
    await yard.fails(methods["Get"], v1.GetExperimentRequest(id=made.id), StatusCode.NOT_FOUND)
    listed = await yard.call(methods["List"], v1.ListExperimentsRequest())
    assert listed == v1.ListExperimentsResponse()


async def test_created_at_is_now_in_whole_seconds(yard: Yard, clock: Clock) -> None:
    clock.now = clock.seconds * 1_000_000_000 + 999_999_999
    made = await yard.create("late in its second")
    assert (made.created_at.seconds, made.created_at.nanos) == (clock.seconds, 0)


async def test_create_takes_name_and_description_only(yard: Yard, clock: Clock) -> None:
    wanted = v1.Experiment(
        id="mine",
        name="a",
        description="d",
        created_at=Timestamp(seconds=1, nanos=5),
        storage_state=ARCHIVED,
    )
    made = await yard.call(yard.v1.CreateExperiment, v1.CreateExperimentRequest(experiment=wanted))
    assert UUID4.fullmatch(made.id)
    assert (made.created_at.seconds, made.storage_state) == (clock.seconds, AVAILABLE)
    rest = await yard.rest(
        "POST",
        V2,
        {
            "display_name": "b",
            "experiment_id": "mine",
            "created_at": "2001-01-01T00:00:00Z",
            "storage_state": "ARCHIVED",
            "last_run_created_at": "2001-01-01T00:00:00Z",
        },
    )
    assert UUID4.fullmatch(rest.ok["experiment_id"])
    assert rest.body["storage_state"] == "AVAILABLE"
    assert not rest.body["created_at"].startswith("2001")
    assert rest.body["last_run_created_at"] == "1970-01-01T00:00:00Z"


async def test_a_manifest_may_carry_id_time_and_state(yard: Yard) -> None:
    """So that an export can be applied again; a time is in whole seconds all the same."""
    item = {
        "experiment_id": "of-another-house",
        "display_name": "a",
        "created_at": "2020-01-01T00:00:00.75Z",
        "storage_state": "ARCHIVED",
    }
    manifest = json.dumps({"experiments": [item]})
    assert (await yard.rest("POST", "/admin/v1/apply", {"manifest": manifest})).status == 200
    made = (await yard.rest("GET", f"{V1}/of-another-house")).ok
    assert made["created_at"] == "2020-01-01T00:00:00Z"
    assert made["storage_state"] == "STORAGESTATE_ARCHIVED"


async def test_no_experiment_in_the_request(yard: Yard) -> None:
    for method, request in (
        (yard.v1.CreateExperiment, v1.CreateExperimentRequest()),
        (yard.v1.CreateExperimentV1, v1.CreateExperimentRequest()),
        (yard.v2.CreateExperiment, v2.CreateExperimentRequest()),
    ):
        failure = await yard.fails(method, request, StatusCode.INVALID_ARGUMENT)
        assert failure.fields == ("experiment",)


@pytest.mark.parametrize(
    "name", ["", "n" * 129, "\N{GRINNING FACE}" * 129], ids=("empty", "129", "129 faces")
)
async def test_a_name_has_1_to_128_characters(any_yard: Yard, name: str) -> None:
    yard = any_yard
    request = v1.CreateExperimentRequest(experiment=v1.Experiment(name=name))
    failure = await yard.fails(yard.v1.CreateExperiment, request, StatusCode.INVALID_ARGUMENT)
    assert failure.fields == ("experiment.name",)
    assert failure.message == f"experiment.name: {failure.short}"
    (await yard.rest("POST", V1, {"name": name})).is_error(400, 3, "experiment.name")
    (await yard.rest("POST", V2, {"display_name": name})).is_error(400, 3, "experiment.display_name")
    assert await yard.names() == []


async def test_characters_are_counted_not_bytes(any_yard: Yard) -> None:
    name = "\N{GRINNING FACE}" * 128
    made = await any_yard.create(name)
    assert (await any_yard.rest("GET", f"{V1}/{made.id}")).ok["name"] == name


async def test_a_description_has_at_most_65535_characters(any_yard: Yard) -> None:
    long = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 65_535
    made = await any_yard.create("long", long)
    assert (await any_yard.rest("GET", f"{V2}/{made.id}")).ok["description"] == long
    answer = await any_yard.rest("POST", V1, {"name": "longer", "description": long + "x"})
    answer.is_error(400, 3, "experiment.description", "65536", "65535")


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "../etc",
        " spaces ",
        "a+b",
        "100%",
        "%41",
        "a&b=c",
        "q?x#y",
        "emoji \N{ROCKET}",
        "'\"`;--",
        "\\",
        "\t\n",
        "nul\0inside",
        "a:archive",
        "{}",
        "$where",
        ".",
        "İstanbul",
        "é",
        "e\u0301",
    ],
)
async def test_names_are_any_text(any_yard: Yard, name: str) -> None:
    yard = any_yard
    made = (await yard.rest("POST", V1, {"name": name})).ok
    assert made["name"] == name
    got = await yard.call(yard.v2.GetExperiment, v2.GetExperimentRequest(experiment_id=made["id"]))
    assert got.display_name == name
    found = await yard.names(filter={"predicates": [{"op": "EQUALS", "key": "name", "string_value": name}]})
    assert found == [name]
    assert (await yard.rest("POST", V1, {"name": name})).status == 409


async def test_names_are_compared_exactly(any_yard: Yard) -> None:
    alike = ["Name", "name", "NAME", "name ", "näme", "na\u0308me", "ﬁ", "fi", "ß", "ss"]
    for name in alike:
        await any_yard.create(name)
    for name in alike:
        request = v1.CreateExperimentRequest(experiment=v1.Experiment(name=name))
        await any_yard.fails(any_yard.v1.CreateExperiment, request, StatusCode.ALREADY_EXISTS)


async def test_a_name_in_use_is_409_and_says_which(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("taken")
    request = v1.CreateExperimentRequest(experiment=v1.Experiment(name="taken"))
    failure = await yard.fails(yard.v1.CreateExperiment, request, StatusCode.ALREADY_EXISTS)
    assert "'taken'" in failure.message
    assert (failure.resource[0], failure.reason) == ("experiment", "ALREADY_EXISTS")
    (await yard.rest("POST", V1, {"name": "taken"})).is_error(409, 6, "'taken'")
    (await yard.rest("POST", V2, {"display_name": "taken"})).is_error(409, 6, "'taken'")
    # Archived holders keep their names.
    await yard.call(yard.v1.ArchiveExperiment, v1.ArchiveExperimentRequest(id=made.id))
    (await yard.rest("POST", V1, {"name": "taken"})).is_error(409, 6, "'taken'")


async def test_of_racing_creates_one_wins(any_yard: Yard) -> None:
    yard = any_yard
    request = v1.CreateExperimentRequest(experiment=v1.Experiment(name="race"))
    calls = [yard.call(yard.v1.CreateExperiment, request) for _ in range(6)]
    calls += [
        yard.call(
            yard.v2.CreateExperiment,
            v2.CreateExperimentRequest(experiment=v2.Experiment(display_name="race")),
        )
        for _ in range(6)
    ]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    losers = [error for error in ended if isinstance(error, AioRpcError)]
    assert [error.code() for error in losers] == [StatusCode.ALREADY_EXISTS] * 11
    assert await yard.names() == ["race"]


async def test_a_deleted_name_is_free_at_once(any_yard: Yard) -> None:
    yard = any_yard
    ids = set()
    for _ in range(3):
        made = (await yard.rest("POST", V1, {"name": "again"})).ok
        ids.add(made["id"])
        assert (await yard.rest("DELETE", f"{V1}/{made['id']}")).ok == {}
    assert len(ids) == 3


async def test_deleting_twice_is_404(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("once")
    await yard.call(yard.v1.DeleteExperiment, v1.DeleteExperimentRequest(id=made.id))
    request = v1.DeleteExperimentRequest(id=made.id)
    failure = await yard.fails(yard.v1.DeleteExperiment, request, StatusCode.NOT_FOUND)
    assert failure.resource == ("experiment", made.id)


async def test_of_racing_deletes_one_wins(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("once")
    calls = (yard.rest("DELETE", f"{V1}/{made.id}") for _ in range(8))
    statuses = sorted(answer.status for answer in await asyncio.gather(*calls))
    assert statuses == [200] + [404] * 7


async def test_an_archived_experiment_can_be_deleted(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("old")
    await yard.call(yard.v1.ArchiveExperiment, v1.ArchiveExperimentRequest(id=made.id))
    assert (await yard.rest("DELETE", f"{V2}/{made.id}")).ok == {}
    assert await yard.names() == []


async def test_unknown_ids_are_404_everywhere(any_yard: Yard) -> None:
    yard = any_yard
    for version in (V1, V2):
        for verb, path in (
            ("GET", f"{version}/{UNKNOWN}"),
            ("DELETE", f"{version}/{UNKNOWN}"),
            ("POST", f"{version}/{UNKNOWN}:archive"),
            ("POST", f"{version}/{UNKNOWN}:unarchive"),
        ):
            (await yard.rest(verb, path)).is_error(404, 5, UNKNOWN)
    for method, request in (
        (yard.v1.GetExperiment, v1.GetExperimentRequest(id=UNKNOWN)),
        (yard.v1.ArchiveExperimentV1, v1.ArchiveExperimentRequest(id=UNKNOWN)),
        (yard.v2.UnarchiveExperiment, v2.UnarchiveExperimentRequest(experiment_id=UNKNOWN)),
        (yard.v2.DeleteExperiment, v2.DeleteExperimentRequest(experiment_id=UNKNOWN)),
    ):
        failure = await yard.fails(method, request, StatusCode.NOT_FOUND)
        assert (failure.resource, failure.reason) == (("experiment", UNKNOWN), "NOT_FOUND")


async def test_ids_are_not_names(yard: Yard) -> None:
    await yard.create("by-name")
    (await yard.rest("GET", f"{V1}/by-name")).is_error(404, 5)


@pytest.mark.parametrize("version", [V1, V2])
async def test_archive_and_unarchive_are_idempotent(any_yard: Yard, version: str) -> None:
    yard = any_yard
    made = await yard.create("there and back")
    state = {V1: "STORAGESTATE_{}", V2: "{}"}[version]
    for action, expected in (("archive", "ARCHIVED"), ("unarchive", "AVAILABLE")):
        for _ in range(2):
            assert (await yard.rest("POST", f"{version}/{made.id}:{action}")).ok == {}
            found = (await yard.rest("GET", f"{version}/{made.id}")).ok
            assert found["storage_state"] == state.format(expected)
    # The second of each wrote nothing.
    history = await yard.store.history("experiment", made.id)
    assert len(history) == 3


async def test_racing_archives_all_succeed(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("popular")
    actions = ["archive", "unarchive"] * 6
    answers = await asyncio.gather(*(yard.rest("POST", f"{V1}/{made.id}:{action}") for action in actions))
    assert [answer.ok for answer in answers] == [{}] * 12


async def test_archiving_changes_nothing_else(any_yard: Yard, clock: Clock) -> None:
    yard = any_yard
    before = (await yard.rest("POST", V2, {"display_name": "a", "description": "d"})).ok
    clock.advance(100)
    await yard.rest("POST", f"{V2}/{before['experiment_id']}:archive")
    after = (await yard.rest("GET", f"{V2}/{before['experiment_id']}")).ok
    assert after == {**before, "storage_state": "ARCHIVED"}


async def test_an_empty_id_is_refused_by_name(yard: Yard) -> None:
    cases: list[tuple[Any, Any, str]] = [
        (yard.v1.GetExperiment, v1.GetExperimentRequest(), "id"),
        (yard.v1.DeleteExperiment, v1.DeleteExperimentRequest(), "id"),
        (yard.v1.ArchiveExperiment, v1.ArchiveExperimentRequest(), "id"),
        (yard.v1.UnarchiveExperiment, v1.UnarchiveExperimentRequest(), "id"),
        (yard.v2.GetExperiment, v2.GetExperimentRequest(), "experiment_id"),
        (yard.v2.DeleteExperiment, v2.DeleteExperimentRequest(), "experiment_id"),
        (yard.v2.ArchiveExperiment, v2.ArchiveExperimentRequest(), "experiment_id"),
        (yard.v2.UnarchiveExperiment, v2.UnarchiveExperimentRequest(), "experiment_id"),
    ]
    for method, request, field in cases:
        failure = await yard.fails(method, request, StatusCode.INVALID_ARGUMENT)
        assert failure.fields == (field,)


async def test_every_write_leaves_an_audit_entry(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("watched")
    await yard.rest("POST", f"{V1}/{made.id}:archive", who="admin", headers={"X-Request-Id": "mine-1"})
    await yard.rest("DELETE", f"{V2}/{made.id}")
    entries = await yard.store.audit(kind="experiment", name=made.id)
    assert [(e.by.subject, e.by.action) for e in entries] == [
        ("operator", "rest:experiment:delete"),
        ("admin", "rest:experiment:archive"),
        ("operator", "grpc:experiment:create"),
    ]
    assert entries[1].by.request_id == "mine-1"


async def test_what_follows_an_experiment_into_the_archive_is_in_the_same_commit() -> None:
    """The hook for runs: theirs are changed with the experiment, and stay when it comes back."""
    kind = experiment.definition(experiment.Rules(lambda: 0, lambda: "e1", multi_user=False))
    store = MemoryStore([kind.storage(), CLAIM, Kind("run")])
    await store.open()
    follow = Experiments(
        Collection(store, kind),
        cascade=lambda moved: [Put("run", f"of {moved.experiment_id}", str(moved.storage_state).encode())],
    )
    by = Author("test")
    await follow.create("a", "", "", by)
    await follow.set_state("e1", v2.Experiment.ARCHIVED, by)
    (commit,) = await store.changes(1, 10)
    assert {change.kind for change in commit.changes} == {"experiment", "run"}
    await follow.set_state("e1", v2.Experiment.AVAILABLE, by)
    (commit,) = await store.changes(2, 10)
    assert {change.kind for change in commit.changes} == {"experiment"}

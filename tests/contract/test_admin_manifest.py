"""Apply: what a manifest may say, what becomes of it, and what it never does in silence."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from services.pipelines.service import SERVICE
from shared.admin import manifest as manifests
from shared.admin import scope
from shared.admin.plan import Planner
from shared.auth.identity import ANONYMOUS
from shared.errors import InvalidArgument
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.resource.collection import Collection
from shared.service.config import Config
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Delete, Expect, Put, Query, Record
from tests.contract.pipelines_yard import Yard, opened

INVALID = grpc.StatusCode.INVALID_ARGUMENT
BY = Author("someone else")


async def apply(
    yard: Yard, manifest: object, *, prune: bool = False, dry_run: bool = False
) -> pb.ApplyResponse:
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    return await yard.call(yard.admin.Apply, pb.ApplyRequest(manifest=text, prune=prune, dry_run=dry_run))


async def refused(yard: Yard, manifest: str, *, prune: bool = False) -> tuple[tuple[str, ...], str]:
    request = pb.ApplyRequest(manifest=manifest, prune=prune)
    failure = await yard.fails(yard.admin.Apply, request, INVALID)
    assert await yard.store.head() == 0
    return failure.fields, failure.message


def one(**fields: object) -> dict[str, list[dict[str, object]]]:
    return {"experiments": [fields]}


# What is written after `display_name: `, and the name that it makes.
PLAIN = {
    "no": "no",
    "on": "on",
    "y": "y",
    "007": "007",
    "0x10": "0x10",
    "1_000": "1_000",
    "12:30": "12:30",
    "1e3": "1e3",
    "2024-02-29": "2024-02-29",
    "2024-02-29T12:00:00Z": "2024-02-29T12:00:00Z",
    "=": "=",
    "<<": "<<",
    "!!str 5": "5",
    '"5"': "5",
    "'true'": "true",
}


@pytest.mark.parametrize(("written", "name"), PLAIN.items(), ids=PLAIN)
async def test_plain_words_are_text(yard: Yard, written: str, name: str) -> None:
    answer = await apply(yard, f"experiments:\n- display_name: {written}\n", dry_run=True)
    assert Experiment.FromString(answer.differences[0].after.value).display_name == name


REFUSED = {
    "a list twice": ("experiments: []\nexperiments:\n- display_name: a\n", "manifest", "stands twice"),
    "a field twice": ("experiments:\n- display_name: a\n  display_name: b\n", "manifest", "line 3"),
    "a list twice in JSON": ('{"experiments": [], "experiments": []}', "manifest", "stands twice"),
    "a field in two spellings": (
        "experiments: [{display_name: a, displayName: b}]",
        "experiments[0].display_name",
        "two spellings",
    ),
    "an alias": ("experiments: [&a {display_name: a}, *a]", "manifest", "aliases"),
    "a tag": ("experiments: !!python/object:os.system x", "manifest", "tags"),
    "a date tag": ("experiments: [{display_name: !!timestamp x}]", "manifest", "tags"),
    "a truth tag": ("experiments: [{display_name: !!bool maybe}]", "manifest", "tags"),
    "a number tag": ("experiments: [{display_name: !!int 1:1:1}]", "manifest", "tags"),
    "a long number": (f"experiments: [{{description: 1{'0' * 5000}}}]", "manifest", "digits"),
    "nesting": ("experiments: " + "[" * 500_000, "manifest", "deeper than 32"),
    "nesting in JSON": ('{"a":' * 90_000, "manifest", "depth"),
    "some nesting in JSON": ('{"a":' * 40 + "1" + "}" * 40, "manifest", "deeper than 32"),
    "a key that is no text in JSON": ('{"experiments": [{"\\ud800": 1}]}', "manifest", "surrogates"),
    "a list that is no text in JSON": ('{"\\udc00": []}', "manifest", "surrogates"),
    "half a pair in YAML": ('experiments: [{display_name: "\\ud83d"}]', "manifest", "Unicode"),
    "one item twice": ("experiments: [{display_name: a}, {display_name: b}, {display_name: a}]",
        "experiments[2]", "is the same experiment as experiments[0]"),
    "one id twice": (
        "experiments: [{display_name: a, experiment_id: x}, {display_name: b, experiment_id: x}]",
        "experiments[1]", "is the same experiment as experiments[0]"),
}  # fmt: skip


@pytest.mark.parametrize(("manifest", "field", "words"), REFUSED.values(), ids=REFUSED)
async def test_what_would_be_lost_or_misread_is_refused(
    yard: Yard, manifest: str, field: str, words: str
) -> None:
    fields, message = await refused(yard, manifest)
    assert fields == (field,) and words in message


async def test_a_hundred_faults_are_enough(tmp_path: Path) -> None:
    definitions = SERVICE.definitions(Config.load({}), time.time_ns, lambda: "unused")
    store = MemoryStore([*(d.storage() for d in definitions), *SERVICE.kinds])
    collections = {"experiment": Collection(store, definitions[0])}
    for text in ("experiments: [" + "5, " * 5_000 + "]", json.dumps({str(n): [] for n in range(5_000)})):
        with pytest.raises(InvalidArgument) as read:
            manifests.read(text, collections)
        assert len(read.value.violations) == 100
    items = manifests.read("experiments: [" + "{display_name: ''}, " * 5_000 + "]", collections)
    await store.open()
    with pytest.raises(InvalidArgument) as planned:
        everything = scope.of(definitions[0], ANONYMOUS)
        await Planner(store, collections).apply(items, prune=True, scope_of=lambda definition: everything)
    assert len(planned.value.violations) == 100


async def test_json_with_escaped_characters_is_a_manifest(yard: Yard) -> None:
    answer = await apply(yard, json.dumps(one(display_name="emoji \U0001f682", description="\u00e9")))
    made = Experiment.FromString(answer.differences[0].after.value)
    assert (made.display_name, made.description) == ("emoji \U0001f682", "\u00e9")


async def test_names_change_hands_in_one_revision(yard: Yard) -> None:
    first = one(display_name="a", experiment_id="1")["experiments"]
    second = one(display_name="b", experiment_id="2")["experiments"]
    await apply(yard, {"experiments": [*first, *second]})
    swapped = [{"experiment_id": "1", "display_name": "b"}, {"experiment_id": "2", "display_name": "a"}]
    assert (await apply(yard, {"experiments": swapped})).revision == 2
    # And from one that goes to one that comes.
    answer = await apply(yard, one(display_name="a", experiment_id="3"), prune=True)
    assert answer.revision == 3 and len(answer.differences) == 3
    assert [e["id"] for e in (await yard.list())["experiments"]] == ["3"]


async def test_the_same_manifest_at_the_same_time_is_applied_once(any_yard: Yard) -> None:
    manifest = {"experiments": [{"display_name": f"n{i}", "description": "d"} for i in range(20)]}
    answers = await asyncio.gather(*(apply(any_yard, manifest) for _ in range(6)))
    assert sorted((len(answer.differences), answer.unchanged) for answer in answers) == [(0, 20)] * 5 + [
        (20, 0)
    ]
    assert {answer.revision for answer in answers} == {1}


async def test_a_name_that_something_else_holds_is_told_as_elsewhere(yard: Yard) -> None:
    await yard.create("taken")
    request = pb.ApplyRequest(manifest="experiments: [{display_name: taken, experiment_id: other}]")
    failure = await yard.fails(yard.admin.Apply, request, grpc.StatusCode.ALREADY_EXISTS)
    assert failure.message.startswith("an experiment with name 'taken' already exists")
    assert failure.resource == ("experiment", "other")


async def test_pruning_refuses_to_remove_the_default_experiment(tmp_path: Path) -> None:
    async with opened(tmp_path, default_experiment=True) as yard:
        request = pb.ApplyRequest(manifest="experiments: []", prune=True)
        failure = await yard.fails(yard.admin.Apply, request, INVALID)
        assert failure.fields == ("experiments",) and "lacks what must stay" in failure.message
        await yard.create("other")
        answer = await apply(yard, one(display_name="Default"), prune=True)
        assert [d.action for d in answer.differences] == [pb.Difference.DELETE]


async def test_a_fault_in_an_entry_is_not_told_as_its_absence(tmp_path: Path) -> None:
    async with opened(tmp_path, default_experiment=True) as yard:
        manifest = json.dumps(one(display_name="Default", description="x" * 70_000))
        failure = await yard.fails(yard.admin.Apply, pb.ApplyRequest(manifest=manifest, prune=True), INVALID)
        assert failure.fields == ("experiments[0].description",)


class Meddled(MemoryStore):
    """Runs `meddle` once, before the first scan: another caller's write, at the worst moment."""

    meddle: Callable[[], Awaitable[object]] | None = None

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        if self.meddle is not None and query.kind == "experiment":
            meddle, self.meddle = self.meddle, None
            await meddle()
            at = self._head
        async for record in super().scan(query, at=at):
            yield record


async def test_pruning_spares_what_took_the_place_of_an_entry_meanwhile(tmp_path: Path) -> None:
    """An entry is found as it should be; before what is left over is looked for, someone deletes it
    and creates it anew. The new one is the entry, not left over."""
    definitions = SERVICE.definitions(Config.load({}), time.time_ns, lambda: "unused")
    store = Meddled([*(d.storage() for d in definitions), *SERVICE.kinds])
    async with opened(tmp_path, store=store) as yard:
        await apply(
            yard, {"experiments": [{"display_name": n, "experiment_id": n} for n in ("keep", "drop")]}
        )

        async def meddle() -> None:
            made = Experiment(experiment_id="anew", display_name="keep", storage_state="AVAILABLE")
            made.created_at.seconds = 1
            new = made.SerializeToString()
            await store.commit(
                [
                    Delete("experiment", "keep"),
                    Put("experiment", "anew", new),
                    Put("claim", "experiment//keep", b"anew", expect=Expect.PRESENT),
                ],
                by=BY,
            )

        store.meddle = meddle
        answer = await apply(yard, one(display_name="keep"), prune=True)
        assert [(d.name, d.action) for d in answer.differences] == [("drop", pb.Difference.DELETE)]
        assert [e["id"] for e in (await yard.list())["experiments"]] == ["anew"]


async def test_a_large_manifest_leaves_the_process_responsive(tmp_path: Path) -> None:
    manifest = "experiments:\n" + "".join(f"- display_name: name {i}\n" for i in range(12_000))
    async with opened(tmp_path, "sqlite") as yard:
        applying = asyncio.create_task(apply(yard, manifest, dry_run=True))
        began, slowest = time.perf_counter(), 0.0
        while not applying.done():
            asked = time.perf_counter()
            assert (await yard.rest("GET", "/healthz")).status == 200
            slowest = max(slowest, time.perf_counter() - asked)
        assert len((await applying).differences) == 12_000
        # Done in one go, one call would have waited for nearly all of it.
        assert slowest < (time.perf_counter() - began) / 2

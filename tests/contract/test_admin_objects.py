"""AdminService over gRPC: kinds, lists, deletion, history, audit, and applying what was exported."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from grpc import StatusCode

from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from shared.storage.port import Author, Put
from tests.contract.pipelines_yard import V1, V2, Yard, opened

CREATE, UPDATE, DELETE = pb.Difference.CREATE, pb.Difference.UPDATE, pb.Difference.DELETE


async def apply(
    yard: Yard, *experiments: dict[str, Any], prune: bool = False, dry_run: bool = False
) -> pb.ApplyResponse:
    manifest = yaml.safe_dump({"experiments": list(experiments)}, allow_unicode=True)
    return await yard.call(yard.admin.Apply, pb.ApplyRequest(manifest=manifest, prune=prune, dry_run=dry_run))


async def objects(yard: Yard, **request: Any) -> pb.ListResponse:
    return await yard.call(yard.admin.List, pb.ListRequest(kind="experiment", **request))


def experiment(item: pb.Object) -> Experiment:
    found = Experiment()
    assert item.body.Unpack(found)
    return found


def named(response: pb.ListResponse) -> list[str]:
    return [experiment(item).display_name for item in response.objects]


async def test_kinds(yard: Yard) -> None:
    (kind,) = (await yard.call(yard.admin.ListKinds, pb.ListKindsRequest())).kinds
    assert (kind.kind, kind.plural, kind.writable) == ("experiment", "experiments", True)
    assert kind.message == Experiment.DESCRIPTOR.full_name
    assert {"name", "created_at", "storage_state"} <= set(kind.fields)


# -- apply


async def test_apply_creates_with_defaults_and_says_what_it_did(any_yard: Yard) -> None:
    answer = await apply(any_yard, {"display_name": "a", "description": "d"})
    (difference,) = answer.differences
    assert (difference.action, difference.kind) == (CREATE, "experiment")
    assert not difference.HasField("before")
    made = Experiment()
    assert difference.after.Unpack(made)
    assert (made.display_name, made.storage_state, made.experiment_id) == (
        "a",
        Experiment.AVAILABLE,
        difference.name,
    )
    assert set(difference.paths) == {
        "experiment_id",
        "display_name",
        "description",
        "created_at",
        "storage_state",
    }
    assert (answer.unchanged, answer.revision) == (0, 1)
    assert (await any_yard.rest("GET", f"{V2}/{difference.name}")).ok["description"] == "d"


async def test_the_same_manifest_again_writes_nothing(any_yard: Yard) -> None:
    items = [{"display_name": f"n{number}", "description": "d"} for number in range(5)]
    first = await apply(any_yard, *items)
    again = await apply(any_yard, *items)
    assert (len(first.differences), list(again.differences), again.unchanged) == (5, [], 5)
    assert again.revision == first.revision == await any_yard.store.head()


async def test_only_fields_that_the_manifest_owns_are_compared(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("a", "kept")
    await yard.rest("POST", f"{V1}/{made.id}:archive")
    assert (await apply(yard, {"display_name": "a"})).unchanged == 1
    answer = await apply(yard, {"display_name": "a", "storage_state": "AVAILABLE"})
    (difference,) = answer.differences
    assert (difference.action, list(difference.paths)) == (UPDATE, ["storage_state"])
    found = (await yard.rest("GET", f"{V1}/{made.id}")).ok
    assert (found["description"], found["storage_state"]) == ("kept", "STORAGESTATE_AVAILABLE")
    # An owned field may be emptied.
    answer = await apply(yard, {"display_name": "a", "description": ""})
    assert list(answer.differences[0].paths) == ["description"]
    assert "description" not in (await yard.rest("GET", f"{V1}/{made.id}")).ok


async def test_an_item_with_an_id_may_be_renamed(any_yard: Yard) -> None:
    made = await any_yard.create("old")
    answer = await apply(any_yard, {"experiment_id": made.id, "display_name": "new"})
    assert [(d.action, list(d.paths)) for d in answer.differences] == [(UPDATE, ["display_name"])]
    # The old name is free, the new one is not.
    await any_yard.create("old")
    (await any_yard.rest("POST", V1, {"name": "new"})).is_error(409, 6)


async def test_a_dry_run_answers_the_difference_and_writes_nothing(any_yard: Yard) -> None:
    yard = any_yard
    kept = await yard.create("kept")
    await yard.create("gone")
    head = await yard.store.head()
    wanted = [{"display_name": "kept", "description": "new"}, {"display_name": "more"}]
    answer = await apply(yard, *wanted, prune=True, dry_run=True)
    assert sorted(d.action for d in answer.differences) == [CREATE, UPDATE, DELETE]
    assert answer.revision == head == await yard.store.head()
    assert set(await yard.names()) == {"kept", "gone"}
    done = await apply(yard, *wanted, prune=True)
    assert sorted(d.action for d in done.differences) == [CREATE, UPDATE, DELETE]
    assert set(await yard.names()) == {"kept", "more"}
    assert (await yard.rest("GET", f"{V1}/{kept.id}")).ok["description"] == "new"


async def test_prune_touches_only_the_lists_that_the_manifest_names(any_yard: Yard) -> None:
    await any_yard.create("a")
    await any_yard.create("b")
    request = pb.ApplyRequest(manifest="{}", prune=True)
    assert not (await any_yard.call(any_yard.admin.Apply, request)).differences
    assert (await apply(any_yard, {"display_name": "a"})).unchanged == 1
    answer = await apply(any_yard, {"display_name": "a"}, prune=True)
    assert [(d.action, experiment_of(d.before).display_name) for d in answer.differences] == [(DELETE, "b")]
    answer = await apply(any_yard, prune=True)
    assert [d.action for d in answer.differences] == [DELETE]
    assert await any_yard.names() == []


def experiment_of(packed: Any) -> Experiment:
    return Experiment.FromString(packed.value)


async def test_apply_is_one_revision_or_nothing(any_yard: Yard) -> None:
    yard = any_yard
    await yard.create("a")
    head = await yard.store.head()
    answer = await apply(yard, *({"display_name": f"n{number}"} for number in range(20)))
    assert answer.revision == head + 1 == await yard.store.head()
    wrong = [
        {"display_name": "fine"},
        {"display_name": ""},
        {"display_name": "x" * 129},
        {"display_name": "ok", "experiment_id": "/"},
    ]
    manifest = json.dumps({"experiments": wrong})
    failure = await yard.fails(
        yard.admin.Apply, pb.ApplyRequest(manifest=manifest), StatusCode.INVALID_ARGUMENT
    )
    # Everything that is wrong is told at once.
    assert failure.fields == (
        "experiments[1].display_name",
        "experiments[2].display_name",
        "experiments[3].experiment_id",
    )
    assert await yard.store.head() == head + 1


async def test_two_experiments_swap_their_names_in_one_manifest(any_yard: Yard) -> None:
    one, other = await any_yard.create("one"), await any_yard.create("other")
    answer = await apply(
        any_yard,
        {"experiment_id": one.id, "display_name": "other"},
        {"experiment_id": other.id, "display_name": "one"},
    )
    assert [d.action for d in answer.differences] == [UPDATE, UPDATE]
    assert (await any_yard.rest("GET", f"{V1}/{one.id}")).ok["name"] == "other"
    for name in ("one", "other"):
        (await any_yard.rest("POST", V1, {"name": name})).is_error(409, 6)
    # Both claims follow their holders: deleting frees the right name.
    await any_yard.rest("DELETE", f"{V1}/{one.id}")
    await any_yard.create("other")


async def test_a_name_that_somebody_else_holds(any_yard: Yard) -> None:
    await any_yard.create("taken")
    made = await any_yard.create("mine")
    head = await any_yard.store.head()
    manifest = json.dumps(
        {"experiments": [{"experiment_id": made.id, "display_name": "taken"}, {"display_name": "more"}]}
    )
    failure = await any_yard.fails(
        any_yard.admin.Apply, pb.ApplyRequest(manifest=manifest), StatusCode.ALREADY_EXISTS
    )
    assert "'taken'" in failure.message
    assert await any_yard.store.head() == head


async def test_what_was_exported_can_be_applied(any_yard: Yard, tmp_path: Path) -> None:
    """Into an empty service it makes the same objects; into its own it changes nothing."""
    yard = any_yard
    for name in ("a", "b+%", "\N{ROCKET}", "no", "007"):
        made = await yard.create(name, f"about {name}")
    await yard.rest("POST", f"{V1}/{made.id}:archive")
    exported = [item async for item in yard.admin.Export(pb.ExportRequest(), metadata=yard.metadata())]
    assert len(exported) == 5
    items = [
        json_format.MessageToDict(experiment(item), preserving_proto_field_name=True) for item in exported
    ]
    assert (await apply(yard, *items, prune=True)).unchanged == 5
    async with opened(tmp_path / "other") as other:
        answer = await apply(other, *items)
        assert [d.action for d in answer.differences] == [CREATE] * 5
        theirs = [
            item
            async for item in other.admin.Export(
                pb.ExportRequest(kinds=["experiment"]), metadata=other.metadata()
            )
        ]
        assert [experiment(item) for item in theirs] == [experiment(item) for item in exported]
        assert (await apply(other, *items, prune=True)).unchanged == 5


# -- get, list, delete


async def test_get(yard: Yard) -> None:
    made = await yard.create("a")
    found = await yard.call(yard.admin.Get, pb.GetRequest(kind="experiment", name=made.id), "viewer")
    assert (found.kind, found.name, found.revision) == ("experiment", made.id, 1)
    assert experiment(found).display_name == "a"
    failure = await yard.fails(
        yard.admin.Get, pb.GetRequest(kind="experiment", name="x"), StatusCode.NOT_FOUND
    )
    assert failure.resource == ("experiment", "x")


async def test_lists_go_forward_and_back_at_one_revision(any_yard: Yard) -> None:
    yard = any_yard
    await apply(yard, *({"display_name": f"n{number}"} for number in range(7)))
    first = await objects(yard, page_size=3, order_by="name")
    assert (named(first), first.total_size, first.prev_page_token) == (["n0", "n1", "n2"], 7, "")
    assert first.revision == await yard.store.head()
    second = await objects(yard, page_size=3, order_by="name", page_token=first.next_page_token)
    third = await objects(yard, page_size=3, order_by="name", page_token=second.next_page_token)
    assert (named(second), named(third), third.next_page_token) == (["n3", "n4", "n5"], ["n6"], "")
    back = await objects(yard, page_size=3, order_by="name", page_token=third.prev_page_token)
    assert named(back) == ["n3", "n4", "n5"]
    start = await objects(yard, page_size=3, order_by="name", page_token=back.prev_page_token)
    assert (named(start), start.prev_page_token) == (["n0", "n1", "n2"], "")
    assert named(await objects(yard, page_size=3, order_by="name", page_token=start.next_page_token)) == [
        "n3",
        "n4",
        "n5",
    ]


async def test_lists_filter_and_order_as_the_public_api_does(yard: Yard) -> None:
    made = await yard.create("a")
    await yard.create("b")
    await yard.rest("POST", f"{V1}/{made.id}:archive")
    active = (
        '{"predicates": [{"operation": "NOT_EQUALS", "key": "storage_state", "string_value": "ARCHIVED"}]}'
    )
    assert named(await objects(yard, filter=active)) == ["b"]
    assert named(await objects(yard, order_by="name desc")) == ["b", "a"]
    token = (await objects(yard, page_size=1)).next_page_token
    for other in ({"filter": active}, {"order_by": "name desc"}):
        request = pb.ListRequest(kind="experiment", page_token=token, **other)
        failure = await yard.fails(yard.admin.List, request, StatusCode.INVALID_ARGUMENT)
        assert failure.fields == ("page_token",)


async def test_delete_at_a_revision(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("a")
    await yard.rest("POST", f"{V1}/{made.id}:archive")
    stale = pb.DeleteRequest(kind="experiment", name=made.id, revision=1)
    failure = await yard.fails(yard.admin.Delete, stale, StatusCode.ABORTED)
    assert failure.resource == ("experiment", made.id)
    answer = await yard.call(yard.admin.Delete, pb.DeleteRequest(kind="experiment", name=made.id, revision=2))
    assert answer.revision == 3 == await yard.store.head()
    await yard.fails(
        yard.admin.Delete, pb.DeleteRequest(kind="experiment", name=made.id), StatusCode.NOT_FOUND
    )
    await yard.create("a")


async def test_the_default_experiment_is_not_deleted(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend, default_experiment=True) as yard:
        (default,) = (await objects(yard)).objects
        request = pb.DeleteRequest(kind="experiment", name=default.name)
        await yard.fails(yard.admin.Delete, request, StatusCode.ABORTED)
        assert named(await objects(yard)) == ["Default"]


# -- history and audit


async def test_history_tells_each_version(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("a")
    await yard.rest("POST", f"{V1}/{made.id}:archive", who="admin", headers={"X-Request-Id": "why-1"})
    await apply(yard, {"experiment_id": made.id, "display_name": "b"})
    await yard.rest("DELETE", f"{V1}/{made.id}")
    request = pb.HistoryRequest(kind="experiment", name=made.id)
    versions = (await yard.call(yard.admin.History, request, "viewer")).versions
    assert [(v.author.subject, v.author.action, list(v.paths)) for v in versions[:3]] == [
        ("operator", "rest:experiment:delete", list(versions[0].paths)),
        ("operator", "grpc:manifest:apply", ["display_name"]),
        ("admin", "rest:experiment:archive", ["storage_state"]),
    ]
    assert versions[3].author.action == "grpc:experiment:create"
    assert versions[2].author.request_id == "why-1"
    assert [v.revision for v in versions] == [4, 3, 2, 1]
    assert not versions[0].HasField("after")
    assert not versions[3].HasField("before")
    for newer, older in itertools.pairwise(versions):
        assert newer.before == older.after
    assert all(version.time.seconds for version in versions)


async def test_history_in_pages(any_yard: Yard) -> None:
    made = await any_yard.create("a")
    for _ in range(3):
        await any_yard.rest("POST", f"{V1}/{made.id}:archive")
        await any_yard.rest("POST", f"{V1}/{made.id}:unarchive")
    revisions, token = [], ""
    while True:
        request = pb.HistoryRequest(kind="experiment", name=made.id, page_size=3, page_token=token)
        page = await any_yard.call(any_yard.admin.History, request)
        revisions += [version.revision for version in page.versions]
        token = page.next_page_token
        if not token:
            break
    assert revisions == [7, 6, 5, 4, 3, 2, 1]
    request = pb.HistoryRequest(kind="experiment", name="other", page_token=token or "x")
    await any_yard.fails(any_yard.admin.History, request, StatusCode.INVALID_ARGUMENT)


async def test_audit_is_for_admins_and_outlives_compaction(any_yard: Yard) -> None:
    yard = any_yard
    made = await yard.create("a")
    await yard.rest("POST", f"{V1}/{made.id}:archive", who="admin")
    await yard.store.compact(await yard.store.head())
    await yard.fails(yard.admin.ListAudit, pb.ListAuditRequest(), StatusCode.PERMISSION_DENIED)
    entries = (await yard.call(yard.admin.ListAudit, pb.ListAuditRequest(), "admin")).entries
    assert [(e.author.subject, [(c.kind, c.name, c.action) for c in e.changes]) for e in entries] == [
        ("admin", [("experiment", made.id, UPDATE)]),
        ("operator", [("experiment", made.id, CREATE)]),
    ]
    for chosen, count in (
        ({"subject": "admin"}, 1),
        ({"name": made.id}, 2),
        ({"kind": "x"}, 0),
        ({"name": "x"}, 0),
    ):
        found = await yard.call(yard.admin.ListAudit, pb.ListAuditRequest(**chosen), "admin")
        assert len(found.entries) == count
    of_access = await yard.call(yard.admin.ListAudit, pb.ListAuditRequest(store="access"), "admin")
    assert {change.kind for entry in of_access.entries for change in entry.changes} == {"token"}


async def test_audit_without_the_steps_of_a_service_is_whole_page_by_page(any_yard: Yard) -> None:
    """Steps between what people wrote shorten no page."""
    yard = any_yard
    made = await yard.create("a")
    body = (await yard.store.get("experiment", made.id)).body
    parents = itertools.cycle(["p", "q"])
    for verb in ("archive", "unarchive", "archive"):
        for _ in range(5):
            # Another parent makes it a write.
            change = Put("experiment", made.id, body, next(parents))
            await yard.store.commit([change], by=Author("controller", "controller:experiment:step"))
        await yard.rest("POST", f"{V1}/{made.id}:{verb}", who="admin")
        body = (await yard.store.get("experiment", made.id)).body

    async def page(size: int, token: str = "", **fields: Any) -> pb.ListAuditResponse:
        request = pb.ListAuditRequest(page_size=size, page_token=token, **fields)
        return await yard.call(yard.admin.ListAudit, request, "admin")

    steps = ["controller:experiment:step"]
    actions, token = [], ""
    while True:
        answer = await page(2, token, excluded_actions=steps)
        actions += [entry.author.action for entry in answer.entries]
        token = answer.next_page_token
        if not token:
            break
        assert len(answer.entries) == 2
    verbs = ["archive", "unarchive", "archive"]
    assert actions == [*(f"rest:experiment:{verb}" for verb in verbs), "grpc:experiment:create"]
    assert len((await page(500)).entries) == 19
    only = await page(500, excluded_actions=steps, name=made.id, kind="experiment", subject="admin")
    assert len(only.entries) == 3
    assert not (await page(500, excluded_actions=steps, subject="controller")).entries
    # A place in one list is none in the other, nor does the order of the actions matter.
    token = (await page(1, excluded_actions=[*steps, "b"])).next_page_token
    assert (await page(1, token, excluded_actions=["b", *steps])).entries
    for fields in ({}, {"excluded_actions": steps}):
        request = pb.ListAuditRequest(page_size=1, page_token=token, **fields)
        await yard.fails(yard.admin.ListAudit, request, StatusCode.INVALID_ARGUMENT, "admin")
    many = pb.ListAuditRequest(excluded_actions=[f"a{number}" for number in range(51)])
    await yard.fails(yard.admin.ListAudit, many, StatusCode.INVALID_ARGUMENT, "admin")


@pytest.mark.parametrize(
    ("method", "request_", "least"),
    [
        ("Apply", pb.ApplyRequest(manifest="{}"), "operator"),
        ("Delete", pb.DeleteRequest(kind="experiment", name="x"), "operator"),
        ("ListAudit", pb.ListAuditRequest(), "admin"),
    ],
)
async def test_who_may(yard: Yard, method: str, request_: Any, least: str) -> None:
    roles = ["viewer", "operator", "admin"]
    for who in roles[: roles.index(least)]:
        await yard.fails(getattr(yard.admin, method), request_, StatusCode.PERMISSION_DENIED, who)
    await yard.fails(getattr(yard.admin, method), request_, StatusCode.UNAUTHENTICATED, "")

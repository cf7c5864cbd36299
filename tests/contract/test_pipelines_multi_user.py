"""Multi-user mode (docs/apis/pipelines.md, "Modes"): namespaces, who may touch them, identity headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from shared.errors import FailedPrecondition
from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.backend.api.v1beta1 import resource_reference_pb2 as reference
from shared.pb.backend.api.v2beta1 import experiment_pb2 as v2
from shared.pb.roundhouse.admin.v1 import access_pb2
from tests.contract.pipelines_yard import V1, V2, Yard, opened

HEADER = "x-goog-authenticated-user-email"
KEY = "resource_reference_key"
# What changes one experiment.
WRITES = (("DELETE", ""), ("POST", ":archive"), ("POST", ":unarchive"))


def owner(namespace: str) -> dict[str, Any]:
    return {"key": {"type": "NAMESPACE", "id": namespace}, "relationship": "OWNER"}


def within(namespace: str) -> dict[str, str]:
    """The query of a v1beta1 list."""
    return {f"{KEY}.type": "NAMESPACE", f"{KEY}.id": namespace}


async def put_user(yard: Yard, subject: str, role: str, *namespaces: str) -> None:
    user = access_pb2.User(subject=subject, role=role, namespaces=namespaces)
    await yard.call(yard.access.PutUser, access_pb2.PutUserRequest(user=user), "admin")


@pytest.fixture
async def shared_house(tmp_path: Path, backend: str) -> AsyncIterator[Yard]:
    """Two users in a namespace each; `operator` may touch both, `viewer` read the first."""
    async with opened(tmp_path, backend, multi_user=True) as yard:
        await put_user(yard, "ann@x.org", "operator", "ns1")
        await put_user(yard, "bob@x.org", "operator", "ns2")
        await put_user(yard, "eve@x.org", "viewer", "ns1")
        await put_user(yard, "operator", "operator", "ns1", "ns2")
        await put_user(yard, "viewer", "viewer", "ns1")
        yield yard


async def create(yard: Yard, namespace: str, name: str, who: str = "operator") -> dict[str, Any]:
    body = {"name": name, "resource_references": [owner(namespace)]}
    return (await yard.rest("POST", V1, body, who=who)).ok


async def test_the_namespace_is_the_one_reference(shared_house: Yard) -> None:
    made = await create(shared_house, "ns1", "a")
    assert made["resource_references"] == [owner("ns1")]
    assert (await shared_house.rest("GET", f"{V1}/{made['id']}")).ok == made
    seen = (await shared_house.rest("GET", f"{V2}/{made['id']}")).ok
    assert (seen["namespace"], seen["display_name"]) == ("ns1", "a")
    second = (await shared_house.rest("POST", V2, {"display_name": "b", "namespace": "ns2"})).ok
    assert second["namespace"] == "ns2"
    shown = await shared_house.call(
        shared_house.v1.GetExperiment, v1.GetExperimentRequest(id=second["experiment_id"])
    )
    (found,) = shown.resource_references
    assert (found.key.type, found.key.id, found.relationship) == (reference.NAMESPACE, "ns2", reference.OWNER)


@pytest.mark.parametrize(
    ("references", "field"),
    [
        (None, "resource_references"),
        ([], "resource_references"),
        ([owner("ns1"), owner("ns2")], "resource_references"),
        ([owner("")], "resource_references[0].key.id"),
        ([{"key": {"type": "EXPERIMENT", "id": "ns1"}, "relationship": "OWNER"}], "resource_references[0]"),
        ([{"key": {"type": "NAMESPACE", "id": "ns1"}, "relationship": "CREATOR"}], "resource_references[0]"),
        ([{"key": {"type": "NAMESPACE", "id": "ns1"}}], "resource_references[0]"),
        ([{}], "resource_references[0]"),
        ([owner("n" * 64)], "resource_references[0].key.id"),
    ],
)
async def test_references_that_create_refuses(tmp_path: Path, references: Any, field: str) -> None:
    async with opened(tmp_path, multi_user=True) as yard:
        body = {"name": "a"} if references is None else {"name": "a", "resource_references": references}
        (await yard.rest("POST", V1, body, who="admin")).is_error(400, 3, field)


async def test_namespaces_that_v2beta1_refuses(tmp_path: Path) -> None:
    async with opened(tmp_path, multi_user=True) as yard:
        (await yard.rest("POST", V2, {"display_name": "a"})).is_error(400, 3, "experiment.namespace")
        body = {"display_name": "a", "namespace": "n" * 64}
        (await yard.rest("POST", V2, body, who="admin")).is_error(400, 3, "experiment.namespace", "63")
        body = {"display_name": "a", "namespace": "n" * 63}
        assert (await yard.rest("POST", V2, body, who="admin")).status == 200
        (await yard.listed(V2)).is_error(400, 3, "namespace")
        request = v2.ListExperimentsRequest()
        failure = await yard.fails(yard.v2.ListExperiments, request, StatusCode.INVALID_ARGUMENT)
        assert failure.fields == ("namespace",)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, f"{KEY}.type"),
        (within(""), f"{KEY}.id"),
        ({f"{KEY}.type": "JOB", f"{KEY}.id": "ns1"}, f"{KEY}.type"),
        ({f"{KEY}.id": "ns1"}, f"{KEY}.type"),
    ],
)
async def test_lists_want_a_namespace(tmp_path: Path, query: dict[str, str], field: str) -> None:
    async with opened(tmp_path, multi_user=True) as yard:
        (await yard.listed(**query)).is_error(400, 3, field)


async def test_names_are_unique_within_a_namespace(shared_house: Yard) -> None:
    await create(shared_house, "ns1", "a")
    await create(shared_house, "ns2", "a")
    body = {"name": "a", "resource_references": [owner("ns2")]}
    (await shared_house.rest("POST", V1, body)).is_error(409, 6, "'a'", "'ns2'")
    # Whatever characters they are made of.
    for namespace, name in (("x", "y/z"), ("x/y", "z"), ("x%2Fy", "z")):
        assert (await create(shared_house, namespace, name, "admin"))["name"] == name


async def test_racing_creates_in_two_namespaces(shared_house: Yard) -> None:
    def body(namespace: str) -> dict[str, Any]:
        return {"name": "race", "resource_references": [owner(namespace)]}

    calls = (shared_house.rest("POST", V1, body(namespace)) for namespace in ["ns1", "ns2"] * 5)
    assert sorted(answer.status for answer in await asyncio.gather(*calls)) == [200, 200] + [409] * 8


async def test_lists_show_one_namespace_and_count_it(shared_house: Yard) -> None:
    yard = shared_house
    for number in range(5):
        await create(yard, "ns1", f"a{number}")
        await create(yard, "ns2", f"b{number}")
    await yard.rest("POST", f"{V1}/{(await create(yard, 'ns1', 'old'))['id']}:archive")
    assert set(await yard.names(**within("ns1"))) == {"a0", "a1", "a2", "a3", "a4", "old"}
    assert set(await yard.names(V2, namespace="ns2")) == {"b0", "b1", "b2", "b3", "b4"}
    assert await yard.list(**within("ns3"), who="admin") == {}
    active = json.dumps({"predicates": [{"op": 2, "key": "storage_state", "string_value": "ARCHIVED"}]})
    for sort in ("name", "created_at desc", "id", "description", "storage_state desc", "namespace"):
        query = {"sort_by": sort, "filter": active, "page_size": 2, **within("ns1")}
        page = await yard.list(**query)
        found = page["experiments"]
        while token := page.get("next_page_token"):
            assert page["total_size"] == 5
            page = await yard.list(page_token=token, page_size=2, **within("ns1"))
            found += page["experiments"]
        assert {item["name"] for item in found} == {"a0", "a1", "a2", "a3", "a4"}
        assert len(found) == 5


async def test_a_token_takes_the_namespace_of_each_request(shared_house: Yard) -> None:
    for number in range(3):
        await create(shared_house, "ns1", f"a{number}")
        await create(shared_house, "ns2", f"b{number}")
    token = (await shared_house.list(page_size=1, sort_by="name", **within("ns1")))["next_page_token"]
    found = await shared_house.names(page_token=token, **within("ns2"))
    assert found == ["b0", "b1", "b2"]
    (await shared_house.listed(page_token=token)).is_error(400, 3, KEY)
    answer = await shared_house.listed(page_token=token, who="viewer", **within("ns2"))
    answer.is_error(403, 7, "ns2")


async def test_who_may_touch_a_namespace(shared_house: Yard) -> None:
    yard = shared_house
    mine, theirs = await create(yard, "ns1", "a"), await create(yard, "ns2", "b")
    one, other = f"{V1}/{mine['id']}", f"{V1}/{theirs['id']}"
    assert (await yard.rest("GET", one, who="viewer")).ok == mine
    (await yard.rest("GET", other, who="viewer")).is_error(403, 7, "'viewer'", "'ns2'")
    (await yard.listed(who="viewer", **within("ns2"))).is_error(403, 7, "ns2")
    (await yard.listed(V2, who="viewer", namespace="ns2")).is_error(403, 7, "ns2")
    (await yard.rest("DELETE", one, who="viewer")).is_error(403, 7, "permission")
    # Unknown ids are told to whoever may ask for any: the row comes first, then its namespace.
    (await yard.rest("GET", f"{V1}/unknown", who="viewer")).is_error(404, 5)
    # Admins may touch all.
    assert (await yard.rest("GET", other, who="admin")).ok == theirs
    assert (await yard.rest("POST", f"{other}:archive", who="admin")).ok == {}


# -- identity headers: they count from callers who may impersonate


async def test_a_trusted_proxy_speaks_for_a_user(shared_house: Yard) -> None:
    yard = shared_house
    as_ann = {HEADER: "accounts.google.com:ann@x.org"}
    body = {"name": "anns", "resource_references": [owner("ns1")]}
    made = (await yard.rest("POST", V1, body, who="admin", headers=as_ann)).ok
    body = {"name": "not hers", "resource_references": [owner("ns2")]}
    (await yard.rest("POST", V1, body, who="admin", headers=as_ann)).is_error(403, 7, "ann@x.org", "ns2")
    body = {"display_name": "not hers", "namespace": "ns2"}
    (await yard.rest("POST", V2, body, who="admin", headers=as_ann)).is_error(403, 7, "ann@x.org", "ns2")
    assert (
        await yard.rest("POST", V2, {**body, "namespace": "ns1"}, who="admin", headers=as_ann)
    ).status == 200
    as_bob = {HEADER: "accounts.google.com:bob@x.org"}
    for verb, path in (
        ("GET", f"{V1}/{made['id']}"),
        ("GET", f"{V2}/{made['id']}"),
        ("GET", f"{V2}?namespace=ns1"),
        ("GET", f"{V1}?{KEY}.type=NAMESPACE&{KEY}.id=ns1"),
        *((verb, f"{base}/{made['id']}{action}") for base in (V1, V2) for verb, action in WRITES),
    ):
        (await yard.rest(verb, path, who="admin", headers=as_bob)).is_error(403, 7, "bob@x.org", "ns1")
    # Eve may read but not write there.
    as_eve = {HEADER: "accounts.google.com:eve@x.org"}
    assert (await yard.rest("GET", f"{V1}/{made['id']}", who="admin", headers=as_eve)).ok == made
    answer = await yard.rest("DELETE", f"{V1}/{made['id']}", who="admin", headers=as_eve)
    answer.is_error(403, 7, "eve@x.org", "experiments.delete")


async def test_headers_over_grpc(shared_house: Yard) -> None:
    made = await create(shared_house, "ns1", "a")
    request = v1.GetExperimentRequest(id=made["id"])
    as_bob = {HEADER.replace("-", "_"): "accounts.google.com:bob@x.org"}
    get = shared_house.v1.GetExperiment
    failure = await shared_house.fails(get, request, StatusCode.PERMISSION_DENIED, "admin", **as_bob)
    assert failure.metadata["permission"] == "experiments.get"
    assert (await shared_house.call(get, request, "admin")).id == made["id"]


async def test_headers_from_anyone_else_do_not_count(shared_house: Yard) -> None:
    made = await create(shared_house, "ns2", "a")
    as_bob = {HEADER: "accounts.google.com:bob@x.org"}
    answer = await shared_house.rest("GET", f"{V1}/{made['id']}", who="viewer", headers=as_bob)
    answer.is_error(403, 7, "'viewer'")


@pytest.mark.parametrize(
    "value", ["ann@x.org", "accounts.google.com:", "other:ann@x.org", "accounts.google.com:nobody"]
)
async def test_headers_that_name_nobody(shared_house: Yard, value: str) -> None:
    answer = await shared_house.listed(who="admin", **within("ns1"))
    assert answer.status == 200
    query = f"{V1}?{KEY}.type=NAMESPACE&{KEY}.id=ns1"
    refused = await shared_house.rest("GET", query, who="admin", headers={HEADER: value})
    refused.is_error(401, 16, "'nobody'" if value.endswith("nobody") else HEADER)


async def test_the_header_and_its_prefix_are_settings(tmp_path: Path) -> None:
    settings = {"multi_user": True, "userid_header": "Kubeflow-Userid", "userid_prefix": ""}
    async with opened(tmp_path, **settings) as yard:
        await put_user(yard, "ann@x.org", "operator", "ns1")
        path = f"{V2}?namespace=ns2"
        refused = await yard.rest("GET", path, who="admin", headers={"kubeflow-userid": "ann@x.org"})
        refused.is_error(403, 7, "ann@x.org")
        assert (await yard.rest("GET", path, who="admin", headers={HEADER: "x"})).ok == {}
        assert (await yard.rest("GET", path, who="admin")).ok == {}


async def test_single_user_mode_asks_for_no_namespace(yard: Yard) -> None:
    made = await yard.create("a")
    for who in ("viewer", "operator", "admin"):
        answer = await yard.rest("GET", f"{V1}/{made.id}", who=who, headers={HEADER: "nonsense"})
        assert "resource_references" not in answer.ok


async def test_shared_read_lets_everyone_get_and_list(tmp_path: Path) -> None:
    async with opened(tmp_path, multi_user=True, multi_user_shared_read=True) as yard:
        await put_user(yard, "viewer", "viewer", "ns1")
        await put_user(yard, "operator", "operator", "ns1")
        made = await create(yard, "ns2", "a", who="admin")
        assert (await yard.rest("GET", f"{V1}/{made['id']}", who="viewer")).ok == made
        assert (await yard.rest("GET", f"{V2}/{made['id']}", who="viewer")).ok["namespace"] == "ns2"
        assert await yard.names(who="viewer", **within("ns2")) == ["a"]
        assert (await yard.listed(V2, who="viewer", namespace="ns2")).ok["total_size"] == 1
        for base in (V1, V2):
            for verb, action in WRITES:
                answer = await yard.rest(verb, f"{base}/{made['id']}{action}", who="operator")
                answer.is_error(403, 7, "ns2")
        for base, body in (
            (V1, {"name": "b", "resource_references": [owner("ns2")]}),
            (V2, {"display_name": "b", "namespace": "ns2"}),
        ):
            (await yard.rest("POST", base, body, who="operator")).is_error(403, 7, "ns2")
        assert (await yard.rest("GET", f"{V1}/{made['id']}", who="viewer")).ok == made


async def test_another_mode_over_the_same_rows_is_told_by_manifests(tmp_path: Path) -> None:
    """A row of a namespace cannot be written in single-user mode."""
    async with opened(tmp_path) as yard:
        manifest = json.dumps({"experiments": [{"display_name": "a", "namespace": "ns1"}]})
        answer = await yard.rest("POST", "/admin/v1/apply", {"manifest": manifest})
        assert (answer.status, answer.body["code"]) == (400, 3)
        assert "experiments[0].namespace" in answer.body["message"]


async def test_an_experiment_stays_in_its_namespace(tmp_path: Path) -> None:
    """No manifest moves it, though it names it by id."""
    async with opened(tmp_path, multi_user=True) as yard:
        made = await create(yard, "ns1", "a", who="admin")
        moved = {"experiment_id": made["id"], "display_name": "a", "namespace": "ns2"}
        manifest = json.dumps({"experiments": [moved]})
        answer = await yard.rest("POST", "/admin/v1/apply", {"manifest": manifest}, who="admin")
        assert (answer.status, answer.body["code"]) == (400, 3)
        assert "experiments[0].namespace" in answer.body["message"]
        assert "cannot be changed" in answer.body["message"]
        assert (await yard.rest("GET", f"{V1}/{made['id']}", who="admin")).ok == made


async def test_single_user_mode_does_not_start_on_experiments_of_namespaces(tmp_path: Path) -> None:
    """Their bytes are no v1beta1 ones, and its rules would refuse every change of them."""
    async with opened(tmp_path, "sqlite", multi_user=True) as yard:
        made = await create(yard, "ns1", "a", who="admin")
    with pytest.raises(FailedPrecondition, match=r"'ns1'.*ROUNDHOUSE_MULTI_USER"):
        async with opened(tmp_path, "sqlite"):
            pass
    async with opened(tmp_path, "sqlite", multi_user=True) as yard:
        assert (await yard.rest("DELETE", f"{V1}/{made['id']}", who="admin")).ok == {}
    async with opened(tmp_path, "sqlite") as yard:
        assert await yard.list() == {}

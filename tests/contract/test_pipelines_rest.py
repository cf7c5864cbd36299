"""The REST binding and its JSON (docs/apis/pipelines.md, "REST")."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from grpc import StatusCode

from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from tests.contract.pipelines_yard import V1, V2, Clock, Yard, opened

SECOND = 1_709_294_400  # 2024-03-01T12:00:00Z


async def test_every_route_answers_200_and_json(yard: Yard) -> None:
    made = await yard.rest("POST", V1, {"name": "a"})
    path = f"{V1}/{made.ok['id']}"
    for verb, target, expected in (
        ("GET", path, made.body),
        ("GET", V1, {"experiments": [made.body], "total_size": 1}),
        ("POST", f"{path}:archive", {}),
        ("POST", f"{path}:unarchive", {}),
        ("DELETE", path, {}),
        ("GET", V1, {}),
    ):
        answer = await yard.rest(verb, target)
        assert answer.ok == expected
        assert answer.headers["Content-Type"].split(";")[0] == "application/json"


async def test_output_is_snake_case_and_leaves_defaults_out(yard: Yard, clock: Clock) -> None:
    bare = (await yard.rest("POST", V1, {"name": "a"})).ok
    assert set(bare) == {"id", "name", "created_at", "storage_state"}
    full = (await yard.rest("POST", V1, {"name": "b", "description": "d"})).ok
    assert set(full) == {"id", "name", "description", "created_at", "storage_state"}
    bare = (await yard.rest("POST", V2, {"display_name": "c"})).ok
    assert set(bare) == {
        "experiment_id",
        "display_name",
        "created_at",
        "storage_state",
        "last_run_created_at",
    }
    found = await yard.list(page_size=1)
    assert set(found) == {"experiments", "next_page_token", "total_size"}
    assert found["total_size"] == 3


async def test_times_are_whole_seconds_in_utc(yard: Yard, clock: Clock) -> None:
    # Within the life of the token that the service checks by the same clock.
    made = (await yard.rest("POST", V1, {"name": "a"})).ok
    assert len(made["created_at"]) == len("2024-03-01T12:00:00Z")
    request = v1.GetExperimentRequest(id=made["id"])
    stored = await yard.call(yard.v1.GetExperiment, request)
    assert stored.created_at.ToJsonString() == made["created_at"]
    assert stored.created_at.seconds == clock.seconds
    manifest = "experiments: [{display_name: old, created_at: '2024-03-01T12:00:00.75Z'}]"
    await yard.rest("POST", "/admin/v1/apply", {"manifest": manifest})
    assert (await yard.list(sort_by="created_at"))["experiments"][0]["created_at"] == "2024-03-01T12:00:00Z"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "resource_references": []},
        {"name": "a", "resourceReferences": []},
        {"name": "a", "createdAt": "2020-01-01T00:00:00Z", "storageState": "STORAGESTATE_ARCHIVED"},
        {"name": "a", "storage_state": 2},
        {"name": "a", "unknown": {"x": [1, None]}, "more": 5},
        {"name": "a", "description": None},
        {"experiment_id": "x", "name": "a"},
    ],
)
async def test_bodies_that_are_accepted(yard: Yard, body: dict[str, Any]) -> None:
    made = (await yard.rest("POST", V1, body)).ok
    assert (made["name"], made["storage_state"]) == ("a", "STORAGESTATE_AVAILABLE")


async def test_camel_case_bodies_of_v2beta1(yard: Yard) -> None:
    made = (await yard.rest("POST", V2, {"displayName": "a", "experimentId": "x", "namespace": ""})).ok
    assert made["display_name"] == "a"


async def test_unknown_keys_within_a_field_are_refused(yard: Yard) -> None:
    body = {"name": "a", "resource_references": [{"unknown": 1}]}
    (await yard.rest("POST", V1, body)).is_error(400, 3, "resource_references[0]")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b'{"name": 5}', "name"),
        (b'{"name": ["a"]}', "name"),
        (b'{"name": {"a": 1}}', "name"),
        (b'{"name": true}', "name"),
        (b'{"name": "a", "storage_state": "NONSENSE"}', "storage_state"),
        (b'{"name": "a", "created_at": "yesterday"}', "created_at"),
        (b'{"name": "a", "resource_references": {}}', "resource_references"),
        (b"[]", "body"),
        (b'"a"', "body"),
        (b"5", "body"),
        (b"null", "body"),
        (b"{", "body"),
        (b"{'name': 'a'}", "body"),
        (b'{"name": "\xff"}', "body"),
        (b'{"name": "\\ud800"}', "body"),
        (b"", "name"),
        (b"   ", "name"),
        (b"{}", "name"),
    ],
)
async def test_bodies_that_are_refused(yard: Yard, data: bytes, word: str) -> None:
    (await yard.rest("POST", V1, data=data)).is_error(400, 3, word)
    assert await yard.names() == []


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""]
)
async def test_the_content_type_of_a_body_does_not_matter(yard: Yard, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    made = await yard.rest("POST", V1, data=b'{"name": "a"}', headers=headers)
    assert made.ok["name"] == "a"


@pytest.mark.parametrize("data", [zlib.compress(b'{"name": "a"}'), zlib.compress(b'{"name": "a"}')[2:-4]])
async def test_deflate_with_and_without_its_header(yard: Yard, data: bytes) -> None:
    made = await yard.rest("POST", V1, data=data, headers={"Content-Encoding": "deflate"})
    assert made.ok["name"] == "a"


async def test_a_body_that_does_not_decode_leaves_its_connection_open(yard: Yard) -> None:
    """Read or not, it is nothing to the next request on the connection."""
    made = await yard.create("a")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        headers = {"Authorization": f"Bearer {yard.token('operator')}", "Content-Encoding": "gzip"}
        for _ in range(5):
            for path, status in ((V1, 400), (f"{V1}/{made.id}:archive", 200), ("/nope", 404)):
                async with http.post(yard.service.url + path, data=b"no gzip", headers=headers) as answer:
                    assert answer.status == status
                    assert answer.content_type == "application/json"


async def test_bodies_of_archive_and_unarchive_are_ignored(yard: Yard) -> None:
    made = await yard.create("a")
    for data in (b"", b"{}", b'{"id": "other"}', b"no json", b"[1]"):
        assert (await yard.rest("POST", f"{V1}/{made.id}:archive", data=data)).ok == {}
        assert (await yard.rest("POST", f"{V2}/{made.id}:unarchive", data=data)).ok == {}


@pytest.mark.parametrize("identifier", ["my.id-1_x", "A1"])
async def test_ids_are_one_percent_encoded_segment(yard: Yard, identifier: str) -> None:
    manifest = json.dumps({"experiments": [{"experiment_id": identifier, "display_name": "a"}]})
    assert (await yard.rest("POST", "/admin/v1/apply", {"manifest": manifest})).status == 200
    encoded = "".join(f"%{ord(character):02x}" for character in identifier)
    assert (await yard.rest("GET", f"{V1}/{encoded}")).ok["id"] == identifier
    assert (await yard.rest("POST", f"{V1}/{encoded}:archive")).ok == {}
    assert (await yard.rest("GET", f"{V2}/{encoded}")).ok["storage_state"] == "ARCHIVED"
    assert (await yard.rest("DELETE", f"{V2}/{encoded}")).ok == {}


@pytest.mark.parametrize(
    "encoded", ["a%2Fb", "a%3Ab", "a%3Aarchive", "%E2%82%AC", "%00", "..%2F..", "%20", "a%25b"]
)
async def test_an_encoded_id_of_any_text_is_only_unknown(yard: Yard, encoded: str) -> None:
    (await yard.rest("GET", f"{V1}/{encoded}")).is_error(404, 5, "experiment")
    (await yard.rest("POST", f"{V1}/{encoded}:archive")).is_error(404, 5, "experiment")


@pytest.mark.parametrize("encoded", ["%", "%zz", "%ff", "a%e2%82"])
async def test_an_id_that_cannot_be_decoded_is_400(yard: Yard, encoded: str) -> None:
    (await yard.rest("GET", f"{V1}/{encoded}")).is_error(400, 3, "id")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/apis",
        "/apis/v1beta1",
        "/apis/v1beta1/runs",
        "/apis/v1beta1/experiments/",
        "/apis/v9/experiments",
        "/apis/v1beta1/experiments/a/b",
        "/apis/v1beta1/experiments/a:b:archive",
        "/nope?x=1",
        "/apis/v1beta1//experiments",
        "/apis/v2beta1/experiments/a/",
        "/APIS/v1beta1/experiments",
    ],
)
async def test_unknown_paths_are_404_with_the_error_body(yard: Yard, path: str) -> None:
    (await yard.rest("GET", path)).is_error(404, 5)


async def test_an_unknown_action_is_404(yard: Yard) -> None:
    made = await yard.create("a")
    (await yard.rest("POST", f"{V1}/{made.id}:explode")).is_error(404, 5, "explode")


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("PUT", V1),
        ("PATCH", V1),
        ("DELETE", V1),
        ("POST", f"{V1}/x"),
        ("PUT", f"{V2}/x"),
        ("GET", f"{V1}/x:archive"),
        ("DELETE", f"{V2}/x:unarchive"),
        ("PROPFIND", V1),
    ],
)
async def test_wrong_verbs_are_405_with_the_error_body(yard: Yard, verb: str, path: str) -> None:
    answer = await yard.rest(verb, path)
    answer.is_error(405, 12, verb)
    assert answer.headers["Allow"]


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("page_size=2", 3),
        ("pageSize=2", 3),
        ("page_token=&sort_by=&filter=&page_size=", 3),
        ("resource_reference_key.type=NAMESPACE&resource_reference_key.id=", 3),
        ("resourceReferenceKey.type=NAMESPACE&resourceReferenceKey.id=", 3),
        ("resource_reference_key.type=5", 3),
        ("resource_reference_key.id=", 3),
        ("unknown=1&page_size=2", 3),
        ("sortBy=name%20desc", 3),
        ("sort_by=name+desc", 3),
    ],
)
async def test_query_parameters(yard: Yard, query: str, total: int) -> None:
    for name in "abc":
        await yard.create(name)
    found = (await yard.rest("GET", f"{V1}?{query}")).ok
    assert found["total_size"] == total
    assert len(found["experiments"]) == (2 if "ize=2" in query else 3)
    if "desc" in query:
        assert [item["name"] for item in found["experiments"]] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=abc", "page_size"),
        ("page_size=1.5", "page_size"),
        ("page_size=99999999999", "page_size"),
        ("page_size=-1", "page_size"),
        ("pageSize=-1", "page_size"),
        ("page_size=1&page_size=2", "page_size"),
        ("resource_reference_key.type=NOPE", "resource_reference_key.type"),
        ("resource_reference_key.type=99", "resource_reference_key.type"),
        ("sort_by=size", "sort_by"),
        ("filter=%ff", "filter"),
        ("filter=%7B", "filter"),
        ("page_token=x", "page_token"),
    ],
)
async def test_query_parameters_that_are_refused(yard: Yard, query: str, field: str) -> None:
    (await yard.rest("GET", f"{V1}?{query}")).is_error(400, 3, field)


async def test_a_long_filter_fits_into_the_request_line(yard: Yard) -> None:
    await yard.create("needle")
    values = [f"name number {number}" for number in range(1000)] + ["needle"]
    filter = {"predicates": [{"op": "IN", "key": "name", "string_values": {"values": values}}]}
    assert await yard.names(filter=filter) == ["needle"]


async def test_head_answers_as_get_without_a_body(yard: Yard) -> None:
    await yard.create("a")
    answer = await yard.rest("HEAD", V1)
    assert (answer.status, answer.body) == (200, None)


async def test_healthz_of_both_versions_needs_no_token(yard: Yard) -> None:
    first = (await yard.rest("GET", "/apis/v1beta1/healthz", who="")).ok
    assert set(first) == {"commit_sha", "tag_name", "multi_user"}
    assert first["multi_user"] is False
    second = (await yard.rest("GET", "/apis/v2beta1/healthz", who="")).ok
    assert set(second) == {"commit_sha", "tag_name", "multi_user", "pipeline_store"}
    assert second["pipeline_store"] == "database"


async def test_healthz_tells_the_mode(tmp_path: Path) -> None:
    async with opened(tmp_path, multi_user=True) as yard:
        for version in ("v1beta1", "v2beta1"):
            assert (await yard.rest("GET", f"/apis/{version}/healthz", who="")).ok["multi_user"] is True


async def test_a_chunked_body_is_read(yard: Yard) -> None:
    async def pieces() -> Any:
        yield b'{"na'
        yield b'me": "a"}'

    headers = {"Authorization": f"Bearer {yard.token('operator')}"}
    async with yard.http.post(yard.service.url + V1, data=pieces(), headers=headers) as answer:
        assert answer.status == 200
        assert (await answer.json())["name"] == "a"


async def test_one_store_behind_both_versions(any_yard: Yard) -> None:
    yard = any_yard
    first = (await yard.rest("POST", V1, {"name": "a", "description": "x"})).ok
    second = (await yard.rest("POST", V2, {"display_name": "b"})).ok
    assert (
        await yard.names(V1)
        == await yard.names(V2)
        == sorted(["a", "b"], key=lambda name: {"a": first["id"], "b": second["experiment_id"]}[name])
    )
    seen = (await yard.rest("GET", f"{V2}/{first['id']}")).ok
    assert seen == {
        "experiment_id": first["id"],
        "display_name": "a",
        "description": "x",
        "created_at": first["created_at"],
        "storage_state": "AVAILABLE",
        "last_run_created_at": "1970-01-01T00:00:00Z",
    }
    (await yard.rest("POST", V1, {"name": "b"})).is_error(409, 6)


async def test_v1beta1_refuses_a_namespace_that_v2beta1_leaves_aside(yard: Yard) -> None:
    (
        await yard.rest(
            "POST",
            V1,
            {
                "name": "a",
                "resource_references": [{"key": {"type": "NAMESPACE", "id": "ns"}, "relationship": "OWNER"}],
            },
        )
    ).is_error(400, 3, "resource_references")
    made = (await yard.rest("POST", V2, {"display_name": "a", "namespace": "ns"})).ok
    assert "namespace" not in made
    assert await yard.names(V2, namespace="other") == ["a"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("resource_reference_key.type=NAMESPACE&resource_reference_key.id=ns", "resource_reference_key.id"),
        ("resource_reference_key.type=EXPERIMENT&resource_reference_key.id=", "resource_reference_key.type"),
        ("resource_reference_key.type=JOB&resource_reference_key.id=x", "resource_reference_key.type"),
        ("resource_reference_key.id=x", "resource_reference_key.type"),
    ],
)
async def test_references_that_single_user_mode_refuses(yard: Yard, query: str, field: str) -> None:
    (await yard.rest("GET", f"{V1}?{query}")).is_error(400, 3, field)


async def test_grpc_and_rest_fail_alike(yard: Yard) -> None:
    request = v1.ListExperimentsRequest(page_size=-1)
    failure = await yard.fails(yard.v1.ListExperiment, request, StatusCode.INVALID_ARGUMENT)
    answer = await yard.listed(page_size=-1)
    answer.is_error(400, 3)
    assert answer.body["message"] == failure.message
    assert answer.body["details"][0]["error_message"] == failure.short == "must not be negative; -1 is"
    assert answer.body["message"] == f"page_size: {failure.short}"
    assert failure.fields == ("page_size",)


async def test_what_keeps_a_connection_waiting_is_answered(yard: Yard) -> None:
    """A request line that is too long, or bytes that are no HTTP, end in a 4xx."""
    async with aiohttp.ClientSession() as http:
        url = f"{yard.service.url}{V1}?filter={'x' * 100_000}"
        async with http.get(url) as answer:
            assert 400 <= answer.status < 500

"""The export over gRPC and HTTP (pods contract, sections 2 to 6), of one store that nobody changes."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format

from shared.pb.api.v1.pagination_pb2 import AggregateBy, SortOption
from shared.pb.api.v1.pod_service_pb2 import ExportPodRequest
from shared.pb.api.v1.search_service_pb2 import RawQuery
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment, StoredPod
from shared.pb.storage.pod_pb2 import Pod
from tests.contract.pods_yard import (
    CLUSTER,
    EXPORT,
    OTHER,
    Yard,
    by_id,
    deployment_id,
    event,
    feed,
    id_of,
    opened,
    pod,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("pods-export")]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
COUNT = 60
LONE = pod(COUNT, name="lone", namespace="prod", deployment_id=None, cluster_id=OTHER, live_instances=None)
ENDED = pod(COUNT + 1, name="ended", live_instances=None)
ENDED.terminated_instances.add().instances.add(container_name="job", exit_code=3, finished={"seconds": 9})
PODS = [*(pod(number) for number in range(COUNT)), LONE, ENDED]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard"), "sqlite") as found:
        await found.push(*(event(feed.REPLACE, one) for one in PODS))
        await found.inventory(
            Cluster(id=CLUSTER, name="east"),
            *(
                Deployment(
                    id=deployment_id(number),
                    name=f"shop-{number}",
                    type="Deployment" if number else "DaemonSet",
                    cluster_id=CLUSTER,
                    cluster_name="stale",
                    namespace_id=id_of(number, 0xE),
                    labels={"app": f"app{number}", "tier": "front"},
                    annotations={"owner": "ann"} if number == 2 else {},
                    pod_labels={"v": str(number)},
                    service_account="bot",
                    created={"seconds": 1_700_000_000},
                )
                for number in range(4)
            ),
        )
        yield found


async def names(yard: Yard, query: str) -> set[str]:
    """What a query finds, the same over both transports and as a list, each pod once."""
    over_grpc = await yard.export(query)
    over_http = (await yard.lines(query)).pods
    listed = await yard.get_pods(query)
    assert [one.id for one in over_grpc] == [one["id"] for one in over_http] == [one.id for one in listed]
    assert [json_format.ParseDict(one, Pod()) for one in over_http] == over_grpc == listed
    return {one.name for one in by_id(over_grpc).values()}


def web(*numbers: int) -> set[str]:
    return {f"web-{number}" for number in numbers}


async def test_it_holds_all_that_is_stored_in_a_stable_order(yard: Yard) -> None:
    found = await yard.export()
    assert by_id(found) == by_id(PODS)
    assert found == sorted(PODS, key=lambda one: (one.deployment_id, one.id))
    assert await names(yard, "") == {one.name for one in PODS}


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("Pod Name:web-1", [1, *range(10, 20)]),
        ('Pod Name:"web-1"', [1]),
        ("pod name:WEB-59", [59]),
        ("Pod Name:r/-[12]$", [1, 2]),
        ("Namespace:test+Pod Name:web-5", [5, 50, 53, 56, 59]),
        ("Namespace:test,dev+Pod Name:web-5", [5, 50, 52, 53, 55, 56, 58, 59]),
        ('Namespace:"test"', []),
        (f"Pod ID:{id_of(7)},{id_of(9).upper()}", [7, 9]),
        (f"Pod ID:{id_of(7)},{id_of(8)}+Namespace:dev", [7]),
        (f"Deployment ID:{deployment_id(3)}+Pod Name:web-1", [13, 18]),
        (f"Cluster ID:!{OTHER}+Pod Name:web-1", [1, *range(10, 20)]),
        ("Deployment ID:-+Pod Name:web", []),
        ("Container Image Digest:sha256:0003+Pod Name:web-1", [10, 17]),
        ("Container ID:run-42", [42]),
        ("Node:node-3+Pod Name:web-1", [11, 15, 19]),
        ("Deployment:shop-2+Pod Name:web-1", [12, 17]),
        ("Cluster:EAST+Namespace:dev+Pod Name:web-1", [1, 10, 13, 16]),
        ("Cluster:stale", []),
        ("Deployment Type:daemon+Pod Name:web-1", [10, 15]),
        ("Deployment Label:app=app3+Pod Name:web-1", [13, 18]),
        ("Deployment Annotation:owner=+Pod Name:web-2", [2, 22, 27]),
        ("Pod Label:v=1+Pod Name:web-1", [1, 11, 16]),
        (f"Namespace ID:{id_of(1, 0xE)}+Pod Name:web-1", [1, 11, 16]),
        ("Service Account:bot+Deployment:!shop-0,!shop-1+Pod Name:web-1$", []),
        # An open quote hides all that follows.
        ('Namespace:"dev+Pod Name:web-1', []),
        ("Pod Name:web-1+Nonsense:x", [1, *range(10, 20)]),
        ("Pod Name:web-1,+Namespace:dev+Pod Name:web-5", [52, 55, 58]),
        ("Pod Name:we*", []),
        ("Pod Name:web_1,web%", []),
        (f"Pod ID:r/0000003[12]$,{id_of(7)}", [7, 49, 50]),
        (f'Deployment ID:!"{deployment_id(3)}"+Pod Name:web-3', [30, 31, 32, 34, 35, 36, 37, 39]),
        # Whose deployment is unknown matches no label that is joined, whatever it asks for.
        ("Deployment Label:*+Pod Name:web-2", [2, 20, 21, 22, 23, 25, 26, 27, 28]),
        ("Deployment Label:!none=+Pod Name:web-4", [40, 41, 42, 43, 45, 46, 47, 48]),
        ("Deployment Label:tier=!back+Pod Name:web-4", [40, 41, 42, 43, 45, 46, 47, 48]),
        ("Deployment Label:-", []),
        ("Deployment:*+Pod Name:web-4", [40, 41, 42, 43, 45, 46, 47, 48]),
        ("Created:-", []),
        (f"Namespace ID:!{id_of(1, 0xE)}+Pod Name:web-1", [10, 12, 13, 15, 17, 18]),
        ("Created:>1d+Deployment:shop-1+Pod Name:web-1", [1, 11, 16]),
        # Pods whose deployment is unknown never match a joined label.
        ("Deployment:!x+Pod Name:web-4,web-9", [4 + 36, 41, 42, 43, 45, 46, 47, 48]),
    ],
)
async def test_queries(yard: Yard, query: str, numbers: list[int]) -> None:
    assert await names(yard, query) == web(*numbers)


async def test_queries_about_pods_that_lack_something(yard: Yard) -> None:
    assert await names(yard, "Deployment ID:-") == {"lone"}
    assert await names(yard, "Container Name:job") == {"ended"}
    assert await names(yard, f"Cluster ID:{OTHER}") == {"lone"}
    assert "lone" not in await names(yard, "Container Image Digest:*")
    assert "lone" in await names(yard, "Namespace:*")
    assert await names(yard, "Namespace:-") == set()
    # Nothing that is known is left: every pod.
    assert len(await names(yard, "CVE:x+nonsense")) == len(PODS)


async def test_many_ids_are_looked_up_by_name(yard: Yard) -> None:
    for numbers in (range(1200), range(1199, -1, -1)):
        query = "Pod ID:" + ",".join(id_of(number) for number in numbers)
        assert await yard.export(query) == await yard.export()
    by_name = {"field": "Pod ID", "reversed": True}
    assert await yard.get_pods(query, sort_option=by_name) == await yard.get_pods(sort_option=by_name)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("Pod ID:abc", 'value "abc" in search query must be valid UUID'),
        ("Namespace:x+Deployment ID:!y", 'value "y" in search query must be valid UUID'),
        ("Namespace:r/(", "invalid regexp"),
        ("Deployment Label:!a=b", "unsupported map query"),
        ("Created:x", "must be a time"),
        ("Namespace:!!x", "reserved"),
    ],
)
async def test_values_that_are_wrong(yard: Yard, query: str, said: str) -> None:
    failure = await yard.fails(yard.stub.ExportPods(ExportPodRequest(query=query), metadata=yard.metadata()))
    assert (failure.code, [v.field for v in failure.violations]) == (INVALID, ["query"])
    assert said in failure.message
    (await yard.lines(query)).is_error(400, 3, said)
    listed = await yard.fails(yard.stub.GetPods(RawQuery(query=query), metadata=yard.metadata()))
    assert listed == failure


async def test_a_bare_plus_in_a_url_is_a_blank(yard: Yard) -> None:
    bare = await yard.rest("GET", f"{EXPORT}?query=Namespace:dev+Pod%20Name:web-1")
    assert bare.pods == []  # one prefix: "dev Pod Name:web-1"
    assert len((await yard.rest("GET", f"{EXPORT}?query=Namespace:dev%2BPod%20Name:web-1")).pods) == 5


# -- the HTTP form


async def test_the_answer(yard: Yard) -> None:
    found = await yard.lines("Pod Name:web-1", headers={"Accept-Encoding": "identity"})
    headers = found.headers
    assert headers["Content-Type"] == "application/json"
    assert headers["Transfer-Encoding"] == "chunked" and "Content-Length" not in headers
    assert headers["Cache-Control"] == "no-store, no-cache"
    assert headers["Vary"] == "Accept-Encoding" and "Content-Encoding" not in headers
    assert headers["X-Request-Id"]
    first = found.body.splitlines()[0]
    assert first.startswith(b'{"result":{"pod":{"id":"') and first.endswith(b"}}}")
    assert len(found.pods) == 11


async def test_nothing_found_is_an_empty_body(yard: Yard) -> None:
    found = await yard.lines("Namespace:none")
    assert (found.status, found.body) == (200, b"")
    assert await yard.export("Namespace:none") == []


async def test_gzip(yard: Yard) -> None:
    plain = await yard.lines(headers={"Accept-Encoding": "identity"})
    token = yard.service.tokens["admin"]
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    async with yard.http.get(yard.service.url + EXPORT, headers=headers, auto_decompress=False) as got:  # type: ignore[call-arg]
        assert got.headers["Content-Encoding"] == "gzip"
        data = await got.read()
    assert zlib.decompress(data, 16 + zlib.MAX_WBITS) == plain.body
    assert len(data) < len(plain.body) / 3


@pytest.mark.parametrize(
    ("target", "accept"), [("pretty", ""), ("pretty=false", ""), ("", "application/json+pretty")]
)
async def test_pretty_indents(yard: Yard, target: str, accept: str) -> None:
    headers = {"Accept": accept} if accept else {}
    target = f"{EXPORT}?query=Pod%20Name:web-1&{target}"
    found = await yard.rest("GET", target, headers=headers)
    assert b'\n  "result": {\n    "pod": {' in found.body
    decoder, text, pods = json.JSONDecoder(), found.body.decode(), []
    while text.strip():
        value, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        pods.append(value["result"]["pod"])
    assert pods == (await yard.lines("Pod Name:web-1")).pods


@pytest.mark.parametrize(
    ("target", "status", "code", "said"),
    [
        ("?timeout=x", 400, 3, 'parsing field "timeout": '),
        ("?timeout=2147483648", 400, 3, 'parsing field "timeout": '),
        ("?timeout=1.5", 400, 3, 'parsing field "timeout": '),
        ("?timeout=1&timeout=2", 400, 3, 'too many values for field "timeout"'),
        ("?query=a&query=b", 400, 3, 'too many values for field "query"'),
        ("?query=a&timeout=x&query=b", 400, 3, '; parsing field "timeout": '),
        # The clock is looked at before the query, which is only read then.
        ("?timeout=-1&query=Pod%20ID:x", 504, 4, "deadline exceeded"),
        ("?timeout=-1", 504, 4, "deadline exceeded"),
        ("?timeout=-2147483648", 504, 4, "deadline exceeded"),
        ("/nope", 404, 5, "no such path"),
    ],
)
async def test_errors_before_the_first_pod(
    yard: Yard, target: str, status: int, code: int, said: str
) -> None:
    (await yard.rest("GET", EXPORT + target)).is_error(status, code, said)


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods(yard: Yard, verb: str) -> None:
    (await yard.rest(verb, EXPORT)).is_error(501, 12, "is not allowed")


@pytest.mark.parametrize(
    "target",
    [
        "?format=json&x=1",
        "?timeout=",
        "?timeout=0&query=",
        "?timeout=60&unknown=1&unknown=2",
        "?&&",
        "?timeout=2147483647",
        # An export has no pages.
        "?limit=1&offset=5&page_token=x&pagination.limit=1",
        "?Timeout=x&TIMEOUT=y",
    ],
)
async def test_parameters_that_say_nothing(yard: Yard, target: str) -> None:
    assert len((await yard.rest("GET", EXPORT + target)).pods) == len(PODS)


@pytest.mark.parametrize(
    ("target", "who", "status"),
    [
        ("", "admin", 200),
        ("?query=Namespace:none", "admin", 200),
        ("?timeout=x", "admin", 400),
        ("?query=Pod%20ID:x", "admin", 400),
        ("?timeout=-1", "admin", 504),
        ("", "", 401),
    ],
)
async def test_head_is_get_without_its_body(yard: Yard, target: str, who: str, status: int) -> None:
    headers = {"Accept-Encoding": "identity"}
    found = await yard.rest("HEAD", EXPORT + target, who=who, headers=headers)
    assert (found.status, found.body) == (status, b"")
    whole = await yard.rest("GET", EXPORT + target, who=who, headers=headers)
    assert whole.status == status
    for name in ("Content-Type", "Cache-Control", "Vary", "Content-Length"):
        assert found.headers.get(name) == whole.headers.get(name), name


@pytest.mark.parametrize(
    ("accepted", "coded"),
    [
        ("gzip, deflate, br", True),
        ("identity, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("br, deflate", False),
        ("", False),
    ],
)
async def test_what_is_accepted_decides(yard: Yard, accepted: str, coded: bool) -> None:
    for query, count in (("", len(PODS)), ("Namespace:none", 0)):
        found = await yard.lines(query, headers={"Accept-Encoding": accepted})
        assert found.headers.get("Content-Encoding") == ("gzip" if coded else None)
        assert found.headers["Vary"] == "Accept-Encoding"
        assert len(found.pods) == count


async def test_every_field_stands_there_and_null_for_what_is_not_set(yard: Yard) -> None:
    (lone,) = (await yard.lines(f"Pod ID:{LONE.id}")).pods
    assert lone == {
        "id": LONE.id,
        "name": "lone",
        "deploymentId": "",
        "namespace": "prod",
        "clusterId": OTHER,
        "liveInstances": [],
        "terminatedInstances": [],
        "started": "2023-11-14T22:14:20Z",
    }
    (ended,) = (await yard.lines(f"Pod ID:{ENDED.id}")).pods
    assert ended["terminatedInstances"] == [
        {
            "instances": [
                {
                    "instanceId": None,
                    "containingPodId": "",
                    "containerName": "job",
                    "containerIps": [],
                    "started": None,
                    "imageDigest": "",
                    "finished": "1970-01-01T00:00:09Z",
                    "exitCode": 3,
                    "terminationReason": "",
                }
            ]
        }
    ]


async def test_a_negative_timeout_over_grpc(yard: Yard) -> None:
    failure = await yard.fails(yard.stub.ExportPods(ExportPodRequest(timeout=-1), metadata=yard.metadata()))
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED


# -- who may


async def test_without_a_token(yard: Yard) -> None:
    (await yard.rest("GET", EXPORT, who="")).is_error(401, 16, "credentials not found")
    failure = await yard.fails(yard.stub.ExportPods(ExportPodRequest(), metadata=()))
    assert (failure.code, failure.message) == (grpc.StatusCode.UNAUTHENTICATED, "credentials not found")


async def test_with_a_token_that_is_none(yard: Yard) -> None:
    said = "credentials not found: token-based: cannot extract identity: "
    (await yard.rest("GET", EXPORT, who="abc.def.ghi")).is_error(401, 16, said)
    found = await yard.rest("GET", EXPORT, who="", headers={"Authorization": "Basic YTpi"})
    found.is_error(401, 16, said)
    # Before anything is said about the parameters.
    (await yard.rest("GET", f"{EXPORT}?timeout=x", who="")).is_error(401, 16)


async def test_a_scope_filters_silently(yard: Yard) -> None:
    assert await yard.export(who="viewer") == []
    assert (await yard.rest("GET", EXPORT, who="viewer")).pods == []
    await yard.put_user("viewer", "viewer", "prod", "Test")
    try:
        found = await yard.export(who="viewer")
        assert found == [one for one in await yard.export() if one.namespace in ("prod", "Test")]
        assert await yard.get_pods("Namespace:dev", who="viewer") == []
        assert len(await yard.get_pods(f"Pod ID:{id_of(0)},{id_of(1)}", who="viewer")) == 1
        assert (await yard.rest("GET", f"{EXPORT}?query=Namespace:d", who="viewer")).pods == []
    finally:
        await yard.put_user("viewer", "viewer")


# -- lists


async def test_lists_page_by_offset(yard: Yard) -> None:
    whole = await yard.export()
    assert await yard.get_pods(limit=10) == whole[:10]
    assert await yard.get_pods(limit=10, offset=55) == whole[55:]
    assert await yard.get_pods(offset=100) == []
    assert (
        await yard.get_pods("Namespace:dev", limit=2, offset=1) == (await yard.export("Namespace:dev"))[1:3]
    )
    for limit in (0, 1000, 5000):
        assert await yard.get_pods(limit=limit) == whole


async def test_a_list_holds_a_thousand_pods(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        await yard.push(*(event(feed.REPLACE, pod(number)) for number in range(1003)))
        whole = await yard.export()
        assert len(whole) == 1003
        for limit in (0, 1000, 1001, 2**31 - 1):
            assert await yard.get_pods(limit=limit) == whole[:1000]
        assert await yard.get_pods(offset=1000) == whole[1000:]
        assert await yard.get_pods(limit=999, offset=2) == whole[2:1001]


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("Pod ID", lambda one: one.id),
        ("pod name", lambda one: (one.name.casefold(), one.id)),
        ("Namespace", lambda one: (one.namespace, one.id)),
        ("Deployment ID", lambda one: (one.deployment_id, one.id)),
        ("CLUSTER ID", lambda one: (one.cluster_id, one.id)),
    ],
)
async def test_lists_sort_by_labels(yard: Yard, field: str, key: object) -> None:
    assert await yard.get_pods(sort_option=SortOption(field=field)) == sorted(PODS, key=key)  # type: ignore[call-overload]
    ids = ",".join(one.id for one in PODS)
    named = await yard.get_pods(f"Pod ID:{ids}", sort_option=SortOption(field=field))
    assert named == sorted(PODS, key=key)  # type: ignore[call-overload]


async def test_lists_sort_by_several_labels(yard: Yard) -> None:
    options = [SortOption(field="Namespace", reversed=True), SortOption(field="Pod Name")]
    found = await yard.get_pods(sort_options=options, sort_option=SortOption(field="Pod ID"))
    assert found == sorted(
        sorted(PODS, key=lambda one: one.name), key=lambda one: one.namespace, reverse=True
    )
    backwards = await yard.get_pods(sort_option=SortOption(field="Pod ID", reversed=True))
    assert backwards == sorted(PODS, key=lambda one: one.id, reverse=True)


@pytest.mark.parametrize(
    ("pagination", "field"),
    [
        ({"limit": -1}, "pagination.limit"),
        ({"offset": -1}, "pagination.offset"),
        ({"sort_option": SortOption(field="Node")}, "pagination.sort_option.field"),
        ({"sort_option": SortOption(field="")}, "pagination.sort_option.field"),
        ({"sort_options": [SortOption(field="Cluster")]}, "pagination.sort_options[0].field"),
        (
            {"sort_option": SortOption(field="Namespace", aggregate_by=AggregateBy())},
            "pagination.sort_option.aggregate_by",
        ),
    ],
)
async def test_lists_refuse(yard: Yard, pagination: dict[str, object], field: str) -> None:
    call = yard.stub.GetPods(RawQuery(pagination=pagination), metadata=yard.metadata())  # type: ignore[arg-type]
    failure = await yard.fails(call)
    assert (failure.code, [v.field for v in failure.violations]) == (INVALID, [field])


async def test_lists_over_rest(yard: Yard) -> None:
    found = await yard.rest(
        "GET", f"/v1/pods?query={quote('Namespace:dev')}&pagination.limit=2&pagination.offset=1"
    )
    assert found.status == 200
    assert [one["id"] for one in found.json["pods"]] == [
        one.id for one in (await yard.export("Namespace:dev"))[1:3]
    ]
    assert found.json["pods"][0]["liveInstances"][0]["finished"] is None
    sorted_by = "pagination.sortOption.field=Pod%20Name&pagination.sort_option.reversed=true"
    found = await yard.rest(
        "GET", f"/v1/pods?query=Pod%20Name:web-1&{sorted_by}&pagination.limit=3&format=json"
    )
    assert [one["name"] for one in found.json["pods"]] == ["web-19", "web-18", "web-17"]
    assert (await yard.rest("GET", "/v1/pods?query=Namespace:none")).json == {"pods": []}
    (await yard.rest("GET", "/v1/pods?query=Pod%20ID:x")).is_error(400, 3, "must be valid UUID")
    (await yard.rest("GET", "/v1/pods", who="")).is_error(401, 16, "credentials not found")
    (await yard.rest("POST", "/v1/pods", "{}")).is_error(501, 12)


# -- the admin API


async def test_the_admin_api_speaks_the_query_language(yard: Yard) -> None:
    async def listed(kind: str, filter: str = "", order_by: str = "") -> list[str]:
        request = admin_pb2.ListRequest(kind=kind, filter=filter, order_by=order_by, page_size=1000)
        found = await yard.admin.List(request, metadata=yard.metadata())
        return [one.name for one in found.objects]

    assert await listed("pod") == sorted(one.id for one in PODS)
    assert await listed("pod", "Pod Name:web-1,lone", "deployment_id, name") == [
        LONE.id,
        *(
            one.id
            for one in sorted(PODS, key=lambda p: (p.deployment_id, p.name))
            if one.name.startswith("web-1")
        ),
    ]
    assert await listed("pod", "Deployment:shop-1") == [
        one.id for one in PODS if one.deployment_id == deployment_id(1)
    ]
    assert await listed("pod_cluster") == [CLUSTER]
    assert await listed("pod_deployment", 'name = "shop-3"') == [deployment_id(3)]


async def test_the_admin_api_shows_no_lines(yard: Yard) -> None:
    request = admin_pb2.GetRequest(kind="pod", name=LONE.id)
    found = StoredPod.FromString((await yard.admin.Get(request, metadata=yard.metadata())).body.value)
    assert (found.pod, found.line, found.source) == (LONE, b"", "import")
    history = admin_pb2.HistoryRequest(kind="pod", name=LONE.id)
    (version,) = (await yard.admin.History(history, metadata=yard.metadata())).versions
    assert StoredPod.FromString(version.after.value) == found


async def test_a_compressed_feed_of_the_export_changes_nothing(yard: Yard) -> None:
    head = await yard.store.head()
    lines = (await yard.lines(headers={"Accept-Encoding": "identity"})).body
    found = await yard.rest(
        "POST", "/v1/feed/pods?mode=replace", gzip.compress(lines), headers={"Content-Encoding": "gzip"}
    )
    assert found.lines[-1]["result"]["unchanged"] == len(PODS)
    assert await yard.store.head() == head

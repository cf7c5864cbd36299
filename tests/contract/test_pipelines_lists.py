"""Lists: page size, totals, sorting, tokens (docs/apis/pipelines.md, "Lists")."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from grpc import StatusCode

from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from tests.contract.pipelines_yard import V1, V2, Clock, Yard, opened, where


async def fill(yard: Yard, names: list[str], **shared: Any) -> list[str]:
    """Experiments with these names, in one commit; answers their ids in order of id."""
    items = [{"display_name": name, **shared} for name in names]
    answer = await yard.rest("POST", "/admin/v1/apply", {"manifest": json.dumps({"experiments": items})})
    assert answer.status == 200, answer.body
    found = await yard.list(page_size=200, sort_by="id")
    return [item["id"] for item in found["experiments"]]


async def walk(yard: Yard, path: str = V1, **query: Any) -> list[dict[str, Any]]:
    """Every page of a list, following tokens with the token alone."""
    pages = [await yard.list(path, **query)]
    size = {key: value for key, value in query.items() if key == "page_size"}
    while token := pages[-1].get("next_page_token"):
        assert len(pages) < 500
        pages.append(await yard.list(path, page_token=token, **size))
    return pages


def rows(pages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for page in pages for item in page.get("experiments", [])]


async def test_page_size(yard: Yard) -> None:
    await fill(yard, [f"n{number}" for number in range(205)])
    asked = {None: 20, 0: 20, 1: 1, 20: 20, 199: 199, 200: 200, 201: 200, 2**31 - 1: 200}
    for path, (size, got) in itertools.product((V1, V2), asked.items()):
        found = await yard.list(path, **({} if size is None else {"page_size": size}))
        assert len(found["experiments"]) == got
        assert found["total_size"] == 205


async def test_total_size_counts_all_matches_and_is_the_same_on_every_page(any_yard: Yard) -> None:
    yard = any_yard
    await fill(yard, [f"n{number}" for number in range(7)])
    await fill(yard, [f"old{number}" for number in range(5)], storage_state="ARCHIVED")
    pages = await walk(yard, page_size=5)
    assert [page["total_size"] for page in pages] == [12, 12, 12]
    filter = json.dumps(where("storage_state", "EQUALS", string_value="ARCHIVED"))
    pages = await walk(yard, page_size=2, filter=filter)
    assert [page["total_size"] for page in pages] == [5, 5, 5]


async def test_totals_follow_every_write(any_yard: Yard) -> None:
    yard = any_yard
    active = where("storage_state", "NOT_EQUALS", string_value="ARCHIVED")
    part = where("name", "IS_SUBSTRING", string_value="b")
    described = where("description", "EQUALS", string_value="")

    async def totals() -> list[int]:
        return [
            (await yard.list(**query)).get("total_size", 0)
            for query in ({}, {"filter": active}, {"filter": part}, {"filter": described})
        ]

    assert await totals() == [0, 0, 0, 0]
    made = await yard.create("abc")
    assert await totals() == [1, 1, 1, 1]
    await yard.create("xyz", "d")
    assert await totals() == [2, 2, 1, 1]
    await yard.rest("POST", f"{V1}/{made.id}:archive")
    assert await totals() == [2, 1, 1, 1]
    await yard.rest("POST", f"{V1}/{made.id}:unarchive")
    assert await totals() == [2, 2, 1, 1]
    await yard.rest("DELETE", f"{V1}/{made.id}")
    assert await totals() == [1, 1, 0, 0]


async def test_an_empty_list_is_an_empty_object(yard: Yard) -> None:
    assert await yard.list(V1) == await yard.list(V2) == {}


@pytest.mark.parametrize("count", [1, 9, 10, 11, 20])
async def test_no_token_on_the_last_page_even_when_it_is_full(any_yard: Yard, count: int) -> None:
    await fill(any_yard, [f"n{number}" for number in range(count)])
    pages = await walk(any_yard, page_size=10)
    assert [len(page["experiments"]) for page in pages] == [min(10, count - at) for at in range(0, count, 10)]
    assert "next_page_token" not in pages[-1]


# -- sorting

# name, description, created_at, state: ties in all but the name.
SORTED = [
    ("b", "x", "2020-01-01T00:00:00Z", "AVAILABLE"),
    ("a", "x", "2020-01-01T00:00:01Z", "ARCHIVED"),
    ("C", "", "2020-01-01T00:00:01Z", "AVAILABLE"),
    ("ab", "y", "2020-01-01T00:00:00Z", "ARCHIVED"),
    ("\N{ROCKET}", "", "2020-01-01T00:00:02Z", "AVAILABLE"),
    ("\N{FULLWIDTH LATIN SMALL LETTER A}", "x", "2020-01-01T00:00:02Z", "AVAILABLE"),
    ("é", "É", "2020-01-01T00:00:01Z", "AVAILABLE"),
]
KEYS = {
    "id": lambda row: row["id"],
    "experiment_id": lambda row: row["id"],
    "name": lambda row: row["name"],
    "display_name": lambda row: row["name"],
    "created_at": lambda row: row["created_at"],
    "description": lambda row: row.get("description", ""),
    "namespace": lambda row: "",
    "storage_state": lambda row: row["storage_state"],
    "last_run_created_at": lambda row: 0,
}


@pytest.fixture
async def unsorted(tmp_path: Path, backend: str) -> AsyncIterator[Yard]:
    async with opened(tmp_path, backend) as yard:
        for name, description, created_at, state in SORTED:
            await fill(yard, [name], description=description, created_at=created_at, storage_state=state)
        yield yard


async def test_every_sort_in_both_directions_ties_by_id_alike(unsorted: Yard) -> None:
    everything = (await unsorted.list())["experiments"]
    for field, key in KEYS.items():
        for direction in ("", " asc", " desc"):
            pages = await walk(unsorted, sort_by=field + direction, page_size=2)
            expected = sorted(everything, key=lambda row: (key(row), row["id"]), reverse=direction == " desc")
            assert rows(pages) == expected, (field, direction)
            second = await walk(unsorted, V2, sort_by=field + direction, page_size=3)
            assert [row["experiment_id"] for row in rows(second)] == [row["id"] for row in expected]


@pytest.mark.parametrize("text", ["NAME DESC", "  name \t desc ", "Name Desc", "display_name desc"])
async def test_spellings_of_a_sort(unsorted: Yard, text: str) -> None:
    expected = sorted((row[0] for row in SORTED), reverse=True)
    assert await unsorted.names(sort_by=text) == expected


async def test_oldest_first_by_default(yard: Yard, clock: Clock) -> None:
    for name in "cab":
        await yard.create(name)
        clock.advance(1)
    for text in ("", "created_at", "created_at asc", " "):
        assert await yard.names(sort_by=text) == ["c", "a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "size",
        "name up",
        "name desc desc",
        "desc",
        "name,created_at",
        "name;",
        "name'--",
        "experiments.name",
        "-name",
        "1",
    ],
)
async def test_sorts_that_are_refused(yard: Yard, text: str) -> None:
    request = v1.ListExperimentsRequest(sort_by=text)
    failure = await yard.fails(yard.v1.ListExperiment, request, StatusCode.INVALID_ARGUMENT)
    assert failure.fields == ("sort_by",)
    (await yard.listed(V2, sort_by=text)).is_error(400, 3, "sort_by")


# -- tokens

FILTERS: list[dict[str, Any]] = [
    where("name", "IS_SUBSTRING", string_value="n"),
    where("created_at", "GREATER_THAN", timestamp_value="2001-01-01T00:00:00.5Z"),
    where("created_at", "GREATER_THAN", int_value=5),
    where("created_at", "GREATER_THAN", long_value="5"),
    where("name", "IN", string_values={"values": [f"n{number}" for number in range(30)]}),
    where("created_at", "IN", long_values={"values": [1_577_836_800]}),
    where("storage_state", "NOT_EQUALS", string_value="ARCHIVED"),
]


@pytest.mark.parametrize("filter", FILTERS)
async def test_sort_and_filter_may_be_repeated_with_a_token(any_yard: Yard, filter: dict[str, Any]) -> None:
    yard = any_yard
    await fill(yard, [f"n{number}" for number in range(5)], created_at="2020-01-01T00:00:00Z")
    query = {"filter": json.dumps(filter), "sort_by": "name desc", "page_size": 2}
    alone = rows(await walk(yard, **query))
    page = await yard.list(**query)
    repeated = [*page["experiments"]]
    while token := page.get("next_page_token"):
        page = await yard.list(page_token=token, **query)
        repeated += page["experiments"]
    assert alone == repeated
    assert [row["name"] for row in alone] == ["n4", "n3", "n2", "n1", "n0"]


async def test_the_web_uis_list(yard: Yard) -> None:
    """v2beta1, newest first, a filter that is encoded twice and repeated with every token."""
    await fill(yard, [f"n{number}" for number in range(25)])
    await fill(yard, ["old"], storage_state="ARCHIVED")
    predicate = {"key": "storage_state", "operation": "NOT_EQUALS", "string_value": "ARCHIVED"}
    named = {"key": "name", "operation": "IS_SUBSTRING", "string_value": "N"}
    twice = quote(quote(json.dumps({"predicates": [named, predicate]}), safe=""), safe="")
    found, token = [], ""
    while True:
        query = f"page_token={token}&page_size=10&sort_by=created_at%20desc&filter={twice}&namespace="
        page = (await yard.rest("GET", f"{V2}?{query}")).ok
        assert page["total_size"] == 25
        found += [item["display_name"] for item in page["experiments"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert sorted(found) == sorted(f"n{number}" for number in range(25))


async def test_what_counts_as_the_same_query(yard: Yard) -> None:
    await fill(yard, ["a", "b", "c"])
    filter = where("storage_state", "NOT_EQUALS", string_value="ARCHIVED")
    token = (await yard.list(page_size=1, filter=filter, sort_by="name"))["next_page_token"]
    for same in (
        {"filter": where("storage_state", 2, stringValue="STORAGESTATE_ARCHIVED"), "sort_by": "NAME asc"},
        {"filter": json.dumps(filter, indent=2), "sort_by": "display_name"},
    ):
        assert await yard.names(page_token=token, page_size=5, **same) == ["b", "c"]
    for other, field in (
        ({"sort_by": "name"}, "filter"),
        ({"filter": filter}, "sort_by"),
        ({"filter": filter, "sort_by": "name desc"}, "sort_by"),
        ({"filter": filter, "sort_by": "created_at"}, "sort_by"),
        ({"filter": where("name", "EQUALS", string_value="a"), "sort_by": "name"}, "filter"),
        ({"filter": "{}", "sort_by": "name"}, "filter"),
    ):
        (await yard.listed(page_token=token, **other)).is_error(400, 3, field)


async def test_a_token_without_a_filter_takes_a_filter_of_nothing(yard: Yard) -> None:
    await fill(yard, ["a", "b"])
    token = (await yard.list(page_size=1, sort_by="name"))["next_page_token"]
    assert await yard.names(page_token=token, sort_by="name", filter="{}") == ["b"]


async def test_a_token_is_of_one_version_and_one_filter(yard: Yard) -> None:
    await fill(yard, ["a", "b"])
    token = (await yard.list(page_size=1))["next_page_token"]
    (await yard.listed(V2, page_token=token)).is_error(400, 3, "page_token")


async def test_the_page_size_may_change_between_pages(yard: Yard) -> None:
    await fill(yard, [f"n{number}" for number in range(9)])
    page = await yard.list(page_size=2, sort_by="name")
    found = [row["name"] for row in page["experiments"]]
    for size in (1, 3, 200):
        page = await yard.list(page_size=size, page_token=page["next_page_token"])
        found += [row["name"] for row in page["experiments"]]
    assert found == [f"n{number}" for number in range(9)]
    assert "next_page_token" not in page


async def test_tokens_hold_for_every_sort_in_both_versions(any_yard: Yard) -> None:
    await fill(any_yard, [f"n{number}" for number in range(5)])
    for path, field, direction in itertools.product((V1, V2), KEYS, ("asc", "desc")):
        pages = await walk(any_yard, path, sort_by=f"{field} {direction}", page_size=1)
        names = [row.get("name") or row.get("display_name") for row in rows(pages)]
        assert sorted(names) == [f"n{number}" for number in range(5)]


async def test_writes_between_pages_move_nothing_else(any_yard: Yard) -> None:
    yard = any_yard
    await fill(yard, [f"n{number:02}" for number in range(0, 40, 2)])
    page = await yard.list(page_size=5, sort_by="name")
    found = [row["name"] for row in page["experiments"]]
    ids = {row["name"]: row["id"] for row in (await yard.list(page_size=200))["experiments"]}
    number = 1
    while token := page.get("next_page_token"):
        # One row before the page's end comes, one goes; the row the token names goes too.
        await yard.create(f"a{number}")
        await yard.rest("DELETE", f"{V1}/{ids[found[-2]]}")
        await yard.rest("DELETE", f"{V1}/{ids[found[-1]]}")
        number += 1
        page = await yard.list(page_size=5, page_token=token)
        found += [row["name"] for row in page["experiments"]]
    assert found == [f"n{number:02}" for number in range(0, 40, 2)]


def opened_token(token: str) -> dict[str, Any]:
    return json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))


def sealed(payload: Any) -> str:
    data = json.dumps(payload, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
async def token(yard: Yard) -> str:
    await fill(yard, ["a", "b", "c"])
    query = {"page_size": 1, "sort_by": "created_at desc", "filter": json.dumps(FILTERS[-1])}
    return (await yard.list(**query))["next_page_token"]


async def test_a_token_is_compact_json_in_urlsafe_base64(yard: Yard, token: str) -> None:
    payload = opened_token(token)
    assert payload["v"] == 1
    assert sealed(payload) == token
    assert not set(token) & set("+/=")
    assert (await yard.listed(page_token=token)).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": 0},
        {"v": "1"},
        {"v": None},
        {"v": True},
        {"s": "size"},
        {"s": 5},
        {"s": None},
        {"s": "name; DROP TABLE"},
        {"s": ""},
        {"d": "asc"},
        {"d": 1},
        {"d": None},
        {"f": 5},
        {"f": None},
        {"f": "{"},
        {"f": '{"predicates":[{"op":"EQUALS","key":"x"}]}'},
        {"k": []},
        {"k": ["text"]},
        {"k": [1, 2]},
        {"k": 5},
        {"k": None},
        {"k": [1.5]},
        {"k": [True]},
        {"k": [2**63]},
        {"k": [{}]},
        {"k": [[1]]},
        {"n": 5},
        {"n": None},
        {"n": ["x"]},
        {"b": 0},
        {"b": "false"},
        {"i": None},
        {"a": "v2beta1"},
        {"a": 5},
        {"x": 1},
    ],
)
async def test_tokens_that_were_tampered_with(yard: Yard, token: str, change: dict[str, Any]) -> None:
    forged = sealed({**opened_token(token), **change})
    request = v1.ListExperimentsRequest(page_token=forged)
    failure = await yard.fails(yard.v1.ListExperiment, request, StatusCode.INVALID_ARGUMENT)
    assert failure.fields == ("page_token",)


@pytest.mark.parametrize("key", ["v", "a", "s", "d", "f", "k", "n", "b", "i"])
async def test_tokens_that_lack_something(yard: Yard, token: str, key: str) -> None:
    payload = opened_token(token)
    del payload[key]
    (await yard.listed(page_token=sealed(payload))).is_error(400, 3, "page_token")


async def test_tokens_that_are_none(yard: Yard, token: str) -> None:
    for text in (
        "x",
        "====",
        token[:-3],
        token[1:],
        token + "A",
        "A" * 20_000,
        sealed([1]),
        sealed("x"),
        sealed(None),
        base64.b64encode(b"\xff\xfe{}").decode(),
        "\N{ROCKET}",
        " ",
        sealed({"v": 1}),
        token.replace("e", "!", 1),
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
    ):
        (await yard.listed(page_token=text)).is_error(400, 3, "page_token")


async def test_a_token_of_the_longest_filter_and_sort_value_goes_on(yard: Yard) -> None:
    """Whatever a list may ask for, the token that it hands out is one that it takes."""
    for letter in "ab":
        description = '"\N{ROCKET}' * 32_767 + letter
        await yard.call(
            yard.v1.CreateExperiment,
            v1.CreateExperimentRequest(experiment=v1.Experiment(name=letter, description=description)),
        )
    names = ["a", "b", *("\N{ROCKET}" * 20 for _ in range(2_500))]
    filter = json.dumps(where("name", "IN", string_values={"values": names}), ensure_ascii=False)
    asked = v1.ListExperimentsRequest(page_size=1, sort_by="description", filter=filter)
    first = await yard.call(yard.v1.ListExperiment, asked)
    rest = await yard.call(
        yard.v1.ListExperiment, v1.ListExperimentsRequest(page_token=first.next_page_token)
    )
    assert [e.name for e in (*first.experiments, *rest.experiments)] == ["a", "b"]
    assert (first.total_size, rest.total_size, rest.next_page_token) == (2, 2, "")

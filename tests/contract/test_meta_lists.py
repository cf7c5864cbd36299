"""Lists of the catalogue: pages, order, page tokens and paging info (docs/apis/meta.md)."""

from __future__ import annotations

import asyncio
import base64
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode

from services.meta import servicer
from tests.contract.meta_yard import BACKENDS, LASTING, Clock, Yard, lasting, numbered, opened

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("meta-lists")]
COUNT = 23
ENVIRONMENTS = ("dev", "prod", None)
TITLES = ("", "b", "a", "B", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\N{ROCKET}", "\uffee", "aa")


def made() -> list[dict[str, Any]]:
    """Regions whose fields are missing here and there, in an order that is none of theirs."""
    found = []
    for number in range(COUNT):
        region: dict[str, Any] = {"name": f"regions/r{number:02}", "title": TITLES[number % len(TITLES)]}
        environment = ENVIRONMENTS[number % 3]
        if environment:
            region["metadata"] = {"labels": {"env": environment, "n.1": str(number % 4)}}
        if number % 5:
            region["location"] = {"city": f"city {number % 4}"}
        region["is_default"] = number == 11
        found.append(region)
    random.Random(1).shuffle(found)
    return found


REGIONS = made()
BY_NAME = {region["name"]: region for region in REGIONS}
SORTED = sorted(BY_NAME)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Yard]:
    data: Path = tmp_path_factory.mktemp("meta")
    async with opened(data, request.param) as found:
        await found.apply(
            regions=REGIONS,
            services=[{"name": "services/a", "current_version": "v", "all_versions": ["v"]}],
            deployments=[
                {"name": f"regions/r0{number}/deployments/d{order}", "service": "services/a"}
                for number in range(3)
                for order in (2, 1)
            ],
        )
        yield found


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


# -- sizes


async def test_sizes(yard: Yard) -> None:
    assert await yard.names("region") == SORTED
    assert await yard.names("region", page_size=1) == SORTED[:1]
    assert await yard.names("region", page_size=COUNT) == SORTED
    assert await yard.names("region", page_size=2**31 - 1) == SORTED
    for size in (-1, -(2**31)):
        await yard.refused("region", "List", "page_size", page_size=size)


async def test_the_default_is_100_and_more_than_1000_is_1000(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        await yard.apply(regions=[{"name": f"regions/r{number:04}"} for number in range(1002)])
        first = await yard.list("region")
        assert (len(first.regions), bool(first.next_page_token)) == (100, True)
        most = await yard.list("region", page_size=5000)
        assert (len(most.regions), bool(most.next_page_token)) == (1000, True)
        rest = await yard.list("region", page_size=5000, page_token=most.next_page_token)
        assert [row.name for row in rest.regions] == ["regions/r1000", "regions/r1001"]


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_a_page_closes_early_at_3_mib_in_both_directions(tmp_path: Path, backend: str) -> None:
    big = "x" * 30_000
    async with opened(tmp_path, backend) as yard:
        for half in (slice(0, 75), slice(75, None)):
            await yard.apply(regions=numbered(150, title=big)[half])
        seen: list[str] = []
        pages: list[list[str]] = []
        page = await yard.list("region", page_size=1000)
        while True:
            names = [row.name for row in page.regions]
            assert names and page.ByteSize() <= servicer.MAX_PAGE_BYTES + 40_000
            seen += names
            pages.append(names)
            if not page.next_page_token:
                break
            page = await yard.list("region", page_size=1000, page_token=page.next_page_token)
        assert seen == [f"regions/r{number:03}" for number in range(150)]
        assert len(pages) == 2
        back = await yard.list("region", page_size=1000, page_token=page.prev_page_token)
        assert [row.name for row in back.regions] == pages[0][-len(back.regions) :]
        assert back.ByteSize() <= servicer.MAX_PAGE_BYTES + 40_000
        assert {row.title for row in back.regions} == {big}


# -- tokens


async def forward(yard: Yard, size: int, **fields: Any) -> list[Any]:
    """All pages, from the first on."""
    pages = [await yard.list("region", page_size=size, **fields)]
    while pages[-1].next_page_token:
        token = pages[-1].next_page_token
        pages.append(await yard.list("region", page_size=size, page_token=token, **fields))
    return pages


def of(page: Any) -> list[str]:
    return [row.name for row in page.regions]


@pytest.mark.parametrize(
    "order", ["", "name desc", "title", "title desc, name", "metadata.labels.env desc", "location.city"]
)
@pytest.mark.parametrize("size", [1, 5, 22, 23])
async def test_walking_there_and_back(yard: Yard, order: str, size: int) -> None:
    pages = await forward(yard, size, order_by=order)
    names = [name for page in pages for name in of(page)]
    assert names == await yard.names("region", order_by=order)
    assert len(names) == COUNT and len(pages) == -(-COUNT // size)
    assert pages[0].prev_page_token == ""
    assert all(page.prev_page_token for page in pages[1:])
    for earlier, page in zip(reversed(pages[:-1]), reversed(pages[1:]), strict=True):
        back = await yard.list("region", page_size=size, page_token=page.prev_page_token, order_by=order)
        assert of(back) == of(earlier)
        again = await yard.list("region", page_size=size, page_token=back.next_page_token, order_by=order)
        assert of(again) == of(page)
        assert (back.prev_page_token == "") == (earlier is pages[0])


TOKEN = re.compile(r"[lr]\.[ie]\.C\.([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)")


async def test_the_grammar_that_go_clients_parse(yard: Yard) -> None:
    """dir.inclusion.C.base64(key):base64(value), padded standard base64, one pair, no further dot."""
    pages = await forward(yard, 5, order_by="title desc, metadata.labels.n\\.1")
    tokens = [token for page in pages for token in (page.next_page_token, page.prev_page_token) if token]
    assert len(tokens) == 2 * len(pages) - 2
    for token in tokens:
        found = TOKEN.fullmatch(token)
        assert found, token
        for part in found.groups():
            assert base64.b64encode(base64.b64decode(part, validate=True)).decode() == part
    assert {token[:4] for token in tokens} == {"r.e.", "l.i."}


async def test_which_way_tokens_point(yard: Yard) -> None:
    first = await yard.list("region", page_size=5)
    assert first.next_page_token.startswith("r.e.C.")
    second = await yard.list("region", page_size=5, page_token=first.next_page_token)
    # The request's own token, with direction and inclusion flipped.
    assert second.prev_page_token == "l.i." + first.next_page_token.removeprefix("r.e.")
    third = await yard.list("region", page_size=5, page_token=second.next_page_token)
    back = await yard.list("region", page_size=5, page_token=third.prev_page_token)
    assert back.next_page_token == "r.e." + third.prev_page_token.removeprefix("l.i.")
    assert back.prev_page_token.startswith("l.e.C.")


async def test_clients_may_flip_tokens_themselves(yard: Yard) -> None:
    token = (await yard.list("region", page_size=5)).next_page_token
    rest = token.removeprefix("r.e.")
    boundary = SORTED.index("regions/r04")

    async def names(flipped: str) -> list[str]:
        return await yard.names("region", page_size=3, page_token=flipped + rest)

    assert await names("r.e.") == SORTED[boundary + 1 : boundary + 4]
    assert await names("r.i.") == SORTED[boundary : boundary + 3]
    assert await names("l.i.") == SORTED[boundary - 2 : boundary + 1]
    assert await names("l.e.") == SORTED[boundary - 3 : boundary]


async def test_a_page_past_the_end_and_one_before_the_start(yard: Yard) -> None:
    token = (await yard.list("region", page_size=22)).next_page_token
    end = await yard.list("region", page_size=1, page_token=token)
    assert of(end) == SORTED[22:] and end.next_page_token == ""
    past = await yard.list("region", page_token="r.e." + end_cursor(await yard.list("region", page_size=22)))
    assert of(past) == SORTED[22:]
    start = (await yard.list("region", page_size=1)).next_page_token.removeprefix("r.e.")
    before = await yard.list("region", page_token="l.e." + start)
    assert of(before) == [] and before.prev_page_token == ""
    assert before.next_page_token == "r.i." + start


def end_cursor(page: Any) -> str:
    return page.next_page_token.removeprefix("r.e.")


async def test_a_token_is_bound_to_its_query_alone(yard: Yard) -> None:
    asked = {"filter": 'title != "z"', "order_by": "title"}
    token = (await yard.list("region", page_size=5, **asked)).next_page_token
    same = await yard.names("region", page_size=5, page_token=token, **asked)
    # The size of a page, what is shown and the numbers may change in between, and so may the spelling.
    more = await yard.list(
        "region",
        page_size=3,
        page_token=token,
        view=1,
        field_mask=["domain"],
        include_paging_info=True,
        **asked,
    )
    assert of(more) == same[:3] and more.total_results_count == COUNT
    spelled = {"filter": ' title  !=  "z" -- the same', "order_by": " title  ASC , name"}
    assert await yard.names("region", page_size=5, page_token=token, **spelled) == same
    for other in ({"filter": 'title != "y"', "order_by": "title"}, {**asked, "order_by": "title desc"}, {}):
        failure = await yard.refused("region", "List", "page_token", page_token=token, **other)
        assert "another query" in failure.message
    await yard.refused("service", "List", "page_token", page_token=token)


async def test_a_token_is_bound_to_its_parent(yard: Yard) -> None:
    token = (await yard.list("deployment", parent="regions/r00", page_size=1)).next_page_token
    assert await yard.names("deployment", parent="regions/r00", page_token=token) == [
        "regions/r00/deployments/d2"
    ]
    for parent in ("regions/r01", "regions/-"):
        await yard.refused("deployment", "List", "page_token", parent=parent, page_token=token)


def pair(value: str) -> str:
    return f"{base64.b64encode(b'rh').decode()}:{base64.b64encode(value.encode()).decode()}"


NO_TOKENS = [
    "x",
    "r.e.C",
    "r.e.C.",
    "r.e.C.a:b",
    "r.e.C.a:b.c",
    "x.e.C.eA==:eA==",
    "r.x.C.eA==:eA==",
    "r.e.X.eA==:eA==",
    "r.e.O.10",
    "r.e.S.eA==",
    "r.e.C.eA==:eA==",
    "r.e.C." + pair("eyJ2IjoxfQ"),
    "r.e.C." + pair("\N{ROCKET}"),
    "r.e.C." + pair("x") + "," + pair("y"),
    " ",
    "\N{ROCKET}",
    "r.e.C." + "A" * 40_000,
]


@pytest.mark.parametrize("token", NO_TOKENS, ids=lambda token: token[:24])
async def test_what_is_no_token_is_invalid(yard: Yard, token: str) -> None:
    await yard.refused("region", "List", "page_token", page_token=token)
    await yard.refused("region", "WatchMany", "page_token", page_token=token)


async def test_a_token_with_a_character_changed_is_invalid_or_harmless(yard: Yard) -> None:
    token = (await yard.list("region", page_size=5, order_by="title")).next_page_token
    draw = random.Random(3)
    refused = 0
    for _ in range(60):
        place = draw.randrange(len(token))
        changed = token[:place] + draw.choice("ABCxyz019.:=,") + token[place + 1 :]
        try:
            await yard.list("region", page_token=changed, order_by="title")
        except Exception as error:
            assert error.code() is StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("backend", LASTING)
async def test_tokens_survive_a_restart(tmp_path: Path, backend: str) -> None:
    asked = {"page_size": 5, "order_by": "title"}
    async with lasting(backend) as store:
        async with opened(tmp_path, store=store()) as yard:
            await yard.apply(regions=REGIONS)
            page = await yard.list("region", **asked)
            second = await yard.names("region", **asked, page_token=page.next_page_token)
        async with opened(tmp_path, store=store()) as yard:
            again = await yard.list("region", **asked, page_token=page.next_page_token)
            assert of(again) == second
            back = await yard.list("region", **asked, page_token=again.prev_page_token)
            assert of(back) == of(page)


async def test_the_boundary_row_may_be_gone(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend) as yard:
        await yard.apply(regions=numbered(6))
        token = (await yard.list("region", page_size=3)).next_page_token
        await yard.delete("region", "regions/r002")
        page = await yard.list("region", page_size=2, page_token=token)
        assert of(page) == ["regions/r003", "regions/r004"]
        back = await yard.list("region", page_size=2, page_token=page.prev_page_token)
        assert of(back) == ["regions/r000", "regions/r001"]
        assert back.prev_page_token == ""


async def test_what_stays_while_others_come_and_go_is_returned_once(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend) as yard:
        kept = [item["name"] for item in numbered(20)]
        await yard.apply(regions=numbered(20, title="t"))
        draw = random.Random(5)
        for order in ("title desc",) if backend == "wire" else ("", "title desc"):
            seen: list[str] = []
            token = ""
            while True:
                page = await yard.list("region", page_size=3, page_token=token, order_by=order)
                seen += of(page)
                token = page.next_page_token
                if not token:
                    break
                extra = [{"name": f"regions/r{draw.randrange(20):03}-{draw.randrange(9)}"}]
                await yard.apply(regions=extra)
                await yard.delete("region", extra[0]["name"])
                await yard.apply(regions=extra)
            assert [name for name in seen if name in kept] == sorted(kept, reverse=bool(order))
            assert len(seen) == len(set(seen))


# -- paging info


async def test_without_paging_info_both_numbers_are_0(yard: Yard) -> None:
    page = await yard.list("region", page_size=5)
    assert (page.current_offset, page.total_results_count) == (0, 0)


@pytest.mark.parametrize(
    ("filter", "order"),
    [
        ("", ""),
        ('metadata.labels.env = "prod"', ""),
        ('title > "a"', "title desc"),
        ("", "location.city, title desc"),
        ('domain = "none"', ""),
    ],
)
async def test_paging_info_forward_and_backward(yard: Yard, filter: str, order: str) -> None:
    asked = {"filter": filter, "order_by": order}
    everything = await yard.names("region", **asked)
    pages = await forward(yard, 4, include_paging_info=True, **asked)
    offset = 0
    for page in pages:
        assert page.total_results_count == len(everything)
        assert page.current_offset == offset
        offset += len(page.regions)
    page = pages[-1]
    while page.prev_page_token:
        page = await yard.list(
            "region", page_size=4, page_token=page.prev_page_token, include_paging_info=True, **asked
        )
        assert page.total_results_count == len(everything)
        assert page.current_offset == (everything.index(page.regions[0].name) if page.regions else 0)


async def test_numbers_are_of_the_parent(yard: Yard) -> None:
    page = await yard.list("deployment", parent="regions/r01", page_size=1, include_paging_info=True)
    assert page.total_results_count == 2
    page = await yard.list("deployment", parent="regions/-", page_size=1, include_paging_info=True)
    assert page.total_results_count == 6


async def test_one_page_is_one_snapshot(tmp_path: Path, backend: str) -> None:
    """Regions come and go in pairs: a page never shows or counts half of one."""
    async with opened(tmp_path, backend) as yard:
        stop = asyncio.Event()

        async def write() -> int:
            number = 0
            while not stop.is_set():
                number = number % 6 + 1
                await yard.apply(prune=True, regions=numbered(2 * number, title=str(number)))
            return number

        writer = asyncio.create_task(write(), name="writer")
        try:
            for _ in range(30):
                page = await yard.list("region", include_paging_info=True)
                assert len(page.regions) == page.total_results_count
                assert len(page.regions) in (0, *(2 * int(row.title) for row in page.regions[:1]))
                assert len({row.title for row in page.regions}) <= 1
        finally:
            stop.set()
        assert await writer > 0


# -- order


def key_of(path: str) -> Any:
    """(missing or not, value) as documented: what is null stands before what is not."""
    found: dict[str, Any] = {
        "name": lambda r: (True, r["name"]),
        "title": lambda r: (True, r.get("title", "")),
        "is_default": lambda r: (True, r.get("is_default", False)),
        "location.city": lambda r: ("location" in r, r.get("location", {}).get("city", "")),
        "metadata.labels.env": lambda r: null(r.get("metadata", {}).get("labels", {}).get("env")),
        "metadata.labels.n\\.1": lambda r: null(r.get("metadata", {}).get("labels", {}).get("n.1")),
    }
    return found[path]


def null(value: str | None) -> tuple[bool, str]:
    return (value is not None, value or "")


ORDERS: list[list[tuple[str, bool]]] = [
    [],
    [("name", False)],
    [("name", True)],
    [("title", False)],
    [("title", True)],
    [("title", False), ("name", True)],
    [("title", True), ("name", False)],
    [("is_default", True)],
    [("is_default", False), ("title", True)],
    [("location.city", False)],
    [("location.city", True)],
    [("metadata.labels.env", False)],
    [("metadata.labels.env", True), ("title", False)],
    [("metadata.labels.n\\.1", True), ("location.city", False), ("title", True)],
    [("name", False), ("title", True)],
]


@pytest.mark.parametrize(
    "keys", ORDERS, ids=lambda keys: ",".join(f"{k}{'-' * d}" for k, d in keys) or "none"
)
async def test_every_order(yard: Yard, keys: list[tuple[str, bool]]) -> None:
    text = ", ".join(f"{path} desc" if descending else path for path, descending in keys)
    ended = (
        keys if any(path == "name" for path, _ in keys) else [*keys, ("name", keys[-1][1] if keys else False)]
    )
    expected = list(REGIONS)
    for path, descending in reversed(ended):
        expected.sort(key=key_of(path), reverse=descending)
    assert await yard.names("region", order_by=text) == [region["name"] for region in expected]


async def test_how_orders_are_spelled(yard: Yard) -> None:
    expected = await yard.names("region", order_by="is_default desc, title asc")
    for text in (
        "isDefault DESC,title",
        " is-default\tDesc ,\n title  ASC ",
        "is_default desc, title, title asc",
    ):
        assert await yard.names("region", order_by=text) == expected
    assert await yard.names("region", order_by="  ") == SORTED


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "title,",
        "title,,name",
        "title asc desc",
        "title up",
        "nothing",
        "Title",
        "location",
        "connectivity_scores",
        "connectivity_scores.score",
        "metadata",
        "metadata.labels",
        "metadata.tags",
        "metadata.labels.a.b",
        "metadata.owner_references.kind",
        "title.x",
        "title, nothing",
        "-title",
        "title;",
    ],
)
async def test_what_is_no_order(yard: Yard, text: str) -> None:
    failure = await yard.refused("region", "List", "order_by", order_by=text)
    assert "position" in failure.info
    await yard.refused("region", "WatchMany", "order_by", order_by=text)


async def test_times_numbers_and_enums_order_as_such(tmp_path: Path, backend: str) -> None:
    """Not as texts: 9 s before 10 s, -1 before 2 before 10. What is missing comes first."""
    clock = Clock()
    clock.now = clock.now // (100 * 10**9) * 100 * 10**9
    async with opened(tmp_path, backend, clock=clock) as yard:
        for name, number in (("regions/bb", 2), ("regions/aa", 10), ("regions/cc", -1), ("regions/dd", None)):
            clock.advance(9.5)
            metadata = {} if number is None else {"shards": {"s": number}}
            await yard.apply(regions=[{"name": name, "metadata": metadata}])
        clock.advance(9.5)
        await yard.apply(regions=[{"name": "regions/aa", "title": "t"}])
        for order, ids in (
            ("metadata.create_time", "b a c d"),
            ("metadata.createTime desc", "d c a b"),
            ("metadata.update_time", "b c d a"),
            ("metadata.update_time desc", "a d c b"),
            ("metadata.shards.s", "d c b a"),
            ("metadata.shards.s desc", "a b c d"),
            ("metadata.generation", "b c d a"),
            ("metadata.generation desc", "a d c b"),
            ("metadata.lifecycle.state desc", "d c b a"),
            ("metadata.delete_time, metadata.generation desc, name", "a b c d"),
        ):
            found = await yard.names("region", order_by=order)
            assert found == [f"regions/{letter}{letter}" for letter in ids.split()], order
            first = await yard.list("region", order_by=order, page_size=1)
            rest = await yard.names("region", order_by=order, page_token=first.next_page_token)
            assert [first.regions[0].name, *rest] == found, order


@pytest.mark.parametrize("kind", ["deployment", "service", "resource"])
async def test_every_kind_has_its_orders(tmp_path: Path, backend: str, kind: str) -> None:
    """By each of its own fields, there and back."""
    async with opened(tmp_path, backend) as yard:
        await yard.apply(
            regions=numbered(2),
            services=[
                {"name": f"services/{name}", "display_name": title, "current_version": v, "all_versions": [v]}
                for name, title, v in (("a", "Z", "v2"), ("b", "Y", "v10"))
            ],
            resources=[
                {"name": "services/b/resources/Job", "plural_name": "z", "is_regional": True},
                {"name": "services/a/resources/Pod", "plural_name": "y"},
                {"name": "services/a/resources/Job", "plural_name": "x"},
            ],
            deployments=[
                {"name": "regions/r001/deployments/a", "service": "services/a"},
                {"name": "regions/r000/deployments/b", "service": "services/b"},
                {"name": "regions/r000/deployments/c", "service": "services/a"},
            ],
        )
        parent, orders = {
            "deployment": ("regions/-", ("service", "name")),
            "service": ("", ("display_name", "current_version", "name")),
            "resource": ("services/-", ("plural_name", "fqn", "is_regional", "name")),
        }[kind]
        asked = {"parent": parent} if parent else {}
        for field in orders:
            rows = await yard.rows(kind, **asked)
            for direction in ("asc", "desc"):
                expected = sorted(
                    rows, key=lambda row: (getattr(row, field), row.name), reverse=direction == "desc"
                )
                found = await yard.names(kind, order_by=f"{field} {direction}", **asked)
                assert found == [row.name for row in expected], (field, direction)

"""Page walks of a Collection equal a naive sorted list on every backend: random rows, filters, orders
and page sizes, forward and backward, alone and while writes go on. Counts equal the store's."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mongomock_motor import AsyncMongoMockClient

from services.pipelines.experiment import MARK, SCHEMA, Rules, definition
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.query import order_by
from shared.query.ast import EVERYTHING, And, Compare, In, Node, Not, Or, Substring
from shared.query.evaluate import compile
from shared.query.order_by import Ordering
from shared.query.pushdown import narrow
from shared.resource.collection import Collection, Page, PageRequest
from shared.resource.counter import Counter
from shared.resource.definition import CLAIM, Definition
from shared.storage.memory import MemoryStore
from shared.storage.mongo import MongoStore
from shared.storage.port import Author, Delete, Expect, Put, Query, Record, Store
from shared.storage.sqlite import SqliteStore

BY = Author("test", "test:experiment:write")
EXAMPLES = 25
Open = Callable[[Definition], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def memory(kind: Definition) -> AsyncIterator[Store]:
    store = MemoryStore([kind.storage(), CLAIM, MARK])
    await store.open()
    yield store
    await store.close()


@asynccontextmanager
async def sqlite(kind: Definition) -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "store.db", [kind.storage(), CLAIM, MARK])
        await store.open()
        yield store
        await store.close()


@asynccontextmanager
async def mongomock(kind: Definition) -> AsyncIterator[Store]:
    store = MongoStore(AsyncMongoMockClient(), "pages", [kind.storage(), CLAIM, MARK])
    await store.open()
    yield store
    await store.close()


backends = pytest.mark.parametrize("open_store", [memory, sqlite, mongomock])

# Values that tie and that are easily confused.
names = st.sampled_from(["a", "A", "b", "ab", "%", "_", "\u00e9", "e\u0301", "\uffff", "\U0001f680", "a b"])
descriptions = st.sampled_from(["", "x", "X", "xy", "\u00df", "ss"])
seconds = st.sampled_from([0, 1, 1, 2, 1_700_000_000])
states = st.sampled_from([Experiment.AVAILABLE, Experiment.ARCHIVED])
operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
state_names = st.sampled_from(["AVAILABLE", "ARCHIVED"])


@dataclass(frozen=True)
class Row:
    name: str
    description: str
    created_at: int
    state: int

    def experiment(self, identifier: str) -> Experiment:
        made = Experiment(
            experiment_id=identifier,
            display_name=f"{self.name} {identifier}",
            description=self.description,
            storage_state=self.state,  # type: ignore[arg-type]
        )
        made.created_at.seconds = self.created_at
        return made


row = st.builds(Row, names, descriptions, seconds, states)
leaves: st.SearchStrategy[Node] = st.one_of(
    st.builds(Compare, st.just("name"), operators, names),
    st.builds(Compare, st.just("description"), operators, descriptions),
    st.builds(Compare, st.just("created_at"), operators, seconds),
    st.builds(Compare, st.just("storage_state"), operators, state_names),
    st.builds(In, st.just("created_at"), st.lists(seconds, max_size=2).map(tuple)),
    st.builds(In, st.just("storage_state"), st.lists(state_names, max_size=2).map(tuple)),
    st.builds(Substring, st.sampled_from(["name", "description"]), names),
)
trees: st.SearchStrategy[Node] = st.just(EVERYTHING) | st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=2).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=2).map(tuple)),
    ),
    max_leaves=3,
)
orders = st.sampled_from(
    [
        "",
        "name",
        "name desc",
        "created_at",
        "created_at desc",
        "storage_state, created_at desc",
        "storage_state desc, name",
        "description",
        "description desc, created_at",
        "created_at, description desc, name",
    ]
).map(lambda text: order_by.parse(text, SCHEMA))


@dataclass(frozen=True)
class Case:
    rows: list[Row]
    filter: Node
    ordering: Ordering
    size: int
    # What a writer does between pages: an index of a row to touch, and how.
    writes: list[tuple[int, str, Row]]


cases = st.builds(
    Case,
    st.lists(row, max_size=14),
    trees,
    orders,
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["edit", "delete", "create"]), row), max_size=10),
)


def kind() -> tuple[Definition[Experiment], Callable[[], str]]:
    numbers = itertools.count()

    def new_id() -> str:
        return f"id{next(numbers):03}"

    return definition(Rules(lambda: 0, new_id, multi_user=False)), new_id


async def stored(
    collection: Collection[Experiment], rows: list[Row], new_id: Callable[[], str]
) -> list[Experiment]:
    made = [row.experiment(new_id()) for row in rows]
    changes = [change for one in made for change in collection.creation(one)]
    if changes:
        await collection.store.commit(changes, by=BY)
    return made


def expected(found: list[Experiment], case: Case) -> list[str]:
    """The ids of the matches in order, by plain Python."""
    matches = compile(case.filter, SCHEMA)
    key = case.ordering.sort_key()
    listed = [one for one in found if matches(one)]
    listed.sort(key=lambda one: key((case.ordering.values(one), one.experiment_id)))
    return [one.experiment_id for one in listed]


def ids(page: Page) -> list[str]:
    return [record.name for record in page.records]


@backends
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(case=cases)
def test_walks_equal_a_sorted_list(open_store: Open, case: Case) -> None:
    async def check() -> None:
        of, new_id = kind()
        async with open_store(of) as store:
            collection = Collection(store, of)
            wanted = expected(await stored(collection, case.rows, new_id), case)
            request = PageRequest(case.size, case.ordering, case.filter, total=True)
            pages = [await collection.page(request)]
            while pages[-1].next is not None:
                assert len(pages[-1].records) == case.size
                pages.append(await collection.page(replace(request, cursor=pages[-1].next)))
            assert [name for page in pages for name in ids(page)] == wanted
            assert {page.total for page in pages} == {len(wanted)}
            assert pages[0].previous is None
            # Back from the last page: the same rows, each page in list order.
            before: list[str] = []
            page = pages[-1]
            while page.previous is not None:
                page = await collection.page(replace(request, cursor=page.previous))
                assert page.records
                before = ids(page) + before
                assert page.total == len(wanted)
            assert before + ids(pages[-1]) == wanted
            # And forward again from wherever that began.
            forward = ids(page) if len(pages) > 1 else ids(pages[0])
            while page.next is not None:
                page = await collection.page(replace(request, cursor=page.next))
                forward += ids(page)
            assert forward == wanted

    asyncio.run(check())


@backends
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(case=cases, backward=st.booleans())
def test_walks_while_others_write(open_store: Open, case: Case, backward: bool) -> None:
    """Rows that no write touches appear exactly once, in order."""

    async def check() -> None:
        of, new_id = kind()
        async with open_store(of) as store:
            collection = Collection(store, of)
            made = await stored(collection, case.rows, new_id)
            request = PageRequest(case.size, case.ordering, case.filter, total=True)
            page = await collection.page(request)
            if backward:
                while page.next is not None:
                    page = await collection.page(replace(request, cursor=page.next))
            found, touched = ids(page), set()
            writes = iter(case.writes)
            while (cursor := page.previous if backward else page.next) is not None:
                for index, action, row in itertools.islice(writes, 2):
                    touched.add(await write(collection, made, index, action, row, new_id))
                page = await collection.page(replace(request, cursor=cursor))
                found = ids(page) + found if backward else found + ids(page)
            untouched = [name for name in expected(made, case) if name not in touched]
            assert [name for name in found if name not in touched] == untouched

    asyncio.run(check())


async def write(
    collection: Collection[Experiment],
    made: list[Experiment],
    index: int,
    action: str,
    row: Row,
    new_id: Callable[[], str],
) -> str:
    """Does it; answers whom it touched."""
    names = [record.name async for record in collection.scan(at=await collection.store.head())]
    victim = made[index % len(made)].experiment_id if made else ""
    if action == "create" or victim not in names:
        (one,) = await stored(collection, [row], new_id)
        return one.experiment_id
    if action == "delete":
        await collection.delete(victim, BY)
        return victim

    def change(experiment: Experiment) -> None:
        experiment.display_name = f"{row.name} {victim}"
        experiment.description = row.description
        experiment.storage_state = row.state  # type: ignore[assignment]

    await collection.update(victim, change, BY)
    return victim


@backends
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(
    commits=st.lists(st.lists(st.tuples(st.integers(0, 6), st.none() | row), max_size=3), max_size=12),
    filters=st.lists(leaves, min_size=1, max_size=3),
    reach=st.sampled_from([1, 3, 256]),
    compact=st.booleans(),
)
def test_a_counter_equals_the_count(
    open_store: Open,
    commits: list[list[tuple[int, Row | None]]],
    filters: list[Node],
    reach: int,
    compact: bool,
) -> None:
    async def check() -> None:
        of, _ = kind()
        exact = [node for node in (EVERYTHING, *filters) if narrow(node, SCHEMA).exact]
        async with open_store(of) as store:
            counter = Counter(store, reach=reach, entries=2)
            for number, commit in enumerate(commits):
                changes = {f"id{index}": row for index, row in commit}
                await store.commit([changed(name, row) for name, row in changes.items()], by=BY)
                if compact and number % 4 == 3:
                    await store.compact(await store.head())
                revision = await store.head()
                for node in exact:
                    matches = compile(node, SCHEMA)
                    query = Query("experiment", where=narrow(node, SCHEMA).conditions)
                    counted = await counter.count(query, lambda body, m=matches: m(of.parse(body)), revision)
                    assert counted == await store.count(query)
                    listed = [record async for record in store.scan(Query("experiment"))]
                    assert counted == sum(matches(of.parse(record.body)) for record in listed)

    asyncio.run(check())


def changed(name: str, row: Row | None) -> Put | Delete:
    if row is None:
        return Delete("experiment", name, Expect.ANY)
    return Put("experiment", name, row.experiment(name).SerializeToString())


class Interrupted(MemoryStore):
    """A peer commits just before each of the first scans."""

    interruptions = 0
    number = 0

    async def scan(self, query: Query, *, at: int | None = None) -> AsyncGenerator[Record, None]:
        if self.interruptions:
            self.interruptions -= 1
            self.number += 1
            await self.commit([changed(f"peer{self.number}", Row("p", "", 0, 1))], by=BY)
        async for record in super().scan(query, at=at):
            yield record


@pytest.mark.parametrize("interruptions", [0, 1, 2, 5])
@pytest.mark.parametrize("filter", [EVERYTHING, Compare("description", "=", "")])
async def test_rows_and_total_are_of_one_revision(interruptions: int, filter: Node) -> None:
    of, new_id = kind()
    store = Interrupted([of.storage(), CLAIM, MARK])
    await store.open()
    collection = Collection(store, of)
    await stored(collection, [Row("a", "", 0, 1), Row("b", "", 0, 1)], new_id)
    store.interruptions = interruptions
    page = await collection.page(PageRequest(100, Ordering(), filter, total=True))
    assert page.total == len(page.records) >= 2
    seen = [record.name async for record in store.scan(Query("experiment"), at=page.revision)]
    assert ids(page) == seen

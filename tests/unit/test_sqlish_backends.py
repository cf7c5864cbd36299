"""Filters and orders mean the same everywhere: the evaluator, the push-down and every backend agree
with an oracle that shares nothing with them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cmp_to_key
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mongomock_motor import AsyncMongoMockClient

from shared.query import order_by
from shared.query.ast import Node
from shared.query.evaluate import compile
from shared.query.order_by import Ordering
from shared.query.pushdown import narrow
from shared.resource.collection import Collection, PageRequest
from shared.resource.definition import Definition
from shared.storage.memory import MemoryStore
from shared.storage.mongo import MongoStore
from shared.storage.port import Author, Kind, Put, Query, Store
from shared.storage.sqlite import SqliteStore
from tests.unit.filter_samples import SAMPLES, Sample, filters, orders, random_resource
from tests.unit.naive_filter import holds, look

RESOURCES = 40
BACKENDS = ("memory", "sqlite", "mongomock")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
@settings(max_examples=70, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_the_evaluator_agrees_with_the_oracle(sample: Sample, data: st.DataObject, seed: int) -> None:
    node = sample.dialect.parse(data.draw(filters(sample)))
    matches, names = compile(node, sample.schema), sample.names
    for resource in resources(sample, seed, 12):
        assert matches(resource) == holds(node, resource, names), (node, resource)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_pages_of_every_backend_agree_with_the_oracle(
    yards: dict[str, Yard], backend: str, data: st.DataObject
) -> None:
    sample = data.draw(st.sampled_from(SAMPLES))
    indexed = data.draw(st.booleans())
    node = sample.dialect.parse(data.draw(filters(sample, indexed=indexed)))
    ordering = order_by.parse(data.draw(orders(sample)), sample.schema)
    size = data.draw(st.integers(1, RESOURCES + 1))
    yards[backend].check(sample, node, ordering, size)


def resources(sample: Sample, seed: int, count: int) -> list[Any]:
    source = random.Random(seed)
    return [random_resource(sample, source, source.choice(sample.ids)) for _ in range(count)]


class Yard:
    """A store with random resources of all four types, and what they should list as."""

    def __init__(self, store: Store, runner: asyncio.Runner, stored: dict[str, dict[str, Any]]) -> None:
        self.collections = {s.kind: Collection(store, definition(s)) for s in SAMPLES}
        self.store = store
        self.runner = runner
        self.stored = stored

    def check(self, sample: Sample, node: Node, ordering: Ordering, size: int) -> None:
        self.runner.run(self._check(sample, node, ordering, size))

    async def _check(self, sample: Sample, node: Node, ordering: Ordering, size: int) -> None:
        names = sample.names
        every = self.stored[sample.kind]
        expected = [name for name, resource in every.items() if holds(node, resource, names)]
        expected.sort(key=cmp_to_key(lambda a, b: naive_order(ordering, every[a], a, every[b], b, names)))
        narrowing = narrow(node, sample.schema)
        narrowed = [r.name async for r in self.store.scan(Query(sample.kind, where=narrowing.conditions))]
        assert set(narrowed) >= set(expected), "the push-down left out a match"
        if narrowing.exact:
            assert set(narrowed) == set(expected), "the push-down is said to be exact"

        found: list[str] = []
        request = PageRequest(size, ordering, node, total=True)
        while True:
            page = await self.collections[sample.kind].page(request)
            assert page.total == len(expected)
            found += [record.name for record in page.records]
            if page.next is None:
                break
            request = PageRequest(size, ordering, node, cursor=page.next, total=True)
        assert found == expected
        if request.cursor is not None:
            assert page.previous is not None
            back = PageRequest(size, ordering, node, cursor=page.previous)
            before = await self.collections[sample.kind].page(back)
            at = len(expected) - len(page.records)
            assert [record.name for record in before.records] == expected[max(0, at - size) : at]


def naive_order(ordering: Ordering, a: Any, name_a: str, b: Any, name_b: str, names: frozenset[str]) -> int:
    """Null first, then by value, then by name; each the other way round when descending."""
    for key in ordering.keys:
        left, right = (_place(message, key.field.name, names) for message in (a, b))
        if left != right:
            return -1 if (left < right) != key.descending else 1
    return -1 if (name_a < name_b) != ordering.name_descending else 1


def _place(message: Any, path: str, names: frozenset[str]) -> tuple[bool, Any]:
    ((value, null),) = look(message, path, names).cells
    return (False, 0) if null else (True, value)


def definition(sample: Sample) -> Definition[Any]:
    return Definition(
        kind=sample.kind,
        plural=f"{sample.kind}s",
        message=sample.message,
        name=lambda message: message.name,
        schema=sample.schema,
        parse_filter=sample.dialect.parse,
    )


@pytest.fixture(scope="module")
def yards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Yard]]:
    """The same resources on every backend, under names that a store may hold twice the form of."""
    stored = {
        sample.kind: {f"{resource.name}-{index}": resource for index, resource in enumerate(found)}
        for sample in SAMPLES
        for found in [resources(sample, 7, RESOURCES)]
    }
    kinds = [definition(sample).storage() for sample in SAMPLES]
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        found = {
            backend: Yard(
                runner.run(opened.enter_async_context(store(backend, kinds, tmp_path_factory))),
                runner,
                stored,
            )
            for backend in BACKENDS
        }
        for yard in found.values():
            runner.run(yard.store.commit(list(puts(stored)), by=Author("test")))
        yield found
        runner.run(opened.aclose())


def puts(stored: dict[str, dict[str, Any]]) -> Iterator[Put]:
    for kind, resources in stored.items():
        for name, resource in resources.items():
            resource.name = name
            yield Put(kind, name, resource.SerializeToString(deterministic=True))


@asynccontextmanager
async def store(
    backend: str, kinds: list[Kind], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Store]:
    path: Path = tmp_path_factory.mktemp("filters")
    found: Store = {
        "memory": lambda: MemoryStore(kinds),
        "sqlite": lambda: SqliteStore(path / "store.sqlite", kinds),
        "mongomock": lambda: MongoStore(AsyncMongoMockClient(), "filters", kinds),
    }[backend]()
    await found.open()
    yield found
    await found.close()

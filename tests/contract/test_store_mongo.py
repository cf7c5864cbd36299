"""The storage contract on MongoDB: mongomock-motor, and a real wire-protocol server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from mongomock_motor import AsyncMongoMockClient

from shared.storage.mongo import MongoStore
from shared.storage.port import Capabilities, Kind, Store
from shared.storage.testing import PeerContract, RestartContract, StoreContract, sample_kinds
from tests.contract.store_model import Operation, check_operations, operations
from tests.contract.store_pages import PageCase, check_pages, page_cases
from tests.mongo_server import drop_database, new_database, server_url


class MongoContract(StoreContract, RestartContract, PeerContract):
    """Both clients' stores are made alike: another object on the same database."""

    capabilities = Capabilities(survives_restart=True, many_processes=True)

    async def reopen(self, store: Store, kinds: tuple[Kind, ...] | None = None) -> Store:
        await store.close()
        return await self._another(store, kinds or tuple(store.kinds.values()))

    async def peer(self, store: Store) -> Store:
        return await self._another(store, tuple(store.kinds.values()))

    async def _another(self, store: Store, kinds: tuple[Kind, ...]) -> Store:
        assert isinstance(store, MongoStore)
        another = MongoStore(store.client_or_url, store.database, kinds)
        await another.open()
        return another


@asynccontextmanager
async def mongomock() -> AsyncIterator[Store]:
    store = MongoStore(AsyncMongoMockClient(), "contract", sample_kinds())
    await store.open()
    yield store
    await store.close()


@asynccontextmanager
async def wire() -> AsyncIterator[Store]:
    url = await asyncio.to_thread(server_url)
    store = MongoStore(url, new_database(), sample_kinds())
    await store.open()
    yield store
    await store.close()
    await asyncio.to_thread(drop_database, url, store.database)


class TestOnMongomock(MongoContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with mongomock() as store:
            yield store


@pytest.mark.mongo_server
class TestOnTheWire(MongoContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with wire() as store:
            yield store


@settings(max_examples=30, deadline=None, derandomize=True)
@given(ops=operations)
def test_operations_on_mongomock_agree_with_a_plain_dict(ops: list[Operation]) -> None:
    check_operations(mongomock, ops)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(case=page_cases)
def test_pages_on_mongomock_agree_with_a_sorted_list(case: PageCase) -> None:
    check_pages(mongomock, case)


@pytest.mark.mongo_server
@settings(max_examples=10, deadline=None, derandomize=True)
@given(ops=operations)
def test_operations_on_the_wire_agree_with_a_plain_dict(ops: list[Operation]) -> None:
    check_operations(wire, ops)


@pytest.mark.mongo_server
@settings(max_examples=10, deadline=None, derandomize=True)
@given(case=page_cases)
def test_pages_on_the_wire_agree_with_a_sorted_list(case: PageCase) -> None:
    check_pages(wire, case)

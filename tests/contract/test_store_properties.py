"""The model-based checks, on the backends that need no server."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings

from shared.storage.memory import MemoryStore
from shared.storage.port import Store
from shared.storage.sqlite import SqliteStore
from shared.storage.testing import sample_kinds
from tests.contract.store_model import OpenStore, Operation, check_operations, operations
from tests.contract.store_pages import PageCase, check_pages, page_cases


@asynccontextmanager
async def memory() -> AsyncIterator[Store]:
    store = MemoryStore(sample_kinds())
    await store.open()
    yield store
    await store.close()


@asynccontextmanager
async def sqlite() -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory) / "store.sqlite", sample_kinds())
        await store.open()
        try:
            yield store
        finally:
            await store.close()


backends = pytest.mark.parametrize("open_store", [memory, sqlite])


@backends
@settings(max_examples=80, deadline=None, derandomize=True)
@given(ops=operations)
def test_operations_agree_with_a_plain_dict(open_store: OpenStore, ops: list[Operation]) -> None:
    check_operations(open_store, ops)


@backends
@settings(max_examples=80, deadline=None, derandomize=True)
@given(case=page_cases)
def test_pages_agree_with_a_sorted_list(open_store: OpenStore, case: PageCase) -> None:
    check_pages(open_store, case)

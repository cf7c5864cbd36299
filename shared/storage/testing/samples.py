"""Kinds and bodies for storage tests: JSON, so that the suite depends on no service's messages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Mapping
from typing import TypeVar

from shared.storage.port import (
    NULL,
    Author,
    Commit,
    Condition,
    Delete,
    Index,
    Kind,
    Operator,
    Put,
    Query,
    Store,
    Value,
)

AUTHOR = Author("tester", "test:tester:write", "request-1")

T = TypeVar("T")
Operand = Value | None | tuple[Value | None, ...]


def body(**fields: str | int | None) -> bytes:
    """The body of an item. A field that is None is NULL in its index, one that is left out missing."""
    return json.dumps(fields, sort_keys=True).encode()


def item_values(data: bytes) -> Mapping[str, Value]:
    fields = json.loads(data)
    return {
        name: NULL if fields[name] is None else fields[name]
        for name in ("title", "size", "state")
        if name in fields
    }


def sample_kinds() -> tuple[Kind, ...]:
    """`item` has a text, an integer and another text index; `note` has none, and any bytes as body."""
    item = Kind(
        "item",
        indexes=(Index("title", "text"), Index("size", "int"), Index("state", "text")),
        values=item_values,
        document=json.loads,
        composites=(("state", "size"),),
        covering=("title",),
    )
    return (item, Kind("note"))


async def put(store: Store, name: str, data: bytes = b"{}", *, parent: str = "", kind: str = "item") -> int:
    """Commit one record and answer its revision."""
    commit = await store.commit([Put(kind, name, data, parent)], by=AUTHOR)
    return commit.revision


async def delete(store: Store, name: str, *, kind: str = "item") -> int:
    """Delete one record and answer the revision that did."""
    return (await store.commit([Delete(kind, name)], by=AUTHOR)).revision


async def fill(store: Store, records: Mapping[str, bytes], *, parent: str = "") -> Commit:
    """Commit many items at once."""
    return await store.commit([Put("item", n, b, parent) for n, b in records.items()], by=AUTHOR)


async def collect(records: AsyncIterable[T]) -> list[T]:
    return [record async for record in records]


async def scanned(store: Store, query: Query, *, at: int | None = None) -> list[str]:
    """The names that a query answers, in its order."""
    return [record.name for record in await collect(store.scan(query, at=at))]


def where(index: str, operator: Operator, value: Operand) -> tuple[Condition, ...]:
    return (Condition(index, operator, value),)

"""The MongoDB driver, as thin as can be: the one file that imports Motor and PyMongo.

Everything above works on `Collection` and sees errors of `shared.storage.errors` only, so that
PyMongo's own asynchronous client can take Motor's place here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import bson
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from shared.storage.errors import StoreError, StoreFull, StoreUnavailable, TooLarge

Document = dict[str, Any]
Filter = Mapping[str, Any]

DUPLICATE_KEY = 11000
OUT_OF_DISK_SPACE = 14031
# BSONObjectTooLarge, and the code of servers before 4.2 for the same.
TOO_LARGE = frozenset({10334, 17420})
# The server gave up on an operation that it may have carried out.
INTERRUPTED = frozenset({6, 7, 50, 64, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})

# What a store promises (acknowledged is durable, read is durable) whatever the URL says.
GUARANTEES: dict[str, Any] = {"w": "majority", "journal": True, "readConcernLevel": "majority"}
DEFAULTS: dict[str, Any] = {
    "appName": "roundhouse",
    "connectTimeoutMS": 5_000,
    # A server that came back is found within this time.
    "heartbeatFrequencyMS": 1_000,
    "serverSelectionTimeoutMS": 5_000,
    "socketTimeoutMS": 30_000,
}


def connect(url: str) -> Any:
    """A client for `url`, with majority write and read concern and the journal. Connects lazily.

    Raises ValueError when the URL is malformed.
    """
    given = {key.lower() for key, _ in parse_qsl(urlsplit(url).query)}
    defaults = {key: value for key, value in DEFAULTS.items() if key.lower() not in given}
    try:
        return AsyncIOMotorClient(url, **defaults, **GUARANTEES)
    except PyMongoError as error:
        raise ValueError(f"not a MongoDB URL: {error}") from error


async def disconnect(client: Any) -> None:
    """Close what `connect` made. In a thread: the driver says goodbye to the server, and waits."""
    await asyncio.to_thread(client.close)


def size_of(document: Document) -> int:
    """Bytes that `document` takes on the wire and on disk."""
    return len(bson.encode(document))


@dataclass(frozen=True, slots=True)
class Inserted:
    """What an insert did: how many went in, and which (by position) were there already. Ordered
    inserts end at the first of these."""

    count: int
    duplicates: tuple[int, ...] = ()


class Database:
    """One database of a client."""

    def __init__(self, client: Any, name: str) -> None:
        self._raw = client[name]
        self._admin = client["admin"]

    def __getitem__(self, name: str) -> Collection:
        return Collection(self._raw[name])

    async def ping(self) -> None:
        with translated(writing=False):
            await self._admin.command("ping")


class Collection:
    """Plain operations on one collection. All raise StoreUnavailable, StoreFull or TooLarge."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    async def find(
        self,
        filter: Filter,
        *,
        fields: Sequence[str] = (),
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[Document]:
        """The documents, at most `limit` (0: all), of `fields` (none: all of them)."""
        with translated(writing=False):
            cursor = self._raw.find(filter, dict.fromkeys(fields, 1) or None)
            if sort:
                cursor = cursor.sort(list(sort))
            if limit:
                cursor = cursor.limit(limit)
            return await cursor.to_list(None)

    async def find_one(self, filter: Filter, *, fields: Sequence[str] = ()) -> Document | None:
        with translated(writing=False):
            return await self._raw.find_one(filter, dict.fromkeys(fields, 1) or None)

    async def count(self, filter: Filter) -> int:
        with translated(writing=False):
            return await self._raw.count_documents(filter)

    async def tally(self, filter: Filter, paths: Sequence[str]) -> list[tuple[list[Any], int]]:
        """The values at `paths` that documents have, each with the number of documents."""
        keys = [f"k{number}" for number in range(len(paths))]
        group = {key: f"${path}" for key, path in zip(keys, paths, strict=True)}
        stages = [{"$match": filter}, {"$group": {"_id": group, "count": {"$sum": 1}}}]
        with translated(writing=False):
            cursor = self._raw.aggregate(stages)
            return [([row["_id"][key] for key in keys], row["count"]) for row in await cursor.to_list(None)]

    async def insert(self, documents: Sequence[Document], *, ordered: bool) -> Inserted:
        """Insert what is not there yet. Another error than a duplicate raises, and leaves open how
        many went in before it."""
        try:
            with translated(writing=True):
                await self._raw.insert_many(documents, ordered=ordered)
            return Inserted(len(documents))
        except _Rejected as rejected:
            return Inserted(rejected.inserted, rejected.duplicates)

    async def update(self, filter: Filter, change: Filter) -> int:
        """Change all that match. Answers how many did."""
        with translated(writing=True):
            return (await self._raw.update_many(filter, change)).matched_count

    async def update_one(self, filter: Filter, change: Filter) -> bool:
        with translated(writing=True):
            return (await self._raw.update_one(filter, change)).matched_count > 0

    async def update_and_read(self, filter: Filter, change: Filter) -> Document | None:
        """Change one that matches, and answer it as it is then."""
        with translated(writing=True):
            return await self._raw.find_one_and_update(filter, change, return_document=True)

    async def delete(self, filter: Filter) -> int:
        with translated(writing=True):
            return (await self._raw.delete_many(filter)).deleted_count

    async def index(self, fields: Sequence[str]) -> None:
        """Keep an ascending index of `fields`, in this order."""
        with translated(writing=True):
            await self._raw.create_index([(field, 1) for field in fields])


class _Rejected(Exception):
    """An insert met documents that were there already, and nothing worse."""

    def __init__(self, inserted: int, duplicates: tuple[int, ...]) -> None:
        super().__init__()
        self.inserted = inserted
        self.duplicates = duplicates


@contextmanager
def translated(*, writing: bool) -> Iterator[None]:
    """Turn the driver's errors into the store's. `writing`: a lost answer leaves the outcome open."""
    try:
        yield
    except BulkWriteError as error:
        raise _of_bulk(error) from error
    except (PyMongoError, BSONError) as error:
        raise _of(error, writing) from error


def _of_bulk(error: BulkWriteError) -> StoreError | _Rejected:
    details: Mapping[str, Any] = error.details or {}
    failures: list[Mapping[str, Any]] = details.get("writeErrors", [])
    for failure in [*failures, *details.get("writeConcernErrors", [])]:
        if failure.get("code") != DUPLICATE_KEY:
            return _of_code(failure.get("code"), str(failure.get("errmsg", "")), writing=True)
    return _Rejected(details.get("nInserted", 0), tuple(failure["index"] for failure in failures))


def _of(error: Exception, writing: bool) -> StoreError:
    if isinstance(error, DocumentTooLarge | BSONError):
        return TooLarge(str(error))
    if isinstance(error, ServerSelectionTimeoutError):
        return StoreUnavailable(f"no MongoDB server answers: {error}")
    if isinstance(error, ConnectionFailure):
        return StoreUnavailable(f"the connection to MongoDB was lost: {error}", outcome_unknown=writing)
    if isinstance(error, OperationFailure):
        return _of_code(error.code, str(error), writing)
    return StoreUnavailable(f"MongoDB: {error}")


def _of_code(code: int | None, message: str, writing: bool) -> StoreError:
    if code == OUT_OF_DISK_SPACE or "No space left" in message:
        return StoreFull(message)
    if code in TOO_LARGE:
        return TooLarge(message)
    return StoreUnavailable(f"MongoDB: {message}", outcome_unknown=writing and code in INTERRUPTED)

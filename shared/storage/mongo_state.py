"""The one document that says how far a MongoDB store has come: applied revision, floor, kinds."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from shared.storage.errors import FormatError
from shared.storage.mongo_driver import Database, Document
from shared.storage.mongo_fields import escaped

FORMAT = 1
_ID = "store"


@dataclass(frozen=True, slots=True)
class Marks:
    """`applied`: every version up to it is written, and none beyond `begun` was opened or closed.
    `floor`: what was closed at or below it is forgotten; floor <= applied <= begun. By a kind's
    escaped name, `latest`: the last revision that changed it, and `kinds`: the version that its
    index values are of."""

    epoch: str
    begun: int
    applied: int
    floor: int
    latest: Mapping[str, int]
    kinds: Mapping[str, int]


class State:
    """Reads and raises the marks. They never fall, whatever order writers come in."""

    def __init__(self, database: Database) -> None:
        self._collection = database["state"]
        self._epoch: str | None = None

    async def prepare(self) -> Marks:
        """Create the document unless a peer did. FormatError when the store is a newer version's."""
        newborn = {
            "_id": _ID,
            "format": FORMAT,
            "epoch": uuid.uuid4().hex,
            "begun": 0,
            "applied": 0,
            "floor": 0,
            "latest": {},
            "kinds": {},
        }
        await self._collection.insert([newborn], ordered=True)
        self._epoch = None
        return await self.read()

    async def read(self) -> Marks:
        """The marks of this moment. FormatError when this is not the store that was opened."""
        return self._marks(await self._collection.find_one({"_id": _ID}))

    async def begin(self, revision: int) -> Marks:
        """From now on versions up to `revision` are opened and closed. Answers the marks of then."""
        return self._marks(
            await self._collection.update_and_read({"_id": _ID}, {"$max": {"begun": revision}})
        )

    def _marks(self, document: Document | None) -> Marks:
        if document is None:
            raise FormatError("the store is gone: its database was dropped")
        if document["format"] > FORMAT:
            raise FormatError(f"the store has format {document['format']}; this program knows {FORMAT}")
        fields = ("epoch", "begun", "applied", "floor", "latest", "kinds")
        marks = Marks(**{field: document[field] for field in fields})
        if self._epoch not in (None, marks.epoch):
            raise FormatError("another store took this one's place: its database was dropped")
        self._epoch = marks.epoch
        return marks

    async def raise_applied(self, revision: int, latest: Mapping[str, int]) -> None:
        """All up to `revision` is written, and these kinds were last changed then."""
        marks = {f"latest.{escaped(kind)}": last for kind, last in latest.items()}
        await self._collection.update_one({"_id": _ID}, {"$max": {"applied": revision, **marks}})

    async def raise_floor(self, revision: int) -> None:
        await self._collection.update_one({"_id": _ID}, {"$max": {"floor": revision}})

    async def declare(self, versions: Mapping[str, int]) -> None:
        """From now on the index values of these kinds are those of these versions."""
        marks = {f"kinds.{escaped(kind)}": version for kind, version in versions.items()}
        if marks:
            await self._collection.update_one({"_id": _ID}, {"$set": marks})

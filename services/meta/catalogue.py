"""The first catalogue: applied at the very first start of a store, so that a new suite describes itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.admin import manifest, scope
from shared.admin.plan import Planner
from shared.errors import InvalidArgument
from shared.resource.collection import Collection
from shared.storage.errors import Conflict
from shared.storage.port import Author, Expect, Put, Store

_MARK: Final = "catalogue"
_STARTER: Final = Author("roundhouse", "start:catalogue:apply")


async def ensure_catalogue(store: Store, collections: Sequence[Collection], path: str) -> None:
    """Apply the manifest at `path` unless something was written here before, by whoever. Safe in
    several processes at once. Raises InvalidArgument for a manifest that cannot be read."""
    if await store.head():
        return
    by_kind = {collection.definition.kind: collection for collection in collections}
    try:
        text = Path(path).read_text()  # noqa: ASYNC240 - once, before anything is served
    except OSError as error:
        raise InvalidArgument.at("ROUNDHOUSE_CATALOGUE", f"cannot read {path}: {error.strerror}") from error
    items = manifest.read(text, by_kind)
    while await store.get("mark", _MARK) is None:
        plan = await Planner(store, by_kind).apply(
            items, prune=False, scope_of=lambda definition: scope.EVERYWHERE
        )
        mark = Put("mark", _MARK, b"applied", expect=Expect.ABSENT)
        try:
            await store.commit([*plan.changes, mark], checks=plan.checks, by=_STARTER)
        except Conflict:
            continue  # a peer was first: look again

"""A filter that says which records it means reads those, and no others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.pipelines.experiment import FILTER_V2, SCHEMA, Rules, definition, sort_by
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.query.pushdown import pinned
from shared.resource.collection import Collection, PageRequest
from shared.resource.definition import CLAIM
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Query, Record


class Counted(MemoryStore):
    """Tells whether records were looked through."""

    scans = 0

    def scan(self, query: Query, *, at: int | None = None):  # type: ignore[no-untyped-def]
        self.scans += 1
        return super().scan(query, at=at)


def filter_of(*predicates: str) -> str:
    return f'{{"predicates": [{", ".join(predicates)}]}}'


BY_ID = '{"operation": "EQUALS", "key": "id", "string_value": "id-3"}'
AMONG = '{"operation": "IN", "key": "experiment_id", "string_values": {"values": ["id-5", "id-2", "none"]}}'
NAMED = '{"operation": "NOT_EQUALS", "key": "name", "string_value": "n-3"}'


@pytest.mark.parametrize(
    ("predicates", "order", "names"),
    [
        ([BY_ID], "", ["id-3"]),
        ([AMONG], "", ["id-2", "id-5"]),
        ([AMONG], "name desc", ["id-5", "id-2"]),
        ([NAMED, AMONG], "id", ["id-2", "id-5"]),
        ([NAMED, BY_ID], "", []),
    ],
)
async def test_named_records_are_read_by_name(
    predicates: list[str], order: str, names: Sequence[str]
) -> None:
    kinds = definition(Rules(lambda: 10**9, lambda: "x", multi_user=False))
    store = Counted([kinds.storage(), CLAIM])
    await store.open()
    collection = Collection(store, kinds)
    for number in range(8):
        resource = Experiment(experiment_id=f"id-{number}", display_name=f"n-{number}")
        await collection.create(resource, Author("test"))
    tree = FILTER_V2.parse(filter_of(*predicates))
    page = await collection.page(PageRequest(1, sort_by(order), tree, total=True))
    found: list[Record] = list(page.records)
    while page.next is not None:
        page = await collection.page(PageRequest(1, sort_by(order), tree, cursor=page.next, total=True))
        found += page.records
    assert [record.name for record in found] == names
    assert page.total == len(names)
    assert store.scans == 0


def test_other_filters_pin_nothing() -> None:
    for text in (
        "",
        filter_of(NAMED),
        filter_of('{"operation": "NOT_EQUALS", "key": "id", "string_value": "a"}'),
    ):
        assert pinned(FILTER_V2.parse(text), SCHEMA) is None

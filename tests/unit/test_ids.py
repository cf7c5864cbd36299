"""Ids of new resources."""

from __future__ import annotations

from itertools import islice
from uuid import RFC_4122, UUID

from shared.service.ids import random_ids, timed


def test_each_is_another_version_4_uuid_in_the_usual_spelling() -> None:
    found = [*islice(random_ids(), 1000), *islice(random_ids(), 1000)]
    assert len(set(found)) == 2000
    for text in found:
        parsed = UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, RFC_4122)


def test_a_version_7_uuid_begins_with_its_time() -> None:
    first, second = islice(random_ids(), 2)
    now = 1_700_000_000_123_456_789
    found = UUID(timed(first, now))
    assert (found.version, found.variant) == (7, RFC_4122)
    assert found.int >> 80 == 1_700_000_000_123
    assert timed(first, now) != timed(second, now)
    assert timed(first, now) < timed(second, now + 1_000_000)

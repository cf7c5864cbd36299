"""Ids of new resources."""

from __future__ import annotations

from itertools import islice
from uuid import RFC_4122, UUID

from shared.service.ids import random_ids


def test_each_is_another_version_4_uuid_in_the_usual_spelling() -> None:
    found = [*islice(random_ids(), 1000), *islice(random_ids(), 1000)]
    assert len(set(found)) == 2000
    for text in found:
        parsed = UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, RFC_4122)

"""The memory of converted answers: bounded, least recently used out first."""

from __future__ import annotations

from shared.rest.cache import ByteCache


def test_keeps_what_was_used_last_within_its_limit() -> None:
    cache = ByteCache(80)
    for name in (b"a", b"b", b"c", b"d"):
        cache.put("kind", name, name * 9)
    assert cache.get("kind", b"a") == b"a" * 9
    for number in range(5):
        cache.put("kind", str(number).encode(), b"x" * 9)
        assert cache.get("kind", b"a") == b"a" * 9
    assert len(cache) == 8
    assert cache.get("kind", b"b") is None
    assert cache.get("kind", b"d") == b"d" * 9


def test_the_same_bytes_of_another_kind_are_another_entry() -> None:
    cache = ByteCache(80)
    cache.put(1, b"a", b"one")
    assert cache.get(2, b"a") is None
    cache.put(1, b"a", b"two")
    assert cache.get(1, b"a") == b"one"


def test_what_is_too_large_is_not_kept() -> None:
    cache = ByteCache(80)
    cache.put(1, b"a" * 5, b"b" * 6)
    assert len(cache) == 0

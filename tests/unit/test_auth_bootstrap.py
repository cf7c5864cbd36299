"""The operator's token: there after a start, good, private, and renewed when it is not."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.auth.access import Access
from shared.auth.access_store import KINDS, TOKEN
from shared.auth.bootstrap import FILE, ensure_operator_token
from shared.auth.keys import KeyRing
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Delete

NOW = 1_750_000_000.0
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def access(tmp_path: Path, clock: Clock) -> AsyncIterator[Access]:
    store = MemoryStore(KINDS)
    await store.open()
    async with Access(store, KeyRing.open(tmp_path / "keys"), clock) as started:
        yield started
    await store.close()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_first_start_writes_it(tmp_path: Path, access: Access) -> None:
    text = await ensure_operator_token(tmp_path, access)
    path = tmp_path / FILE
    assert path.read_text() == text  # bare
    assert mode(path) == 0o600
    assert names(tmp_path) == ["keys", FILE]
    identity = await access.authenticate({"authorization": f"Bearer {text}"})
    assert (identity.subject, identity.role) == ("operator", "admin")
    assert identity.expires_at == NOW + 400 * DAY
    record = await access.records.token(identity.token_id)
    assert record is not None
    assert record.creator == "operator"
    audit = await access.records.store.audit(limit=1)
    assert audit[0].by.action == "bootstrap:token:create"


async def test_second_start_keeps_it(tmp_path: Path, access: Access, clock: Clock) -> None:
    text = await ensure_operator_token(tmp_path, access)
    head = await access.records.store.head()
    clock.now += 369 * DAY
    assert await ensure_operator_token(tmp_path, access) == text
    assert await access.records.store.head() == head


@pytest.mark.parametrize("days", [371, 401])
async def test_renewed_before_and_after_it_expires(
    tmp_path: Path, access: Access, clock: Clock, days: int
) -> None:
    old = await ensure_operator_token(tmp_path, access)
    clock.now += days * DAY
    new = await ensure_operator_token(tmp_path, access)
    assert new != old
    assert (tmp_path / FILE).read_text() == new
    assert (await access.authenticate({"authorization": f"Bearer {new}"})).role == "admin"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe", b"a.b.c\n"])
async def test_damaged_file_is_replaced(tmp_path: Path, access: Access, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    text = await ensure_operator_token(tmp_path, access)
    assert (tmp_path / FILE).read_text() == text
    assert mode(tmp_path / FILE) == 0o600


async def test_revoked_or_forgotten_token_is_replaced(tmp_path: Path, access: Access) -> None:
    first = await ensure_operator_token(tmp_path, access)
    await access.revoke(access.tokens.verify(first).token_id, Author("test"))
    second = await ensure_operator_token(tmp_path, access)
    assert second != first
    token_id = access.tokens.verify(second).token_id
    await access.records.store.commit([Delete(TOKEN, token_id)], by=Author("test"))
    assert await ensure_operator_token(tmp_path, access) not in (first, second)


async def test_token_of_a_lesser_role_is_replaced(tmp_path: Path, access: Access) -> None:
    weak, _ = await access.issue("operator", "viewer", timedelta(days=300), creator="test", by=Author("test"))
    (tmp_path / FILE).write_text(weak)
    assert await ensure_operator_token(tmp_path, access) != weak


async def test_token_signed_with_a_lost_key_is_replaced(tmp_path: Path, access: Access) -> None:
    old = await ensure_operator_token(tmp_path, access)
    other = Access(access.records.store, KeyRing.open(tmp_path / "other"), access.clock)
    assert await ensure_operator_token(tmp_path, other) != old


async def test_mode_is_mended_and_a_newline_forgiven(tmp_path: Path, access: Access) -> None:
    text = await ensure_operator_token(tmp_path, access)
    path = tmp_path / FILE
    path.write_text(text + "\n")
    path.chmod(0o644)
    assert await ensure_operator_token(tmp_path, access) == text
    assert mode(path) == 0o600

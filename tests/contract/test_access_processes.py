"""Two processes on one access store: what one does, the other knows. Each has a store object, a key
ring and a tailer of its own on the same files, as two processes would."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient

from shared.admin.access_service import methods
from shared.auth.access import Access
from shared.auth.access_store import KINDS
from shared.auth.bootstrap import ensure_operator_token
from shared.auth.keys import KeyRing
from shared.errors import ApiError, Unauthenticated
from shared.pb.roundhouse.admin.v1 import access_pb2 as pb
from shared.rpc.method import Call
from shared.storage.mongo import MongoStore
from shared.storage.port import Author, Store
from shared.storage.sqlite import SqliteStore

BY = Author("test")
HOUR = timedelta(hours=1)
# Polling takes 0.1 s; the rest is for a busy machine.
SOON = 2.0


# Opens a store of its own on the shared data.
Opener = Callable[[], Store]


@pytest.fixture(params=["sqlite", "mongomock"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "access.db", KINDS)
    client: Any = AsyncMongoMockClient()
    return lambda: MongoStore(client, "roundhouse_access", KINDS)


@contextlib.asynccontextmanager
async def process(data: Path, opener: Opener) -> AsyncIterator[Access]:
    store = opener()
    await store.open()
    try:
        async with Access(store, KeyRing.open(data / "keys")) as access:
            yield access
    finally:
        await store.close()


@pytest.fixture
async def one(tmp_path: Path, opener: Opener) -> AsyncIterator[Access]:
    async with process(tmp_path, opener) as access:
        yield access


@pytest.fixture
async def other(tmp_path: Path, opener: Opener, one: Access) -> AsyncIterator[Access]:
    async with process(tmp_path, opener) as access:
        yield access


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def refusal(access: Access, text: str) -> tuple[str, float]:
    """What the process says once it refuses the token, and after how many seconds."""
    started = time.monotonic()
    async with asyncio.timeout(SOON):
        while True:
            try:
                await access.authenticate(bearer(text))
            except Unauthenticated as error:
                return error.message, time.monotonic() - started
            await asyncio.sleep(0.005)


async def test_token_of_one_is_good_in_the_other_at_once(one: Access, other: Access) -> None:
    text, record = await one.issue("ann", "operator", HOUR, creator="test", by=BY)
    identity = await other.authenticate(bearer(text))
    assert (identity.subject, identity.token_id) == ("ann", record.id)


async def test_revocation_reaches_the_other_in_time(one: Access, other: Access) -> None:
    text, record = await one.issue("ann", "operator", HOUR, creator="test", by=BY)
    await other.authenticate(bearer(text))
    await one.revoke(record.id, BY)
    message, seconds = await refusal(other, text)
    assert "revoked" in message
    assert seconds < 1  # without the log it would take the 30 s after which nothing is trusted


async def test_disabled_user_is_out_everywhere(one: Access, other: Access) -> None:
    text, _ = await one.issue("ann", "operator", HOUR, creator="test", by=BY)
    await other.authenticate(bearer(text))
    user = pb.User(subject="ann", role="operator", disabled=True)
    await one.records.put_user(user, one.now_ns(), BY, lambda before: None)
    message, _ = await refusal(other, text)
    assert "disabled" in message


async def test_key_rotated_by_one_verifies_in_the_other(tmp_path: Path, one: Access, other: Access) -> None:
    KeyRing.open(tmp_path / "keys").rotate()
    text, _ = await one.issue("ann", "viewer", HOUR, creator="test", by=BY)
    assert (await other.authenticate(bearer(text))).subject == "ann"


async def test_code_is_good_once_whoever_is_asked(one: Access, other: Access) -> None:
    services = [{method.name: method for method in methods(access)} for access in (one, other)]
    admin = await one.authenticate(bearer((await one.issue("boss", "admin", HOUR, creator="test", by=BY))[0]))

    async def redeem(service: int, code: str) -> str:
        method = services[service]["RedeemSignInCode"]
        answer = await method.handler(pb.RedeemSignInCodeRequest(code=code), Call(method, "1", {}, "grpc"))
        return answer.value

    for _ in range(5):
        method = services[0]["CreateSignInCode"]
        request = pb.CreateSignInCodeRequest(subject="ann", role="viewer")
        code = (await method.handler(request, Call(method, "1", {}, "grpc", admin))).code
        answers = await asyncio.gather(redeem(0, code), redeem(1, code), return_exceptions=True)
        won = [answer for answer in answers if isinstance(answer, str)]
        assert len(won) == 1
        assert [type(answer) for answer in answers if isinstance(answer, ApiError)] == [Unauthenticated]
        for access in (one, other):
            assert (await access.authenticate(bearer(won[0]))).subject == "ann"


async def test_operator_token_survives_a_restart(tmp_path: Path, opener: Opener) -> None:
    async with process(tmp_path, opener) as access:
        text = await ensure_operator_token(tmp_path, access)
    async with process(tmp_path, opener) as access:
        assert await ensure_operator_token(tmp_path, access) == text
        assert (await access.authenticate(bearer(text))).role == "admin"


async def test_two_that_start_at_once_both_have_a_good_operator_token(
    tmp_path: Path, one: Access, other: Access
) -> None:
    answers = await asyncio.gather(*(ensure_operator_token(tmp_path, access) for access in (one, other)))
    for text in {*answers, (tmp_path / "operator.token").read_text()}:
        for access in (one, other):
            assert (await access.authenticate(bearer(text))).role == "admin"

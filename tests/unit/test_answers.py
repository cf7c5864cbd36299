"""A remembered answer is never behind the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.resource.answers import Answers
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Kind, Put, Store

BY = Author("test")


@pytest.fixture
async def store() -> Store:
    opened = MemoryStore([Kind("thing")])
    await opened.open()
    return opened


async def put(store: Store, body: bytes) -> None:
    await store.commit([Put("thing", "one", body)], by=BY)


def reading(store: Store, made: list[bytes]) -> Callable[[], Awaitable[bytes]]:
    """Answers the stored body and notes that it was asked."""

    async def answer() -> bytes:
        record = await store.get("thing", "one")
        made.append(record.body if record else b"nothing")
        return made[-1]

    return answer


async def test_asked_again_it_is_made_once_until_somebody_writes(store: Store) -> None:
    answers, made = Answers(store), list[bytes]()
    await put(store, b"first")
    assert [await answers.get(b"q", reading(store, made)) for _ in range(3)] == [b"first"] * 3
    assert made == [b"first"]
    await put(store, b"second")
    assert await answers.get(b"q", reading(store, made)) == b"second"
    assert made == [b"first", b"second"]


async def test_another_question_has_its_own_answer(store: Store) -> None:
    answers, made = Answers(store), list[bytes]()
    await put(store, b"body")
    await answers.get(b"q", reading(store, made))
    await answers.get(b"r", reading(store, made))
    assert len(made) == 2


async def test_an_answer_made_while_somebody_wrote_is_not_kept(store: Store) -> None:
    answers, reached, go_on = Answers(store), asyncio.Event(), asyncio.Event()

    async def slow() -> bytes:
        record = await store.get("thing", "one")
        reached.set()
        await go_on.wait()
        return record.body if record else b"nothing"

    await put(store, b"old")
    asking = asyncio.create_task(answers.get(b"q", slow))
    await reached.wait()
    await put(store, b"new")
    assert await answers.get(b"other", reading(store, [])) == b"new"
    go_on.set()
    assert await asking == b"old"
    assert await answers.get(b"q", reading(store, [])) == b"new"


async def test_a_failure_is_not_remembered(store: Store) -> None:
    answers = Answers(store)

    async def fails() -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await answers.get(b"q", fails)
    assert await answers.get(b"q", reading(store, [])) == b"nothing"


async def test_the_oldest_make_room(store: Store) -> None:
    answers, made = Answers(store, max_bytes=100), list[bytes]()
    await put(store, b"x" * 19)
    for question in b"abcdef":
        await answers.get(bytes([question]), reading(store, made))
    await answers.get(b"f", reading(store, made))
    assert len(made) == 6
    await answers.get(b"a", reading(store, made))
    assert len(made) == 7


async def test_what_is_large_is_made_each_time(store: Store) -> None:
    answers, made = Answers(store, max_bytes=100), list[bytes]()
    await put(store, b"x" * 30)
    for _ in range(2):
        await answers.get(b"q", reading(store, made))
    assert len(made) == 2

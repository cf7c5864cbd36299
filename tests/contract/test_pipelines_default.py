"""The default experiment (docs/apis/pipelines.md, "The default experiment")."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from mongomock_motor import AsyncMongoMockClient

from services.pipelines.service import SERVICE
from shared.service.config import Config
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Check, Commit, Delete, Put, Store
from shared.storage.sqlite import SqliteStore
from tests.contract.pipelines_yard import V1, V2, Yard, mongomock, opened


def stores(backend: str, data: Path) -> Sequence[Store]:
    """Three stores on the same data, for three starts of the service, or two at once."""
    definitions = SERVICE.definitions(Config.load({}), lambda: 0, lambda: "")
    kinds = [*(definition.storage() for definition in definitions), *SERVICE.kinds]
    if backend == "sqlite":
        return [SqliteStore(data / "shared.db", kinds) for _ in range(3)]
    client = AsyncMongoMockClient()
    return [mongomock(client) for _ in range(3)]


async def test_it_is_made_at_the_first_start(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend, default_experiment=True) as yard:
        found = await yard.list()
        assert [item["name"] for item in found["experiments"]] == ["Default"]
        assert found["total_size"] == 1
        assert found["experiments"][0]["description"]
        assert found["experiments"][0]["storage_state"] == "STORAGESTATE_AVAILABLE"


async def test_a_setting_turns_it_off(tmp_path: Path) -> None:
    async with opened(tmp_path, default_experiment=False) as yard:
        assert await yard.list() == {}


async def test_multi_user_mode_has_none(tmp_path: Path) -> None:
    async with opened(tmp_path, default_experiment=True, multi_user=True) as yard:
        assert await yard.store.head() == 0


async def test_it_cannot_be_deleted_but_archived(tmp_path: Path, backend: str) -> None:
    async with opened(tmp_path, backend, default_experiment=True) as yard:
        default = (await yard.list())["experiments"][0]["id"]
        for version in (V1, V2):
            (await yard.rest("DELETE", f"{version}/{default}")).is_error(409, 10, default)
        assert (await yard.rest("POST", f"{V1}/{default}:archive")).ok == {}
        (await yard.rest("DELETE", f"{V1}/{default}")).is_error(409, 10, default)
        assert await yard.names() == ["Default"]


async def only(yard: Yard) -> tuple[str, str]:
    (found,) = (await yard.list())["experiments"]
    return found["id"], found["name"]


async def test_a_second_start_makes_no_second_one(tmp_path: Path) -> None:
    for backend in ("sqlite", "mongomock"):
        first, second, third = stores(backend, tmp_path)
        found = []
        for store in (first, second, third):
            async with opened(tmp_path, store=store, default_experiment=True) as yard:
                found.append(await only(yard))
        assert found[0] == found[1] == found[2]


async def test_an_experiment_of_that_name_is_adopted(tmp_path: Path) -> None:
    for backend in ("sqlite", "mongomock"):
        first, second, _ = stores(backend, tmp_path)
        async with opened(tmp_path, store=first, default_experiment=False) as yard:
            made = await yard.create("Default", "mine")
        async with opened(tmp_path, store=second, default_experiment=True) as yard:
            assert await only(yard) == (made.id, "Default")
            (await yard.rest("DELETE", f"{V1}/{made.id}")).is_error(409, 10)


async def test_processes_that_start_together_make_one(tmp_path: Path) -> None:
    for backend in ("sqlite", "mongomock"):
        async with AsyncExitStack() as stack:
            starts = [
                stack.enter_async_context(
                    opened(tmp_path / f"{backend}{index}", store=store, default_experiment=True)
                )
                for index, store in enumerate(stores(backend, tmp_path))
            ]
            yards = await asyncio.gather(*starts)
            assert len({await only(yard) for yard in yards}) == 1


class Meddled(MemoryStore):
    """Runs `meddle` once before a commit: a peer's write, at the worst moment."""

    meddle: Callable[[], Awaitable[object]] | None = None

    async def commit(
        self, changes: Sequence[Put | Delete], *, checks: Sequence[Check] = (), by: Author
    ) -> Commit:
        if self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            await meddle()
        return await super().commit(changes, checks=checks, by=by)

    async def close(self) -> None:
        """Stays, for the next start."""


def meddled() -> Meddled:
    definitions = SERVICE.definitions(Config.load({}), lambda: 0, lambda: "")
    return Meddled([*(definition.storage() for definition in definitions), *SERVICE.kinds])


async def test_what_a_peer_makes_the_default_one_is_not_deleted_any_more(tmp_path: Path) -> None:
    store = meddled()
    async with opened(tmp_path, store=store) as yard:
        made = await yard.create("Default")
        mark = Put("mark", "default_experiment", made.id.encode())
        store.meddle = lambda: store.commit([mark], by=Author("peer"))
        (await yard.rest("DELETE", f"{V1}/{made.id}")).is_error(409, 10, made.id)
        assert await only(yard) == (made.id, "Default")


async def test_what_a_peer_deletes_is_not_adopted(tmp_path: Path) -> None:
    store = meddled()
    async with opened(tmp_path, store=store) as yard:
        made = await yard.create("Default")
    gone = [Delete("experiment", made.id), Delete("claim", "experiment//Default")]
    store.meddle = lambda: store.commit(gone, by=Author("peer"))
    async with opened(tmp_path, store=store, default_experiment=True) as yard:
        new, _ = await only(yard)
        assert new != made.id
        (await yard.rest("DELETE", f"{V1}/{new}")).is_error(409, 10, new)

"""kfp.Client of both generations, unmodified, with a bearer token."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.clients import Client, ClientError, House, client

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("kfp")]
UNKNOWN = "0e2c6d04-67ec-4d06-8a27-8be0e4f7e4c6"


class Sdk:
    """What the two generations name differently."""

    def __init__(self, client: Client, environment: str) -> None:
        self.client = client
        self.environment = environment
        self.first = environment == "kfp-1"
        self.id = "id" if self.first else "experiment_id"
        self.name = "name" if self.first else "display_name"
        prefix = "STORAGESTATE_" if self.first else ""
        self.available, self.archived = f"{prefix}AVAILABLE", f"{prefix}ARCHIVED"

    async def create(self, name: str, **arguments: Any) -> dict[str, Any]:
        return await self.client.call("create_experiment", name=name, **arguments)

    async def get(self, **arguments: Any) -> dict[str, Any]:
        return await self.client.call("get_experiment", **arguments)

    async def list(self, **arguments: Any) -> dict[str, Any]:
        return await self.client.call("list_experiments", **arguments)

    def filter(self, key: str, operation: str | int, **value: Any) -> str:
        spelled = "op" if self.first else "operation"
        return json.dumps({"predicates": [{spelled: operation, "key": key, **value}]})

    async def refused(self, status: int, method: str, **arguments: Any) -> str:
        with pytest.raises(ClientError) as caught:
            await self.client.call(method, **arguments)
        assert caught.value.status == status
        return caught.value.body["message"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["kfp-1", "kfp-2"])
async def sdk(served: House, request: pytest.FixtureRequest) -> AsyncIterator[Sdk]:
    async with client(served, request.param, "sdk") as found:
        yield Sdk(found, request.param)


async def test_create_finds_what_exists(sdk: Sdk) -> None:
    """The SDK asks by name first, so creating twice answers the same experiment."""
    name = f"{sdk.environment} twice"
    made = await sdk.create(name, description="first")
    assert (made[sdk.name], made["description"], made["storage_state"]) == (name, "first", sdk.available)
    assert await sdk.create(name, description="second") == made


@pytest.mark.parametrize(
    "name", ["plain", "a+b", "100%", "100%25", 'quote"', "blank  s", "caf\u00e9 \U0001f680", "&?#/"]
)
async def test_get_by_id_and_by_name(sdk: Sdk, name: str) -> None:
    name = f"{sdk.environment} {name}"
    made = await sdk.create(name)
    assert await sdk.get(experiment_id=made[sdk.id]) == made
    assert await sdk.get(experiment_name=name) == made


async def test_a_name_that_nobody_has(sdk: Sdk) -> None:
    with pytest.raises(ClientError) as caught:
        await sdk.get(experiment_name="nobody")
    assert caught.value.type == "ValueError"


async def test_pages_of_45(sdk: Sdk) -> None:
    names = [f"{sdk.environment} page {number:02}" for number in range(45)]
    for name in names:
        await sdk.create(name)
    query = {
        "page_size": 10,
        "sort_by": "name desc",
        "filter": sdk.filter("name", "IS_SUBSTRING", string_value=f"{sdk.environment} page"),
    }
    seen, sizes, token = [], [], ""
    while True:
        page = await sdk.list(page_token=token, **query)
        assert page["total_size"] == 45
        sizes.append(len(page["experiments"]))
        seen += [item[sdk.name] for item in page["experiments"]]
        token = page["next_page_token"]
        if not token:
            break
    assert (seen, sizes) == (names[::-1], [10, 10, 10, 10, 5])


async def test_archive_and_restore(sdk: Sdk) -> None:
    made = await sdk.create(f"{sdk.environment} archive me")
    other = await sdk.create(f"{sdk.environment} leave me")
    await sdk.client.call("archive_experiment", experiment_id=made[sdk.id])
    assert (await sdk.get(experiment_id=made[sdk.id]))["storage_state"] == sdk.archived
    active = sdk.filter("storage_state", "NOT_EQUALS", string_value=sdk.archived)
    listed = (await sdk.list(page_size=200, filter=active))["experiments"]
    names = {item[sdk.id] for item in listed}
    assert other[sdk.id] in names and made[sdk.id] not in names
    # The first generation has no unarchive: the name still finds it.
    if sdk.first:
        assert (await sdk.create(f"{sdk.environment} archive me"))["storage_state"] == sdk.archived
    else:
        await sdk.client.call("unarchive_experiment", experiment_id=made[sdk.id])
        assert await sdk.get(experiment_id=made[sdk.id]) == made


async def test_delete(sdk: Sdk) -> None:
    made = await sdk.create(f"{sdk.environment} delete me")
    await sdk.client.call("delete_experiment", experiment_id=made[sdk.id])
    assert made[sdk.id] in await sdk.refused(404, "get_experiment", experiment_id=made[sdk.id])
    assert made[sdk.id] in await sdk.refused(404, "delete_experiment", experiment_id=made[sdk.id])
    again = await sdk.create(f"{sdk.environment} delete me")
    assert again[sdk.id] != made[sdk.id]


async def test_errors(sdk: Sdk) -> None:
    assert UNKNOWN in await sdk.refused(404, "get_experiment", experiment_id=UNKNOWN)
    assert UNKNOWN in await sdk.refused(404, "archive_experiment", experiment_id=UNKNOWN)
    assert "128" in await sdk.refused(400, "create_experiment", name="n" * 129)
    assert "filter" in await sdk.refused(400, "list_experiments", filter="{")
    assert "page_token" in await sdk.refused(400, "list_experiments", page_token="bogus")
    assert "sort_by" in await sdk.refused(400, "list_experiments", sort_by="size")
    assert "page_size" in await sdk.refused(400, "list_experiments", page_size=-5)


async def test_who_may(sdk: Sdk) -> None:
    made = await sdk.create(f"{sdk.environment} guarded")
    # The client is made without a token: its health check needs none.
    assert "token" in await sdk.refused(401, "list_experiments", who="")
    assert await sdk.get(experiment_id=made[sdk.id], who="viewer") == made
    one = {"experiment_id": made[sdk.id], "who": "viewer"}
    assert "permission" in await sdk.refused(403, "create_experiment", name="no", who="viewer")
    assert "permission" in await sdk.refused(403, "archive_experiment", **one)
    assert "permission" in await sdk.refused(403, "delete_experiment", **one)


async def test_healthz(sdk: Sdk) -> None:
    found = await sdk.client.call("get_kfp_healthz")
    assert found["multi_user"] is False

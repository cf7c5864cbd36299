"""kfp-server-api, the generated REST clients of both generations, unmodified."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.clients import Client, ClientError, House, client

pytestmark = [
    pytest.mark.interop,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("server-api"),
]
UNKNOWN = "0e2c6d04-67ec-4d06-8a27-8be0e4f7e4c6"


@dataclass(frozen=True)
class Generation:
    """How a generation spells the same calls."""

    environment: str
    create: str
    get: str
    list: str
    delete: str
    archive: str
    unarchive: str
    model: str
    id: str
    name: str
    operation: str
    states: tuple[str, str]

    def experiment(self, name: str, **more: Any) -> dict[str, Any]:
        """The arguments of create."""
        body = {"@model": self.model, self.name: name, **more}
        return {"body" if self.environment == "server-api-1" else "experiment": body}

    def one(self, identifier: str) -> dict[str, str]:
        return {self.id: identifier}

    def filter(self, key: str, operation: str, **value: Any) -> str:
        return json.dumps({"predicates": [{self.operation: operation, "key": key, **value}]})


FIRST = Generation(
    environment="server-api-1",
    create="create_experiment",
    get="get_experiment",
    list="list_experiment",
    delete="delete_experiment",
    archive="archive_experiment",
    unarchive="unarchive_experiment",
    model="ApiExperiment",
    id="id",
    name="name",
    operation="op",
    states=("STORAGESTATE_AVAILABLE", "STORAGESTATE_ARCHIVED"),
)
SECOND = Generation(
    environment="kfp-2",
    create="experiment_service_create_experiment",
    get="experiment_service_get_experiment",
    list="experiment_service_list_experiments",
    delete="experiment_service_delete_experiment",
    archive="experiment_service_archive_experiment",
    unarchive="experiment_service_unarchive_experiment",
    model="V2beta1Experiment",
    id="experiment_id",
    name="display_name",
    operation="operation",
    states=("AVAILABLE", "ARCHIVED"),
)


@pytest.fixture(scope="module", params=[FIRST, SECOND], ids=["1.8.5", "2.17"])
def generation(request: pytest.FixtureRequest) -> Generation:
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(served: House, generation: Generation) -> AsyncIterator[Client]:
    async with client(served, generation.environment, "api") as found:
        yield found


async def refused(api: Client, status: int, code: int, method: str, **arguments: Any) -> str:
    """The message of an error whose body both generations understand."""
    with pytest.raises(ClientError) as caught:
        await api.call(method, **arguments)
    error = caught.value
    assert error.status == status
    assert error.body["code"] == code
    assert error.body["error"] == error.body["message"]
    assert error.body["details"][0]["error_details"] == error.body["message"]
    return error.body["message"]


async def test_a_life(api: Client, generation: Generation) -> None:
    g = generation
    name = f"life {g.environment} + 100%"
    made = await api.call(g.create, **g.experiment(name, description="d"))
    assert (made[g.name], made["description"], made["storage_state"]) == (name, "d", g.states[0])
    assert made["created_at"].startswith("20")
    one = g.one(made[g.id])
    assert await api.call(g.get, **one) == made
    # By name is a list with a filter.
    found = await api.call(g.list, filter=g.filter(g.name, "EQUALS", stringValue=name))
    assert found["experiments"] == [made]
    assert found["total_size"] == 1
    await api.call(g.archive, **one)
    assert (await api.call(g.get, **one))["storage_state"] == g.states[1]
    archived = await api.call(g.list, filter=g.filter("storage_state", "EQUALS", string_value=g.states[1]))
    assert [item[g.id] for item in archived["experiments"]] == [made[g.id]]
    await api.call(g.unarchive, **one)
    assert await api.call(g.get, **one) == made
    await api.call(g.delete, **one)
    await refused(api, 404, 5, g.get, **one)


async def test_pages_of_45(api: Client, generation: Generation) -> None:
    g = generation
    names = [f"{g.environment} page {number:02}" for number in range(45)]
    for name in names:
        await api.call(g.create, **g.experiment(name))
    query = {
        "page_size": 10,
        "sort_by": f"{g.name} desc",
        "filter": g.filter(g.name, "IS_SUBSTRING", string_value=f"{g.environment} PAGE"),
    }
    seen, sizes, token = [], [], ""
    while True:
        page = await api.call(g.list, page_token=token, **query)
        assert page["total_size"] == 45
        sizes.append(len(page["experiments"]))
        seen += [item[g.name] for item in page["experiments"]]
        token = page["next_page_token"]
        if not token:
            break
    assert (seen, sizes) == (names[::-1], [10, 10, 10, 10, 5])
    # The default page is 20.
    assert len((await api.call(g.list, filter=query["filter"]))["experiments"]) == 20


async def test_filters(api: Client, generation: Generation) -> None:
    g = generation
    ids = {}
    for name in ("f%1", "f_2", "F+3"):
        ids[name] = (await api.call(g.create, **g.experiment(f"{g.environment} {name}")))[g.id]

    async def matching(*filters: str) -> set[str]:
        joined = json.dumps({"predicates": [json.loads(text)["predicates"][0] for text in filters]})
        found = await api.call(g.list, filter=joined, page_size=200)
        return {
            name
            for name, identifier in ids.items()
            if identifier in {item[g.id] for item in found["experiments"] or ()}
        }

    mine = g.filter("id", "IN", string_values={"values": list(ids.values())})
    assert await matching(mine) == set(ids)
    for text, expected in {"%": {"f%1"}, "_": {"f_2"}, "+": {"F+3"}, "F": set(ids)}.items():
        assert await matching(mine, g.filter("name", "IS_SUBSTRING", string_value=text)) == expected
    recent = g.filter("created_at", "GREATER_THAN", timestamp_value="2020-01-01T00:00:00Z")
    assert await matching(mine, recent) == set(ids)
    assert await matching(mine, g.filter("created_at", "LESS_THAN", long_value="1577836800")) == set()
    for state in ("ARCHIVED", "STORAGESTATE_ARCHIVED"):
        assert await matching(mine, g.filter("storage_state", "NOT_EQUALS", string_value=state)) == set(ids)


async def test_errors(api: Client, generation: Generation) -> None:
    g = generation
    name = f"{g.environment} taken"
    await api.call(g.create, **g.experiment(name))
    assert name in await refused(api, 409, 6, g.create, **g.experiment(name))
    assert "must not be empty" in await refused(api, 400, 3, g.create, **g.experiment(""))
    for method in (g.get, g.delete, g.archive, g.unarchive):
        assert UNKNOWN in await refused(api, 404, 5, method, **g.one(UNKNOWN))
    assert "filter" in await refused(api, 400, 3, g.list, filter="{")
    assert "'size'" in await refused(api, 400, 3, g.list, filter=g.filter("size", "EQUALS", string_value="x"))
    assert "page_token" in await refused(api, 400, 3, g.list, page_token="bogus")
    assert "sort_by" in await refused(api, 400, 3, g.list, sort_by="size")
    assert "page_size" in await refused(api, 400, 3, g.list, page_size=-1)


async def test_who_may(api: Client, generation: Generation) -> None:
    g = generation
    made = await api.call(g.create, **g.experiment(f"{g.environment} guarded"))
    one = g.one(made[g.id])
    assert "token" in await refused(api, 401, 16, g.list, who="")
    assert "token" in await refused(api, 401, 16, g.get, who="nonsense", **one)
    assert await api.call(g.get, who="viewer", **one) == made
    assert (await api.call(g.list, who="viewer"))["total_size"] >= 1
    for method, arguments in (
        (g.create, g.experiment("no")),
        (g.delete, one),
        (g.archive, one),
        (g.unarchive, one),
        (g.delete, g.one(UNKNOWN)),
    ):
        assert "permission" in await refused(api, 403, 7, method, who="viewer", **arguments)
    assert await api.call(g.get, **one) == made


async def test_healthz_without_a_token(api: Client, generation: Generation) -> None:
    method = "get_healthz" if generation is FIRST else "healthz_service_get_healthz"
    found = await api.call(method, who="", service="healthz")
    assert found["multi_user"] is False

"""Who may read the catalogue: 16 permissions, asked for before anything is said of what exists."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import StatusCode

from shared.auth.permissions import PERMISSIONS, ROLES
from tests.contract.meta_yard import APIS, BASE, Yard, opened

VERBS = {"Get": "get", "BatchGet": "batchGet", "List": "list", "Watch": "watch", "WatchMany": "watch"}
PREFIX = "services/meta.edgelq.com/permissions"
NOWHERE = {
    "region": "regions/none",
    "deployment": "regions/none/deployments/none",
    "service": "services/none",
    "resource": "services/none/resources/None",
}


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path) as found:
        yield found


def test_each_method_has_the_permission_of_its_collection_and_verb() -> None:
    found = set()
    for api in APIS.values():
        service = api.module.DESCRIPTOR.services_by_name[f"{api.title}Service"]
        for verb, permission in VERBS.items():
            name = f"{PREFIX}/{api.many}.{permission}"
            assert PERMISSIONS[f"/{service.full_name}/{api.method(verb)}"] == name
            assert all(name in granted for granted in ROLES.values())
            found.add(name)
    assert len(found) == 16


@pytest.mark.parametrize("kind", APIS)
@pytest.mark.parametrize("verb", VERBS)
async def test_no_token_is_told_nothing(yard: Yard, kind: str, verb: str) -> None:
    named = {"Get": {"name": NOWHERE[kind]}, "Watch": {"name": NOWHERE[kind]}}.get(verb, {"view": 9})
    for who in ("", "nonsense", yard.service.tokens["viewer"] + "x"):
        await yard.fails(kind, verb, StatusCode.UNAUTHENTICATED, who=who, **named)


async def test_no_token_is_told_nothing_over_rest(yard: Yard) -> None:
    for verb, path in (
        ("GET", "/regions/none"),
        ("GET", "/regions?nothing=1"),
        ("GET", "/regions:batchGet?names=x"),
        ("POST", "/regions:watch?type=9"),
        ("POST", "/services/none:watch"),
    ):
        assert (await yard.rest(verb, BASE + path, who=""))[0] == 401


async def test_a_viewer_may_not_write(yard: Yard) -> None:
    status, body = await yard.rest("POST", "/admin/v1/apply", {"manifest": "regions: []"}, who="viewer")
    assert (status, body["code"]) == (403, 7)
    status, body = await yard.rest("DELETE", "/admin/v1/region?name=regions/none", who="viewer")
    assert (status, body["code"]) == (403, 7)

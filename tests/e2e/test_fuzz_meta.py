"""Random requests to every method of the meta service; see test_fuzz.py."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import aiohttp
import pytest

from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import (
    deployment_service_pb2,
    region_service_pb2,
    resource_service_pb2,
    service_service_pb2,
)
from shared.pb.roundhouse.admin.v1 import admin_pb2
from tests import process
from tests.e2e.fuzzing import Fuzzer, rpcs
from tests.e2e.test_fuzz import over_grpc, over_rest, unharmed

SERVICES = [
    region_service_pb2.DESCRIPTOR.services_by_name["RegionService"],
    deployment_service_pb2.DESCRIPTOR.services_by_name["DeploymentService"],
    service_service_pb2.DESCRIPTOR.services_by_name["ServiceService"],
    resource_service_pb2.DESCRIPTOR.services_by_name["ResourceService"],
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
]
MANIFEST = """
regions:
- {name: regions/aa, title: A, is_default: true, metadata: {labels: {env: prod, a.b: c}}}
- {name: regions/bb, connectivity_scores: [{dest: regions/aa, score: 3}]}
- {name: regions/cc, location: {city: X}}
services:
- {name: services/s.example, current_version: v1, all_versions: [v1]}
resources:
- {name: services/s.example/resources/Job}
deployments:
- {name: regions/aa/deployments/d, service: services/s.example}
"""
NAMES = (
    "regions/aa",
    "regions/-",
    "regions/none",
    "regions/aa/deployments/d",
    "regions/-/deployments/-",
    "services/s.example",
    "services/-",
    "services/s.example/resources/Job",
    "regions/aa/",
    "REGIONS/aa",
    "-",
)
PATHS = (
    "name",
    "title",
    "is_default",
    "isDefault",
    "is-default",
    "location.city",
    "location",
    "connectivity_scores.score",
    "connectivity_scores",
    "metadata.labels.env",
    "metadata.labels.a\\.b",
    "metadata.labels",
    "metadata.tags",
    "metadata.generation",
    "metadata.create_time",
    "metadata.delete_time",
    "metadata.lifecycle.state",
    "metadata.owner_references.kind",
    "metadata",
    "service",
    "all_versions",
    "fqn",
    "*",
    "nothing",
)
OPERATORS = ("=", "!=", "<", ">=", "==", "CONTAINS", "HAS ANY", "LIKE", "IN", "NOT IN", "IS", "<>", "!")
VALUES = (
    '"x"',
    '"regions/-"',
    "7",
    "-1.5e3",
    "TRUE",
    "NULL",
    "NOT NULL",
    "NAN",
    '("a", "b")',
    "[1]",
    '{"city": "X"}',
    '"2024-01-01T00:00:00Z"',
    '"ACTIVE"',
    '"a%\\\\_"',
    "'x'",
    '"\\ud800"',
    "1.2.3",
    "9" * 30,
    "()",
)


class MetaFuzzer(Fuzzer):
    usual: ClassVar = {
        "name": lambda fuzzer: fuzzer._random.choice(NAMES),
        "names": lambda fuzzer: fuzzer._random.choice(NAMES),
        "parent": lambda fuzzer: fuzzer._random.choice(NAMES),
        "paths": lambda fuzzer: fuzzer._random.choice(PATHS),
        "order_by": lambda fuzzer: ", ".join(
            f"{fuzzer._random.choice(PATHS)} {fuzzer._random.choice(('', 'asc', 'DESC', 'up'))}"
            for _ in range(fuzzer._random.randrange(3))
        ),
        "kind": lambda fuzzer: fuzzer._random.choice(("region", "deployment", "service", "resource")),
        "kinds": lambda fuzzer: fuzzer._random.choice(("region", "deployment", "service", "resource")),
    }
    variables: ClassVar = {"kind": "region", "name=regions/*": "regions/aa"}

    def filter(self) -> str:
        parts = [
            self._random.choice(("", "NOT ", "(", "-- x\n"))
            + " ".join(map(self._random.choice, (PATHS, OPERATORS, VALUES)))
            + self._random.choice(("", "", ")"))
            for _ in range(self._random.randrange(3))
        ]
        return self._text_mutated(self._random.choice((" AND ", " OR ", " ", "|", "+")).join(parts))

    def manifest(self) -> str:
        return self._text_mutated(MANIFEST if self._chance(0.8) else "regions: []")

    def _plain(self) -> str:
        """A token of the other sort."""
        plain = [token for token in self._tokens if "." not in token]
        return Fuzzer(self._random, plain).token()

    def token(self) -> str:
        text = self._random.choice([token for token in self._tokens if "." in token])
        if self._chance(0.3):
            return self._plain()
        if self._chance(0.3):
            return text
        direction, inclusion, kind, pair = text.split(".")
        key, _, value = pair.partition(":")
        if self._chance(0.5):
            inner = base64.b64decode(value)
            payload = json.loads(base64.urlsafe_b64decode(inner + b"=" * (-len(inner) % 4)))
            payload[self._random.choice([*payload, "z"])] = self._random.choice(
                (None, [], {}, 1, -1, "x", True, 2**70, [None], ["x", 1], "\ud800")
            )
            inner = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=")
            value = base64.b64encode(inner).decode()
        parts = (
            self._random.choice((direction, "l", "r", "x")),
            self._random.choice((inclusion, "i", "e", "")),
            self._random.choice((kind, "C", "S", "O")),
            self._random.choice((f"{key}:{value}", value, f"{key}:{value},{key}:{value}", "")),
        )
        return ".".join(parts)


@pytest.fixture
def requests(scale: Callable[[int, int], int]) -> int:
    """Of each transport."""
    return scale(1200, 12_000)


async def prepared(url: str, headers: dict[str, str]) -> list[str]:
    """Fills the catalogue; a token of each sort that the server hands out."""
    found: list[str] = []
    async with aiohttp.ClientSession(url, headers=headers) as http:
        async with http.post("/admin/v1/apply", json={"manifest": MANIFEST}) as answer:
            assert answer.status == 200, await answer.text()
        for query in (
            "page_size=1",
            "page_size=1&order_by=title%20desc",
            "page_size=1&filter=title%21=%22x%22",
        ):
            async with http.get(f"/v1alpha2/regions?{query}") as answer:
                found.append((await answer.json())["nextPageToken"])
        async with http.get("/admin/v1/region:list?page_size=1") as answer:
            found.append((await answer.json())["nextPageToken"])
        async with http.post("/v1alpha2/regions:watch?type=STATELESS") as answer:
            found.append(json.loads(await answer.content.readline())["result"]["resumeToken"])
    return found


async def test_over_grpc(tmp_path: Path, requests: int) -> None:
    async with process.started("meta", tmp_path) as service:
        signed = {"": await process.token(tmp_path, "admin")}
        headers = {"Authorization": f"Bearer {signed['']}"}
        given = await prepared(service.url, headers)
        found = await over_grpc(
            service, rpcs(SERVICES), signed, requests, lambda source: MetaFuzzer(source, given)
        )
        assert found == []
        await unharmed(service, headers, "/v1alpha2/regions")


async def test_over_rest(tmp_path: Path, requests: int) -> None:
    async with process.started("meta", tmp_path) as service:
        signed = {"": await process.token(tmp_path, "admin")}
        headers = {"Authorization": f"Bearer {signed['']}"}
        given = await prepared(service.url, headers)
        found = await over_rest(
            service, rpcs(SERVICES), signed, requests, lambda source: MetaFuzzer(source, given)
        )
        assert found == []
        await unharmed(service, headers, "/v1alpha2/regions")

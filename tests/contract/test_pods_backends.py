"""The same feeds and exports on every backend, against a model that is a dict."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from services.pods.merge import merged
from shared.pb.roundhouse.pods.v1.pods_pb2 import Deployment, StoredPod
from shared.pb.storage.pod_pb2 import Pod
from tests.contract.pods_yard import (
    BACKENDS,
    CLUSTER,
    OTHER,
    Yard,
    by_id,
    deployment_id,
    event,
    feed,
    id_of,
    opened,
    pod,
)
from tests.unit import naive_search
from tests.unit.test_query_search import FIELDS

QUERIES = (
    "",
    "Namespace:t",
    'Namespace:"prod"',
    'Pod Name:"WEB-1"',
    "Pod Name:web-1,web-2",
    "Namespace:!r/^(dev|prod)$",
    f"Deployment ID:{deployment_id(2)}",
    f"Deployment ID:!{deployment_id(2)}+Cluster ID:{CLUSTER}",
    "Deployment ID:-",
    f"Pod ID:{id_of(3)},{id_of(4)},{id_of(900)}",
    "Container Image Digest:!sha256:0001",
    "Container Image Digest:*+Pod Name:r/[05]$",
    "Pod Name:\U0010ffff",
)


def fed(number: int, draw: random.Random) -> Pod:
    fields: dict[str, object] = {"name": f"web-{draw.randrange(30)}"}
    if draw.random() < 0.2:
        fields["deployment_id"] = None
    if draw.random() < 0.3:
        fields["live_instances"] = [{"container_name": "a", "finished": {"seconds": draw.randrange(9)}}]
    if draw.random() < 0.2:
        fields["cluster_id"] = OTHER
    return pod(number, **fields)


async def agree(yard: Yard, model: dict[str, Pod]) -> None:
    for query in QUERIES:
        wanted = {
            id: one for id, one in model.items() if naive_search.matches(query, StoredPod(pod=one), FIELDS)
        }
        found = await yard.export(query)
        assert by_id(found) == wanted, query
        assert [one.id for one in found] == sorted(wanted, key=lambda id: (model[id].deployment_id, id)), (
            query
        )
        if query in QUERIES[:2]:
            assert [one["id"] for one in (await yard.lines(query)).pods] == [one.id for one in found]


@pytest.mark.parametrize("backend", BACKENDS)
async def test_feeds_and_exports(tmp_path: Path, backend: str) -> None:
    draw = random.Random(backend)
    model: dict[str, Pod] = {}
    async with opened(tmp_path, backend) as yard:
        for _ in range(3):
            events = []
            for _ in range(20):
                one, action = fed(draw.randrange(25), draw), draw.choice([0, 0, 0, 1, 2])
                events.append(event(action, one))
                if action == feed.REMOVE:
                    model.pop(one.id, None)
                else:
                    model[one.id] = one if action == feed.REPLACE else merged(one, model.get(one.id))
            await yard.push(*events)

        named = [pod(number) for number in range(30, 36)]
        await yard.sync(*named)
        result = await yard.sync(*named[3:], pod(40), pod(41))
        assert (result.stored, result.unchanged, result.removed) == (2, 3, 3)
        model |= {one.id: one for one in (*named[3:], pod(40), pod(41))}
        await agree(yard, model)

        await yard.inventory(Deployment(id=deployment_id(1), name="shop", labels={"app": "web"}))
        shop = {id for id, one in model.items() if one.deployment_id == deployment_id(1)}
        assert shop and set(by_id(await yard.export("Deployment Label:app=web"))) == shop
        listed = await yard.get_pods(sort_option={"field": "Pod Name", "reversed": True}, limit=7, offset=2)
        ordered = sorted(
            sorted(model.values(), key=lambda one: one.id), key=lambda one: one.name, reverse=True
        )
        assert listed == ordered[2:9]

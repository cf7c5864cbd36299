"""An error arrives as itself, however long what was wrong is."""

from __future__ import annotations

import grpc
import pytest

from shared.pb.backend.api.v1beta1 import experiment_pb2 as v1
from shared.pb.roundhouse.admin.v1 import admin_pb2 as admin
from tests.contract.pipelines_yard import V1, Yard

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("text", ["x" * 3_000_000, "\U0001f682" * 700_000], ids=["ascii", "wide"])
async def test_over_grpc(yard: Yard, text: str) -> None:
    missing = await yard.fails(
        yard.v1.GetExperiment, v1.GetExperimentRequest(id=text), grpc.StatusCode.NOT_FOUND
    )
    assert missing.message.startswith("experiment '" + text[:10]) and missing.resource[0] == "experiment"
    unsorted = await yard.fails(yard.v1.ListExperiment, v1.ListExperimentsRequest(sort_by=text), INVALID)
    assert unsorted.fields == ("sort_by",) and unsorted.short in unsorted.message


async def test_a_manifest_with_thousands_of_faults_is_told_the_first(yard: Yard) -> None:
    manifest = "experiments:\n" + "- display_name: ''\n" * 3_000
    failure = await yard.fails(yard.admin.Apply, admin.ApplyRequest(manifest=manifest), INVALID)
    assert failure.fields[0] == "experiments[0].display_name"
    assert failure.message.endswith(" more")


async def test_over_rest(yard: Yard) -> None:
    (await yard.rest("GET", f"{V1}/{'x' * 20_000}")).is_error(404, 5, "xxx")
    (await yard.rest("GET", f"{V1}?sort_by={'x' * 20_000}")).is_error(400, 3, "sort_by")

"""A client of the catalogue that has grpcio, protobuf and the stubs on its path, and nothing of ours.

    python meta_driver.py TARGET TOKEN

Writes a line of JSON for each thing that it was told. Run by test_meta_stubs.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import grpc
from edgelq_sdk.meta.proto.v1alpha2 import (
    deployment_service_pb2,
    deployment_service_pb2_grpc,
    region_service_pb2,
    region_service_pb2_grpc,
    resource_service_pb2,
    resource_service_pb2_grpc,
    service_service_pb2,
    service_service_pb2_grpc,
)
from google.protobuf import field_mask_pb2, json_format
from goten_sdk.types import view_pb2, watch_type_pb2


def said(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def plain(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def reads(regions: Any, metadata: Any) -> None:
    pb = region_service_pb2
    found = regions.GetRegion(pb.GetRegionRequest(name="regions/eu"), metadata=metadata)
    said(get=[found.name, found.title, found.location.city, found.metadata.generation])
    masked = regions.GetRegion(
        pb.GetRegionRequest(
            name="regions/eu", view=view_pb2.NAME, field_mask=field_mask_pb2.FieldMask(paths=["is_default"])
        ),
        metadata=metadata,
    )
    said(masked=plain(masked))
    batch = pb.BatchGetRegionsRequest(names=["regions/us", "regions/none", "regions/eu"])
    answer = regions.BatchGetRegions(batch, metadata=metadata)
    said(batch=[row.name for row in answer.regions], missing=list(answer.missing))
    request = pb.ListRegionsRequest(
        page_size=1, order_by="title desc", filter='title != ""', include_paging_info=True
    )
    while True:
        page = regions.ListRegions(request, metadata=metadata)
        said(page=[row.name for row in page.regions], of=page.total_results_count, after=page.current_offset)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    try:
        regions.GetRegion(pb.GetRegionRequest(name="regions/none"), metadata=metadata)
    except grpc.RpcError as error:
        said(code=error.code().name)


def others(channel: grpc.Channel, metadata: Any) -> None:
    deployments = deployment_service_pb2_grpc.DeploymentServiceStub(channel).ListDeployments(
        deployment_service_pb2.ListDeploymentsRequest(parent="regions/-"), metadata=metadata
    )
    said(deployments=[[row.name, row.service] for row in deployments.deployments])
    services = service_service_pb2_grpc.ServiceServiceStub(channel).ListServices(
        service_service_pb2.ListServicesRequest(), metadata=metadata
    )
    said(services=[[row.name, list(row.all_versions)] for row in services.services])
    resources = resource_service_pb2_grpc.ResourceServiceStub(channel).ListResources(
        resource_service_pb2.ListResourcesRequest(parent="services/a"), metadata=metadata
    )
    said(resources=[[row.name, row.fqn] for row in resources.resources])


def changes(stream: Iterator[Any]) -> list[Any]:
    found: list[Any] = []
    for message in stream:
        for change in message.region_changes:
            kind = change.WhichOneof("change_type")
            part = getattr(change, kind)
            found.append([kind, part.name if kind == "removed" else part.region.name])
        if message.is_current:
            return sorted(found)
    raise AssertionError("a healthy stream never ends with OK")


def watches(regions: Any, metadata: Any) -> None:
    """Reports what there is, then one change set of each watch once somebody writes."""
    pb = region_service_pb2
    stateless = regions.WatchRegions(
        pb.WatchRegionsRequest(type=watch_type_pb2.STATELESS, max_chunk_size=1), metadata=metadata
    )
    stateful = regions.WatchRegions(pb.WatchRegionsRequest(order_by="name desc"), metadata=metadata)
    one = regions.WatchRegion(pb.WatchRegionRequest(name="regions/us"), metadata=metadata)
    said(stateless=changes(stateless), stateful=changes(stateful))
    said(one=next(one).change.WhichOneof("change_type"))
    said(stateless=changes(stateless), stateful=changes(stateful))
    said(one=next(one).change.WhichOneof("change_type"))


def main(target: str, token: str) -> None:
    metadata = (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(target) as channel:
        regions = region_service_pb2_grpc.RegionServiceStub(channel)
        reads(regions, metadata)
        others(channel, metadata)
        watches(regions, metadata)
    packages = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    said(packages=sorted(package for package in packages if not package.startswith("_")))


if __name__ == "__main__":
    main(*sys.argv[1:])

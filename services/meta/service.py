"""The composition root of the meta service."""

from __future__ import annotations

from collections.abc import Sequence

from services.meta.catalogue import ensure_catalogue
from services.meta.kinds import KINDS, CatalogueRules, MetaKind, definition
from services.meta.servicer import MAX_WHOLE, Limits, MetaServicer
from shared.auth.permissions import PERMISSIONS
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import (
    deployment_service_pb2,
    region_service_pb2,
    resource_service_pb2,
    service_service_pb2,
)
from shared.resource.definition import CLAIM, Definition
from shared.rpc.method import Method, methods_of
from shared.service.config import Config
from shared.service.service import Api, Assembly, Clock, Environment, NewId, Service
from shared.storage.port import Kind

MARK = Kind("mark")
_FILES = {
    "region": region_service_pb2,
    "deployment": deployment_service_pb2,
    "service": service_service_pb2,
    "resource": resource_service_pb2,
}


def definitions(config: Config, clock: Clock, new_id: NewId) -> Sequence[Definition]:
    return [definition(kind, CatalogueRules(kind, clock, new_id)) for kind in KINDS]


async def assemble(
    environment: Environment, kinds: Sequence[Definition], *, whole: int = MAX_WHOLE
) -> Assembly:
    """`whole`: rows of a stateful watch without pages."""
    config = environment.config
    limits = Limits(
        heartbeat=config.watch_heartbeat.total_seconds(),
        bookmark=config.watch_bookmark.total_seconds(),
        whole=whole,
    )
    methods: list[Method] = []
    for kind, found in zip(KINDS, kinds, strict=True):
        methods += _methods(kind, found, environment, limits)
    if config.catalogue:
        await ensure_catalogue(environment.store, environment.collections, config.catalogue)
    return Assembly(apis=[Api("SPEKTRA Edge meta catalogue, v1alpha2", methods)])


def _methods(kind: MetaKind, found: Definition, environment: Environment, limits: Limits) -> list[Method]:
    service = _FILES[kind.kind].DESCRIPTOR.services_by_name[f"{kind.title}Service"]
    servicer = MetaServicer(
        kind,
        service,
        environment.collection(found),
        environment.tailer,
        clock=environment.clock,
        limits=limits,
    )
    return methods_of(service, servicer, PERMISSIONS)


SERVICE = Service("meta", definitions, assemble, kinds=(CLAIM, MARK))

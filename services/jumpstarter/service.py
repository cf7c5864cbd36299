"""The composition root of the jumpstarter service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from services.jumpstarter import client_service, kinds
from services.jumpstarter.caller import Callers, admitted
from services.jumpstarter.client_service import ClientService
from services.jumpstarter.engine import Engine
from services.jumpstarter.exporter import LabelPolicy
from services.jumpstarter.presence import Presence
from services.jumpstarter.tokens import LabTokens
from shared.auth.permissions import PERMISSIONS
from shared.resource.definition import CLAIM, Definition
from shared.rest.style import Style
from shared.rpc.method import methods_of
from shared.service.config import Config
from shared.service.service import Api, Assembly, Clock, Environment, NewId, Service

# As grpc-gateway writes it: every field, null for what is not set.
STYLE: Final = Style(emit_defaults=True)


def definitions(config: Config, clock: Clock, new_id: NewId) -> Sequence[Definition]:
    return kinds.definitions(clock, new_id)


async def assemble(environment: Environment, found: Sequence[Definition]) -> Assembly:
    config = environment.config
    engine = await environment.stack.enter_async_context(
        Engine(
            environment.store,
            environment.tailer,
            environment.clock,
            retention=config.lease_retention // timedelta(microseconds=1) * 1000,
        )
    )
    await environment.stack.enter_async_context(
        Presence(engine, environment.store, environment.new_id(), config.jumpstarter_endpoint)
    )
    exporters, clients, _, leases = map(environment.collection, found)
    callers = Callers(environment.access, clients, exporters)
    labels = LabelPolicy(config.jumpstarter_hidden_labels, config.jumpstarter_deprecated_labels)
    servicer = ClientService(
        engine,
        exporters,
        leases,
        callers,
        LabTokens(environment.access),
        environment.new_id,
        labels,
        max_tags=config.jumpstarter_max_tags,
    )
    methods = admitted(methods_of(client_service.SERVICE, servicer, PERMISSIONS), environment.access)
    return Assembly(apis=[Api("Jumpstarter for clients", methods, STYLE)])


SERVICE = Service(
    "jumpstarter", definitions, assemble, kinds=(CLAIM, kinds.CONTROLLER, kinds.LISTENER, kinds.DIAL)
)

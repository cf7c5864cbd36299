"""The composition root of the jumpstarter service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from services.jumpstarter import kinds
from services.jumpstarter.api import client_service, controller_service, lab_service, router
from services.jumpstarter.api.caller import Callers, admitted
from services.jumpstarter.api.client_service import ClientService
from services.jumpstarter.api.controller_service import ControllerService
from services.jumpstarter.api.dialing import Dialing
from services.jumpstarter.api.jmp_config import Endpoint
from services.jumpstarter.api.lab_service import LabService
from services.jumpstarter.api.router import RouterService
from services.jumpstarter.api.router_tokens import RouterTokens
from services.jumpstarter.api.tokens import LabTokens
from services.jumpstarter.leasing.engine import Engine
from services.jumpstarter.leasing.exporter import LabelPolicy
from services.jumpstarter.leasing.presence import Presence
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
    config, access, store, tls = environment.config, environment.access, environment.store, environment.tls
    assert tls is not None, "this service has a TLS port"
    enter = environment.stack.enter_async_context
    retention = config.lease_retention // timedelta(microseconds=1) * 1000
    engine = await enter(Engine(store, environment.tailer, environment.clock, retention=retention))
    presence = await enter(Presence(engine, store, environment.new_id(), tls.endpoint))
    router_tokens = RouterTokens(environment.keys, environment.clock)
    streams = RouterService(router_tokens, environment.clock)
    dialing = await enter(
        Dialing(
            store,
            environment.tailer,
            router_tokens,
            environment.clock,
            environment.new_id,
            controller=presence.id,
            endpoint=tls.endpoint,
        )
    )
    exporters, clients, _, leases = map(environment.collection, found)
    callers, tokens = Callers(access, clients, exporters), LabTokens(access)
    client = ClientService(
        engine,
        exporters,
        leases,
        callers,
        tokens,
        environment.new_id,
        LabelPolicy(config.jumpstarter_hidden_labels, config.jumpstarter_deprecated_labels),
        max_tags=config.jumpstarter_max_tags,
    )
    controller = ControllerService(engine, callers, presence, dialing, store, environment.new_id)

    def endpoint() -> Endpoint:
        return Endpoint(tls.endpoint, tls.certificates.current.authority.decode())

    lab = LabService(engine, tokens, clients, exporters, leases, endpoint)

    async def stop() -> None:
        # Status, Listen and Stream never end by themselves.
        presence.stop()
        engine.lab.close()
        await dialing.stop()
        await streams.stop()

    of_client = methods_of(client_service.SERVICE, client, PERMISSIONS)
    of_controller = methods_of(controller_service.SERVICE, controller, PERMISSIONS)
    of_router = methods_of(router.SERVICE, streams, PERMISSIONS, raw=router.RAW)
    of_lab = methods_of(lab_service.SERVICE, lab, PERMISSIONS)
    return Assembly(
        apis=[
            Api("Jumpstarter for clients", admitted(of_client, access), STYLE),
            Api("Jumpstarter for exporters", admitted(of_controller, access), STYLE),
            Api("Jumpstarter's router", of_router),
            Api("Roundhouse lab", of_lab),
        ],
        on_stop=[stop],
    )


SERVICE = Service(
    "jumpstarter", definitions, assemble, kinds=(CLAIM, kinds.CONTROLLER, kinds.LISTENER, kinds.DIAL)
)

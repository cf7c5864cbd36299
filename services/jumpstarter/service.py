"""The composition root of the jumpstarter service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.jumpstarter import kinds
from services.jumpstarter.engine import Engine
from services.jumpstarter.presence import Presence
from shared.resource.definition import CLAIM, Definition
from shared.service.config import Config
from shared.service.service import Assembly, Clock, Environment, NewId, Service


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
    return Assembly(apis=[])


SERVICE = Service(
    "jumpstarter", definitions, assemble, kinds=(CLAIM, kinds.CONTROLLER, kinds.LISTENER, kinds.DIAL)
)

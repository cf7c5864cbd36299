"""What a service is made of: its kinds, its APIs and what runs beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web
from google.protobuf.message import Message

from shared.auth.access import Access
from shared.auth.keys import KeyRing
from shared.resource.collection import Collection
from shared.resource.definition import Definition
from shared.rest.style import GOOGLE, Style
from shared.rpc.method import Method
from shared.rpc.server import Decorate
from shared.service.certificates import Certificates
from shared.service.config import Config
from shared.service.metrics import Metrics
from shared.storage.port import Kind, Store
from shared.watch.tailer import Tailer

T = TypeVar("T", bound=Message)
# Nanoseconds since 1970, UTC.
Clock = Callable[[], int]
NewId = Callable[[], str]


@dataclass(frozen=True)
class Api:
    """Methods that share a REST style. `decorate` adds details of the API's own to gRPC errors."""

    title: str
    methods: Sequence[Method]
    style: Style = GOOGLE
    decorate: Decorate | None = None


@dataclass(frozen=True)
class Assembly:
    """What a service serves. `routes` need no token; `on_scrape` runs before /metrics answers;
    `on_stop` runs first at the stop, and ends streams that would go on, with Unavailable."""

    apis: Sequence[Api]
    routes: Sequence[web.RouteDef] = ()
    on_scrape: Sequence[Callable[[], Awaitable[None]]] = ()
    on_stop: Sequence[Callable[[], Awaitable[None]]] = ()


@dataclass(frozen=True)
class Tls:
    """The gRPC port that speaks TLS whatever the settings: `endpoint` is the host:port that clients
    are told, `certificates` what it shows them."""

    port: int
    endpoint: str
    certificates: Certificates


@dataclass(frozen=True)
class Environment:
    """What a running process gives its service. What is entered on `stack` is closed at the end,
    in reverse."""

    config: Config
    store: Store
    tailer: Tailer
    access: Access
    # What signs this installation's tokens.
    keys: KeyRing
    metrics: Metrics
    clock: Clock
    new_id: NewId
    stack: AsyncExitStack
    # Of services that have such a port (`shared.service.config.TLS`).
    tls: Tls | None = None
    _collections: dict[str, Collection] = field(default_factory=dict)

    def collection(self, definition: Definition[T]) -> Collection[T]:
        """The one Collection of a kind in this process."""
        return self._collections.setdefault(definition.kind, Collection(self.store, definition))

    @property
    def collections(self) -> list[Collection]:
        return list(self._collections.values())


@dataclass(frozen=True)
class Service:
    """`definitions` are the kinds that the admin API shows, `kinds` what else the store keeps."""

    name: str
    definitions: Callable[[Config, Clock, NewId], Sequence[Definition]]
    assemble: Callable[[Environment, Sequence[Definition]], Awaitable[Assembly]]
    kinds: Sequence[Kind] = ()

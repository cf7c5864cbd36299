"""The services behind the console: where each one is, and calls to them as the person who asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from shared.pb.roundhouse.admin.v1.access_pb2_grpc import AccessServiceStub
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.rpc.client import CallFailed, Failure, Metadata, bearer, call, failure_of, open_channel
from shared.service.config import Config

META: Final = "meta"
JUMPSTARTER: Final = "jumpstarter"
JOBS: Final = "jobs"
PIPELINES: Final = "pipelines"
PODS: Final = "pods"
# The floors that the console has pages for. A service that is not here does not exist for it.
FLOORS: Final[tuple[str, ...]] = (META, JUMPSTARTER, JOBS, PIPELINES, PODS)
TITLES: Final[Mapping[str, str]] = {
    META: "Meta",
    JUMPSTARTER: "Jumpstarter",
    JOBS: "Jobs",
    PIPELINES: "Pipelines",
    PODS: "Pods",
}
# Seconds that a page waits for one answer: a page that says "too slow" beats one that hangs.
DEADLINE: Final = 8.0
# Seconds for one of several that can answer a read: a service that hangs holds no page up for long.
SHORT_DEADLINE: Final = 2.0
REQUEST_ID: Final = "x-request-id"

_READS: Final = ("WhoAmI", "List")

StubClass = Callable[[grpc.aio.Channel], Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one service is. `rest` is its base URL, empty when it cannot be known."""

    name: str
    target: str
    rest: str = ""

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name.title())


def endpoints(config: Config) -> tuple[Endpoint, ...]:
    """The enabled services, on the counted ports or where the setting `services` says.

    Raises ValueError when `services` is not a list of `name=host:port`.
    """
    given: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in config.services.split(","))):
        name, separator, target = entry.partition("=")
        if not separator or ":" not in target:
            raise ValueError(f"services: {entry!r} is not name=host:port")
        given[name.strip()] = target.strip()
    scheme = "https" if config.tls_ca else "http"
    found = []
    for name in FLOORS:
        if name in given:
            found.append(Endpoint(name, given[name]))
        elif config.enabled(name):
            # `grpc_port` and `http_port` are the console's own here, not its peers'.
            number, rest = config.counted_ports(name)
            found.append(Endpoint(name, f"{config.host}:{number}", f"{scheme}://{config.host}:{rest}"))
    return tuple(found)


class Clients:
    """One channel a service, shared by everyone; who calls is in each call's metadata."""

    def __init__(self, endpoints: tuple[Endpoint, ...], *, tls_ca: str = "") -> None:
        self.endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        # Whom to ask what all answer alike: those that did not answer stand last.
        self.order = list(self.endpoints)
        self._channels = {
            endpoint.name: open_channel(endpoint.target, tls_ca=tls_ca) for endpoint in endpoints
        }

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(grace=None)

    def ask_last(self, service: str) -> None:
        self.order.sort(key=lambda name: name == service)

    def channel(self, service: str) -> grpc.aio.Channel:
        """Raises CallFailed (UNAVAILABLE) for a service that is not enabled."""
        self.endpoint(service)
        return self._channels[service]

    def endpoint(self, service: str) -> Endpoint:
        """Raises as `channel` does."""
        try:
            return self.endpoints[service]
        except KeyError:
            raise CallFailed(
                Failure(grpc.StatusCode.UNAVAILABLE, f"the service {service} is not enabled here")
            ) from None

    def caller(self, token: str, *, request_id: str = "") -> Caller:
        return Caller(self, token, request_id)


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls services as whoever `token` stands for. Every method raises CallFailed."""

    clients: Clients
    token: str
    request_id: str = ""

    @property
    def metadata(self) -> Metadata:
        own = ((REQUEST_ID, self.request_id),) if self.request_id else ()
        return (*bearer(self.token), *own)

    async def call(
        self,
        service: str,
        stub: StubClass,
        method: str,
        request: Message,
        *,
        timeout: float = DEADLINE,
        more: Metadata = (),
    ) -> Any:
        """The answer of one unary method of `service`. `more`: metadata beside the caller's own."""
        metadata = (*self.metadata, *more)
        return await call(getattr(stub(self.clients.channel(service)), method), request, metadata, timeout)

    async def admin(self, service: str, method: str, request: Message) -> Any:
        return await self.call(service, AdminServiceStub, method, request)

    async def access(self, method: str, request: Message) -> Any:
        """Of the access store, which every process opens."""
        return await self.anyone(AccessServiceStub, method, request)

    async def anyone(self, stub: StubClass, method: str, request: Message) -> Any:
        """What all services answer alike: the first one that is up answers."""
        down: CallFailed | None = None
        services, reads = list(self.clients.order), method.startswith(_READS)
        for service in services:
            short = reads and service != services[-1]
            try:
                return await self.call(
                    service, stub, method, request, timeout=SHORT_DEADLINE if short else DEADLINE
                )
            except CallFailed as error:
                failure = error.failure
                silent = reads and failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
                # A lost answer to a write must not be tried again elsewhere.
                absent = failure.code is grpc.StatusCode.UNAVAILABLE and not failure.outcome_unknown
                if not silent and not absent:
                    raise
                self.clients.ask_last(service)
                down = error
        raise down or CallFailed(Failure(grpc.StatusCode.UNAVAILABLE, "no service is enabled here"))

    async def watch(self, service: str, request: Message) -> AsyncIterator[Any]:
        """The answers of AdminService.Watch, until it ends."""
        answers = AdminServiceStub(self.clients.channel(service)).Watch(request, metadata=self.metadata)
        try:
            async for answer in answers:
                yield answer
        except grpc.RpcError as error:
            raise CallFailed(failure_of(error)) from error
        finally:
            answers.cancel()

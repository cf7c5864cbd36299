"""The client side: one channel to a service, calls that bear a token, failures that can be shown.

Used by the command line and the console. Failures arrive as `CallFailed` whose `failure` holds what
`shared.rpc.status` put into google.rpc details.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2

from shared.errors import FailedPrecondition, Violation

# Seconds that a unary call may take, unless its caller says otherwise.
DEADLINE: Final = 10.0
# Our own lists are at most 1000 objects a page, and an exported object may be as large as a request.
MAX_RECEIVE_BYTES: Final = 64 * 1024 * 1024
_DETAILS: Final = "grpc-status-details-bin"

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", MAX_RECEIVE_BYTES),
    # A peer that vanished without a word is noticed while a watch waits.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A service that was restarted is found again within two seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    # Despite its name: how long one attempt to connect may take. A busy host needs more than a moment.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Loopback and cluster addresses never go through the proxy of the environment.
    ("grpc.enable_http_proxy", 0),
)

Response = TypeVar("Response", bound=Message)
Stub = TypeVar("Stub")
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed, as its service said it. Empty texts mean that it said nothing of the kind."""

    code: grpc.StatusCode
    message: str
    violations: tuple[Violation, ...] = ()
    # ErrorInfo: what programs branch on, for example "STORE_UNAVAILABLE".
    reason: str = ""
    resource_type: str = ""
    resource_name: str = ""
    # The permission that the caller lacks.
    permission: str = ""
    info: dict[str, str] = field(default_factory=dict)

    @property
    def outcome_unknown(self) -> bool:
        """The write may have happened: read before trying again."""
        return self.info.get("outcome") == "unknown"

    @property
    def position(self) -> int | None:
        """Characters from the start of the text that is wrong to what is wrong in it."""
        text = self.info.get("position", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


class CallFailed(Exception):
    """A call ended with a status other than OK. `target` and `service` are empty where the caller knows
    them."""

    def __init__(self, failure: Failure, target: str = "", service: str = "") -> None:
        super().__init__(f"{failure.code.name}: {failure.message}")
        self.failure = failure
        self.target = target
        self.service = service


def failure_of(error: grpc.RpcError) -> Failure:
    """What `error` says. Details of unknown types, or that do not decode, are left out."""
    # Both kinds of RpcError (grpc.aio and grpc) answer these; the base class does not declare them.
    call: Any = error
    code, message = call.code(), call.details() or ""
    found: dict[str, Any] = {}
    for detail in _details(call):
        if detail.Is(details_pb2.BadRequest.DESCRIPTOR):
            bad = _unpack(detail, details_pb2.BadRequest)
            found["violations"] = tuple(Violation(v.field, v.description) for v in bad.field_violations)
        elif detail.Is(details_pb2.ResourceInfo.DESCRIPTOR):
            resource = _unpack(detail, details_pb2.ResourceInfo)
            found["resource_type"] = resource.resource_type
            found["resource_name"] = resource.resource_name
        elif detail.Is(details_pb2.ErrorInfo.DESCRIPTOR):
            info = _unpack(detail, details_pb2.ErrorInfo)
            found["reason"] = info.reason
            found["info"] = dict(info.metadata)
            found["permission"] = info.metadata.get("permission", "")
    return Failure(code, message, **found)


def _details(call: Any) -> list[Any]:
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS:
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []


def _unpack(detail: Any, kind: type[Response]) -> Response:
    try:
        return kind.FromString(detail.value)
    except DecodeError:
        return kind()


def bearer(token: str) -> Metadata:
    """The metadata that a caller with `token` sends; none without one."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def open_channel(target: str, *, tls_ca: str = "") -> grpc.aio.Channel:
    """A channel to `host:port`, over TLS when `tls_ca` names the authority's PEM file.

    Connects lazily. Raises FailedPrecondition when the file cannot be read.
    """
    if not tls_ca:
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    try:
        authority = Path(tls_ca).read_bytes()
    except OSError as error:
        raise FailedPrecondition(f"tls_ca: {tls_ca}: {error.strerror}") from error
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority), options=OPTIONS)


class Client:
    """One channel, used as one caller. Make it inside the event loop that uses it. `service` names in
    failures who failed.

    Those who call as several people share a channel and use `call` with each one's `bearer`.
    """

    def __init__(self, target: str, *, token: str = "", tls_ca: str = "", service: str = "") -> None:
        self.target = target
        self.service = service
        self.channel = open_channel(target, tls_ca=tls_ca)
        self.metadata = bearer(token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.channel.close(grace=None)

    def failed(self, error: grpc.RpcError) -> CallFailed:
        """What to raise when a call on the channel ended with `error`."""
        return CallFailed(failure_of(error), self.target, self.service)

    async def call(
        self,
        stub: Callable[[grpc.aio.Channel], Any],
        method: str,
        request: Message,
        *,
        timeout: float | None = DEADLINE,
        metadata: Metadata = (),
    ) -> Any:
        """The answer of a unary method. Raises CallFailed."""
        try:
            return await getattr(stub(self.channel), method)(
                request, metadata=(*self.metadata, *metadata), timeout=timeout
            )
        except grpc.RpcError as error:
            raise self.failed(error) from error

    async def stream(
        self,
        stub: Callable[[grpc.aio.Channel], Any],
        method: str,
        request: Message,
        *,
        metadata: Metadata = (),
    ) -> AsyncIterator[Any]:
        """The answers of a streaming method, until it ends. Raises CallFailed."""
        answers = getattr(stub(self.channel), method)(request, metadata=(*self.metadata, *metadata))
        try:
            async for answer in answers:
                yield answer
        except grpc.RpcError as error:
            raise self.failed(error) from error
        finally:
            answers.cancel()


async def call(
    method: Callable[..., Any],
    request: Message,
    metadata: Metadata = (),
    timeout: float | None = DEADLINE,
) -> Any:
    """One unary call of a stub's method, for callers who share a channel. Raises CallFailed."""
    try:
        return await method(request, metadata=metadata, timeout=timeout)
    except grpc.RpcError as error:
        raise CallFailed(failure_of(error)) from error

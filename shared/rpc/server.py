"""The gRPC server: raw bytes in, raw bytes out, everything between is the pipeline's."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from shared.errors import InvalidArgument
from shared.rpc.interceptors import REQUEST_ID, Pipeline, request_id
from shared.rpc.limit import Limit
from shared.rpc.method import Metadata, MetadataDict, Method
from shared.rpc.status import Status, StatusError

# Details of a service's own that go before the google.rpc ones.
Decorate = Callable[[Status], Sequence[Message]]

_OPTIONS = (
    # A second process must not share the port in silence.
    ("grpc.so_reuseport", 0),
    # Real exporters ping every 20 s, without a call too; the default would cut them off (jumpstarter
    # contract, section 8).
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # By itself a minute, whatever the timeout of a keepalive is: the greater counts.
    ("grpc.http2.ping_timeout_ms", 20_000),
)
# Seconds for which a client of a failed call is listened to, and without a word from it.
_DRAIN = 5.0
_SILENCE = 0.25
# Seconds after which a stream from a client that has ended is known to be whole.
_SETTLED = 0.02


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        self._handlers = handlers

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)


class GrpcServer:
    """Serves `methods` and, without a token, health and reflection (v1 and v1alpha)."""

    def __init__(
        self,
        pipeline: Pipeline,
        methods: Sequence[tuple[Method, Decorate | None]] = (),
        *,
        max_message_bytes: int = 4 << 20,
    ) -> None:
        self._pipeline = pipeline
        self._server = grpc.aio.server(
            options=[
                *_OPTIONS,
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
            ]
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # grpc-stubs lacks it
        self._methods = list(methods)

    def add(self, methods: Iterable[tuple[Method, Decorate | None]]) -> None:
        """Serve these too: before the start."""
        self._methods += methods

    @property
    def services(self) -> tuple[str, ...]:
        names = sorted({method.service for method, _ in self._methods})
        return (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Bind `host:port` (port 0 takes a free one) and answer the port, any number of times before
        the start. Whoever connects is served from then on. Raises OSError."""
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: the port is taken or the address wrong") from error
        if port == 0:
            raise OSError(f"cannot listen on {address}")
        return port

    async def start(self) -> None:
        handlers = {method.path: self._handler(method, decorate) for method, decorate in self._methods}
        self._server.add_generic_rpc_handlers((_Handlers({**handlers, **self._reflection()}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        await self._server.start()

    async def serving(self, yes: bool) -> None:
        """What grpc.health.v1 answers, for the whole server and each service."""
        state = health_pb2.HealthCheckResponse.SERVING if yes else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self.services):
            await self._health.set(name, state)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let running ones end within `grace` seconds, then cut them off."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    def _reflection(self) -> dict[str, grpc.RpcMethodHandler]:
        servicer = reflection.aio.ReflectionServicer(self.services)  # type: ignore[attr-defined]
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        # The two versions are the same on the wire; grpcio ships the older name only.
        return {
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": handler
            for version in ("v1", "v1alpha")
        }

    def _handler(self, method: Method, decorate: Decorate | None) -> grpc.RpcMethodHandler:
        pipeline = self._pipeline

        def reader(request: Any) -> Callable[[], Any]:
            if method.raw:
                return lambda: request
            if method.client_streaming:
                return lambda: _parsed(method, request)
            return lambda: _parse(method, request)

        async def abort(request: Any, context: Any, metadata: Metadata, error: StatusError) -> None:
            # Of raw streams somebody else may be reading still.
            if method.client_streaming and not method.raw:
                await _drained(request)
            status = error.status
            extra = decorate(status) if decorate is not None else ()
            await context.abort(
                status.code,
                status.message,
                (
                    ("grpc-status-details-bin", status.proto(*extra).SerializeToString()),
                    (REQUEST_ID, metadata[REQUEST_ID]),
                ),
            )

        async def unary(request: Any, context: Any) -> bytes:
            metadata = _metadata(context)
            try:
                answer = await pipeline.unary(method, reader(request), metadata, "grpc")
            except StatusError as error:
                await abort(request, context, metadata, error)
                raise
            return answer if isinstance(answer, bytes) else answer.SerializeToString()

        async def stream(request: Any, context: Any) -> None:
            metadata, limit = _metadata(context), Limit()
            answers = pipeline.stream(method, reader(request), metadata, "grpc", limit)
            try:
                async with limit, contextlib.aclosing(answers):
                    async for answer in answers:
                        await context.write(
                            answer if isinstance(answer, bytes) else answer.SerializeToString()
                        )
            except StatusError as error:
                await abort(request, context, metadata, error)
            except grpc.aio.InternalError as error:
                # The client went away while a message was on its way to it.
                raise asyncio.CancelledError from error

        kinds = {
            (False, False): (grpc.unary_unary_rpc_method_handler, unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, unary),
            (True, True): (grpc.stream_stream_rpc_method_handler, stream),
        }
        make, function = kinds[method.client_streaming, method.server_streaming]
        return make(function)


def _metadata(context: Any) -> MetadataDict:
    given = [pair for pair in context.invocation_metadata() or () if isinstance(pair[1], str)]
    # Of each name the first counts.
    found: dict[str, str] = dict(reversed(given))
    repeated = [] if len(found) == len(given) else _repeated(key for key, _ in given)
    # Settled here, so that an error's trailer and the log agree.
    found[REQUEST_ID] = request_id(found)
    return MetadataDict(found, repeated)


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _parse(method: Method, data: bytes) -> Message:
    try:
        return method.request.FromString(data)
    except (DecodeError, ValueError) as error:
        raise InvalidArgument.at(
            "request", f"its bytes are no {method.request.DESCRIPTOR.full_name}"
        ) from error


async def _drained(stream: AsyncIterator[bytes]) -> None:
    """Takes what a client is just sending: one whose message cannot be sent any more, for the call has
    failed, hears of that and not of the failure."""
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(_DRAIN):
            while True:
                async with asyncio.timeout(_SILENCE):
                    await anext(stream)


async def _parsed(method: Method, stream: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for data in stream:
        yield _parse(method, data)
    # A stream that broke off ends like one that was ended; that it is cancelled comes a moment later.
    await asyncio.sleep(_SETTLED)

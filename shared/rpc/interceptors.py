"""What every call passes through, whichever transport it came by.

request id -> authenticate -> authorize -> parse -> handler, with metrics, a log line for what
failed, and every exception turned into a Status. Nothing but StatusError (and cancellation) leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from google.protobuf.message import Message
from grpc import StatusCode

from shared.auth.policy import authorize
from shared.errors import ApiError, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from shared.rpc import status as statuses
from shared.rpc.limit import Limit
from shared.rpc.method import PUBLIC, Authenticator, Call, Metadata, Method
from shared.rpc.metrics import RpcMetrics
from shared.rpc.status import Status, StatusError
from shared.storage.errors import StoreError

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
# Seconds after which a message on a stream waits for another look at the token, and between two looks
# while nothing is said.
_RECHECK = 1.0
_QUIET = 10.0
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._:/+-]{1,128}")


def request_id(metadata: Mapping[str, str]) -> str:
    """The caller's, when it is a decent one, or a new one."""
    given = metadata.get(REQUEST_ID, "")
    return given if given and _REQUEST_ID_FORM.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """Tells calls apart in logs; no secret, so no system call is spent on it."""
    return f"{random.getrandbits(128):032x}"


class Pipeline:
    """Runs methods for the transports. `read` parses the request and may raise InvalidArgument; it
    is called only once the caller is known to be allowed. `metadata` has the request id, which the
    transport settled by `request_id`."""

    def __init__(
        self,
        authenticator: Authenticator,
        metrics: RpcMetrics,
        *,
        max_streams: int = 20_000,
        max_stream_age: float = 0.0,
    ) -> None:
        """`max_stream_age`: seconds after which a stream ends with Unavailable; 0 lets it run."""
        self._authenticator = authenticator
        self._metrics = metrics
        self._max_streams = max_streams
        self._max_stream_age = max_stream_age
        self._streams = 0

    async def unary(
        self, method: Method, read: Callable[[], Any], metadata: Metadata, transport: str
    ) -> Message | bytes:
        started = time.perf_counter()
        code = StatusCode.CANCELLED
        call = Call(method, metadata[REQUEST_ID], metadata, transport)
        try:
            await self._admit(call)
            answer = await method.handler(read(), call)
            code = StatusCode.OK
            return answer
        except Exception as error:
            failed = self._failed(call, error)
            code = failed.code
            raise StatusError(failed) from error
        finally:
            self._metrics.answered(method, transport, code, time.perf_counter() - started)

    async def stream(
        self, method: Method, read: Callable[[], Any], metadata: Metadata, transport: str, limit: Limit
    ) -> AsyncGenerator[Message | bytes, None]:
        """`limit` is what the transport has around the whole stream: it ends when the caller's token
        expires, when the stream is too old, or when the handler says; and once the token is revoked or
        its role no longer allows the call: before another message goes out, or soon."""
        code = StatusCode.CANCELLED
        call = Call(method, metadata[REQUEST_ID], metadata, transport, limit=limit)
        sent = self._metrics.sent(method, transport)
        self._streams += 1
        self._metrics.streams.set(self._streams)
        guard: asyncio.Task[None] | None = None
        try:
            if self._streams > self._max_streams:
                raise ResourceExhausted(f"this process serves {self._max_streams} streams already")
            await self._admit(call)
            self._bound(call, limit)
            if method.permission != PUBLIC:
                guard = asyncio.create_task(self._guard(call, limit))
            checked = time.monotonic()
            async with contextlib.aclosing(method.handler(read(), call)) as answers:
                async for message in answers:
                    if (now := time.monotonic()) - checked > _RECHECK:
                        await self._admit(call)
                        checked = now
                    sent[0] += 1
                    yield message
            code = StatusCode.OK
        except (asyncio.CancelledError, GeneratorExit):
            if limit.reason is not None:
                code = self._failed(call, limit.reason).code
            raise
        except Exception as error:
            failed = self._failed(call, error)
            code = failed.code
            raise StatusError(failed) from error
        finally:
            if guard is not None:
                guard.cancel()
            self._streams -= 1
            self._metrics.streams.set(self._streams)
            self._metrics.ended(method, transport, code)

    def _bound(self, call: Call, limit: Limit) -> None:
        """Sets what the pipeline itself ends a stream by."""
        if self._max_stream_age:
            old = Unavailable("the stream has reached its greatest age; open it anew")
            limit.end_after(self._max_stream_age, old)
        if call.method.permission != PUBLIC and call.identity.expires_at is not None:
            expired = Unauthenticated("the bearer token is expired: it ran out while the stream was open")
            limit.end_after(call.identity.expires_at - time.time(), expired)

    async def _guard(self, call: Call, limit: Limit) -> None:
        """Ends a stream on which nothing is said as well: its being open may mean something."""
        while True:
            await asyncio.sleep(_QUIET)
            try:
                await self._admit(call)
            except (Unauthenticated, PermissionDenied) as error:
                limit.end_after(0, error)
                return
            except (ApiError, StoreError) as error:
                log.info("a stream goes on unchecked", extra={"error": str(error)})

    async def _admit(self, call: Call) -> None:
        if call.method.permission == PUBLIC:
            return
        authenticator = call.method.authenticator or self._authenticator
        call.identity = await authenticator.authenticate(call.metadata)
        authorize(call.identity, call.method.permission)

    def _failed(self, call: Call, error: Exception) -> Status:
        found = statuses.of(error)
        fields = {
            "request_id": call.request_id,
            "method": call.method.path,
            "transport": call.transport,
            "subject": call.identity.subject,
            "code": found.code.name,
        }
        if found.code is StatusCode.INTERNAL:
            log.error("call crashed", extra=fields, exc_info=error)
        else:
            log.info("call failed", extra={**fields, "error": found.message[:500]})
        return found

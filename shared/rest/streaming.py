"""Server streams over HTTP: JSON lines, or server-sent events for clients that accept them.

A line is `{"result": message}`; a failure after the stream is open is a last line `{"error": ...}`.
An event carries the message itself as data, and its resume_token as the event's id, which browsers
send back as Last-Event-ID; a failure is an event named "error". A stream of google.api.HttpBody goes out
as its bare bytes; a failure breaks the connection off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, Protocol

import orjson
from aiohttp import web
from aiohttp.http import StreamWriter
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from shared.rest import body, errors
from shared.rest.convert import Converter
from shared.rest.style import Style
from shared.rpc.limit import Limit
from shared.rpc.status import Status, StatusError

# A loop that never yields holds up every other request of the process.
YIELD_EVERY: Final = 64 * 1024
EVENT_STREAM: Final = "text/event-stream"
_END: Final = object()
# Seconds that a reader who was cut off has to take the last line.
_LAST_WORD: Final = 5.0


class Form(Protocol):
    """How what a method answers becomes text."""

    content_type: str

    def message(self, message: Any) -> bytes: ...

    def error(self, status: Status) -> bytes: ...


class Lines:
    """Newline-delimited JSON."""

    content_type = "application/json"

    def __init__(self, kind: type[Message], converter: Converter, style: Style, *, indent: bool) -> None:
        self._parse = kind.FromString
        self._convert = converter
        self._error = style.error_of_stream
        self._option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)

    def message(self, message: Message | bytes) -> bytes:
        parsed = self._parse(message) if isinstance(message, bytes) else message
        return orjson.dumps({"result": self._convert(parsed)}, option=self._option)

    def error(self, status: Status) -> bytes:
        return orjson.dumps({"error": self._error(status)}, option=self._option)


class ReadyLines(Lines):
    """The same of a method that answers with whole lines."""

    def message(self, message: Any) -> bytes:
        return message


class Events:
    """Server-sent events."""

    content_type = EVENT_STREAM

    def __init__(self, kind: type[Message], converter: Converter, style: Style) -> None:
        self._parse = kind.FromString
        self._convert = converter
        self._error = style.error_of_stream

    def message(self, message: Message | bytes) -> bytes:
        message = self._parse(message) if isinstance(message, bytes) else message
        token = getattr(message, "resume_token", "")
        known = isinstance(token, str) and token and token.isprintable()
        head = f"id: {token}\n".encode() if known else b""
        return head + b"data: " + orjson.dumps(self._convert(message)) + b"\n\n"

    def error(self, status: Status) -> bytes:
        return b"event: error\ndata: " + orjson.dumps(self._error(status)) + b"\n\n"


class Bytes:
    """What a stream of HttpBody holds, under the content type of its first message."""

    content_type: str = "application/octet-stream"

    def begins_with(self, first: object) -> None:
        if isinstance(first, HttpBody) and first.content_type:
            self.content_type = first.content_type

    def message(self, message: Message | bytes) -> bytes:
        found = HttpBody.FromString(message) if isinstance(message, bytes) else message
        assert isinstance(found, HttpBody)
        return found.data

    def error(self, status: Status) -> bytes:
        """There is no place for words in it, and it must not look whole: the connection breaks off."""
        raise ConnectionError(status.message)


async def first_of(messages: AsyncIterator[Any], patience: float | None) -> asyncio.Task[Any]:
    """The task that gets the first message: done, unless `patience` seconds went by.

    Raises what the stream raised, so that it can still be answered with an HTTP status."""

    async def first() -> Any:
        return await anext(messages, _END)

    task = asyncio.create_task(first())
    try:
        await asyncio.wait({task}, timeout=patience)
    except asyncio.CancelledError:
        await stop(task)
        raise
    if task.done():
        task.result()
    return task


async def stop(task: asyncio.Task[Any]) -> None:
    """Ends the task; a generator that it runs can be closed then."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, StatusError):
        await task


async def send(
    request: web.BaseRequest,
    messages: AsyncGenerator[Any, None],
    form: Form,
    headers: dict[str, str],
    *,
    gzip: bool,
    patience: float | None,
    limit: Limit,
) -> web.StreamResponse:
    """Answers 200 once there is a message, or after `patience` seconds, and then every message as it
    comes. What fails before that is raised. A client that went away ends it quietly; `limit` cuts it
    off, however slowly its client reads."""
    sender = _Sender(request, form, headers, gzip=gzip)
    try:
        async with limit:
            await sender.send(messages, patience)
    except ConnectionError:
        # The client is gone, or is to see that something is missing.
        if request.transport is not None:
            request.transport.abort()
    except StatusError as error:
        if limit.reason is None:
            raise
        # What the method holds is free before its client has heard of it.
        await messages.aclose()
        await sender.cut_off(error)
    return sender.response


class _Sender:
    def __init__(self, request: web.BaseRequest, form: Form, headers: dict[str, str], *, gzip: bool) -> None:
        headers = {**headers, "Content-Type": form.content_type}
        self._request = request
        self._form = form
        self._compressor = body.GzipStream() if gzip else None
        if gzip:
            headers["Content-Encoding"] = "gzip"
        self.response = web.StreamResponse(headers=headers)

    async def send(self, messages: AsyncIterator[Any], patience: float | None) -> None:
        first = await first_of(messages, patience)
        if isinstance(self._form, Bytes) and first.done():
            self._form.begins_with(first.result())
            self.response.content_type = self._form.content_type
        try:
            await self.response.prepare(self._request)
            if self._request.method != "HEAD":
                await self._send_all(messages, first)
            await self.response.write_eof()
        finally:
            if not first.done():
                await stop(first)

    async def _send_all(self, messages: AsyncIterator[Any], first: asyncio.Task[Any]) -> None:
        unyielded, as_text = 0, self._form.message
        try:
            message = await first
            while message is not _END:
                data = as_text(message)
                unyielded += len(data)
                await self._piece(data)
                if unyielded >= YIELD_EVERY:
                    unyielded = 0
                    await asyncio.sleep(0)
                message = await anext(messages, _END)
        except ConnectionError:
            raise
        except Exception as error:
            await self._piece(self._form.error(errors.of(error)))
        if self._compressor is not None:
            await self._write(self._compressor.end())

    async def _piece(self, data: bytes) -> None:
        await self._write(data if self._compressor is None else self._compressor.piece(data))

    async def _write(self, data: Any) -> None:
        """Waits for a reader that is slow. When that is cut off, nothing is cancelled that the last line
        must wait for as well."""
        request = self._request
        assert isinstance(request.writer, StreamWriter)
        await request.writer.write(data, drain=False)
        transport = request.transport
        if (
            transport is not None
            and transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
        ):
            await asyncio.shield(request.writer.drain())

    async def cut_off(self, error: StatusError) -> None:
        """An HTTP status says so, or the last line, for a reader that comes back in time; the others
        lose the connection."""
        if not self.response.prepared:
            raise error
        try:
            async with asyncio.timeout(_LAST_WORD):
                if self._request.method != "HEAD":
                    await self._piece(self._form.error(error.status))
                    if self._compressor is not None:
                        await self._write(self._compressor.end())
                await self.response.write_eof()
        except (TimeoutError, ConnectionError):
            if self._request.transport is not None:
                self._request.transport.abort()

"""Server streams over HTTP: JSON lines, or server-sent events for clients that accept them.

A line is `{"result": message}`; a failure after the stream is open is a last line `{"error": ...}`.
An event carries the message itself as data, and its resume_token as the event's id, which browsers
send back as Last-Event-ID; a failure is an event named "error". A stream of google.api.HttpBody goes out
as its bare bytes; a failure breaks the connection off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from aiohttp import web
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from shared.rest import body, errors
from shared.rest.convert import Converter
from shared.rest.style import Style
from shared.rpc.method import Method
from shared.rpc.status import Status, StatusError

# A loop that never yields holds up every other request of the process.
YIELD_EVERY: Final = 64 * 1024
EVENT_STREAM: Final = "text/event-stream"
_END: Final = object()


class Lines:
    """Newline-delimited JSON."""

    content_type: Final = "application/json"

    def __init__(self, converter: Converter, style: Style, *, indent: bool) -> None:
        self._convert = converter
        self._error = style.error_of_stream
        self._option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)

    def message(self, message: Message) -> bytes:
        return orjson.dumps({"result": self._convert(message)}, option=self._option)

    def error(self, status: Status) -> bytes:
        return orjson.dumps({"error": self._error(status)}, option=self._option)


class Events:
    """Server-sent events."""

    content_type: Final = EVENT_STREAM

    def __init__(self, converter: Converter, style: Style) -> None:
        self._convert = converter
        self._error = style.error_of_stream

    def message(self, message: Message) -> bytes:
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

    def message(self, message: Message) -> bytes:
        assert isinstance(message, HttpBody)
        return message.data


Form = Lines | Events | Bytes


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
    method: Method,
    messages: AsyncIterator[Any],
    first: asyncio.Task[Any],
    form: Form,
    headers: dict[str, str],
    *,
    gzip: bool,
) -> web.StreamResponse:
    """Answers 200 and then every message as it comes. A client that went away ends it quietly."""
    headers = {**headers, "Content-Type": form.content_type}
    compressor = body.GzipStream() if gzip else None
    if compressor is not None:
        headers["Content-Encoding"] = "gzip"
    response = web.StreamResponse(headers=headers)
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            await _send_all(response, method, messages, first, form, compressor)
        await response.write_eof()
    except ConnectionError:
        # The client is gone, or is to see that something is missing.
        if request.transport is not None:
            request.transport.abort()
        return response
    finally:
        if not first.done():
            await stop(first)
    return response


async def _send_all(
    response: web.StreamResponse,
    method: Method,
    messages: AsyncIterator[Any],
    first: asyncio.Task[Any],
    form: Form,
    compressor: body.GzipStream | None,
) -> None:
    unyielded = 0
    parse = method.response.FromString
    try:
        message = await first
        while message is not _END:
            data = form.message(parse(message) if isinstance(message, bytes) else message)
            unyielded += len(data)
            await response.write(data if compressor is None else compressor.piece(data))
            if unyielded >= YIELD_EVERY:
                unyielded = 0
                await asyncio.sleep(0)
            message = await anext(messages, _END)
    except ConnectionError:
        raise
    except Exception as error:
        if isinstance(form, Bytes):
            # There is no place for words in it, and it must not look whole.
            raise ConnectionError("broken off") from error
        data = form.error(errors.of(error))
        await response.write(data if compressor is None else compressor.piece(data))
    if compressor is not None:
        await response.write(compressor.end())

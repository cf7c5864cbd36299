"""The HTTP face of the methods: one aiohttp handler for every route of every API of a process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import orjson
from aiohttp import web
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from grpc import StatusCode

from shared.errors import InvalidArgument
from shared.rest import body, errors, streaming
from shared.rest.convert import Converter, converter
from shared.rest.headers import Headers
from shared.rest.path_template import Found, Missed, Router, parse
from shared.rest.style import GOOGLE, Style
from shared.rest.transcode import Transcoder
from shared.rpc.interceptors import REQUEST_ID
from shared.rpc.limit import Limit
from shared.rpc.method import Metadata, Method
from shared.rpc.status import Status

Api = tuple[Sequence[Method], Style]
# What `web.AppRunner` must be given: a handler is cancelled when its client goes away (an idle watch
# would not notice otherwise), long filters and page tokens fit into the request line, and bodies are
# decompressed in `body.receive`.
SERVER_OPTIONS: Final[Mapping[str, Any]] = {
    "auto_decompress": False,
    "handler_cancellation": True,
    "max_line_size": 65536,
    "max_field_size": 65536,
}
_JSON: Final = "application/json"


class Calls(Protocol):
    """`shared.rpc.interceptors.Pipeline`."""

    async def unary(
        self, method: Method, read: Callable[[], Any], metadata: Metadata, transport: str
    ) -> Message | bytes: ...

    def stream(
        self,
        method: Method,
        read: Callable[[], Any],
        metadata: Metadata,
        transport: str,
        limit: Limit,
    ) -> AsyncGenerator[Message | bytes, None]: ...


@dataclass(frozen=True, slots=True)
class _Route:
    """One rule of one method, compiled."""

    method: Method
    style: Style
    transcoder: Transcoder
    converter: Converter
    # The request has a resume_token, which Last-Event-ID can set.
    resumes: bool

    @property
    def feed(self) -> Callable[[Sequence[tuple[str, str]], AsyncIterator[bytes]], Any] | None:
        """What reads the body of a method that streams from the client."""
        return self.method.http.read if self.method.http is not None else None

    @property
    def ready(self) -> Method | None:
        """The method as it answers with lines that are ready."""
        form = self.method.http
        if form is None or form.lines is None:
            return None
        return replace(self.method, handler=form.lines)


class Gateway:
    """Serves `apis`: the methods with rules of each, in its style.

    A path that no API knows is answered in the style of the API whose paths start most alike, or in
    `default_style`. Raises ValueError when two methods claim one route, or a rule does not fit.
    """

    def __init__(self, calls: Calls, apis: Sequence[Api], *, default_style: Style = GOOGLE) -> None:
        self._calls = calls
        self._default_style = default_style
        self._router: Router[_Route] = Router()
        self._styles: dict[tuple[str, ...], Style] = {}
        for methods, style in apis:
            for method in methods:
                self._add(method, style)

    def _add(self, method: Method, style: Style) -> None:
        for rule in method.rules:
            if method.client_streaming and (method.http is None or method.http.read is None):
                raise ValueError(f"{method.path} streams from the client: it can have no HTTP rule")
            if method.raw:
                raise ValueError(f"{method.path} takes bytes: it can have no HTTP rule")
            try:
                template = parse(rule.path)
                transcoder = Transcoder(method.request, rule, template, style)
            except ValueError as error:
                raise ValueError(f"{method.path}, {rule.verb} {rule.path}: {error}") from None
            token = method.request.DESCRIPTOR.fields_by_name.get("resume_token")
            resumes = token is not None and token.type == token.TYPE_STRING
            to_json = converter(style.names, emit_defaults=style.emit_defaults)
            self._router.add(rule.verb, rule.path, _Route(method, style, transcoder, to_json, resumes))
            prefix = template.prefix
            for length in range(1, len(prefix) + 1):
                self._styles.setdefault(prefix[:length], style)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The handler of every path that is not fixed, for `shared.rest.server`."""
        path, query = _target(request.raw_path)
        metadata = Headers(request.headers)
        identifier = metadata[REQUEST_ID]
        verb = "GET" if request.method == "HEAD" else request.method
        found = self._router.match(verb, path)
        if isinstance(found, Missed):
            return self._missed(request, path, found, identifier)
        style = found.target.style
        try:
            return await self._answer(request, found, query, metadata)
        except ConnectionError:
            raise
        except Exception as error:
            return _failed(errors.of(error), style, identifier)

    async def _answer(
        self, request: web.BaseRequest, found: Found[_Route], query: str, metadata: Metadata
    ) -> web.StreamResponse:
        route = found.target
        data, broken = b"", ""
        if route.feed is None and route.transcoder.reads_body and request.can_read_body:
            try:
                data = await body.receive(request, route.style.max_body)
            except body.BrokenBody as error:
                broken = str(error)
        events = streaming.EVENT_STREAM in metadata.get("accept", "")
        resume = metadata.get("last-event-id", "") if events and route.resumes else ""

        # Called once the caller is known to be allowed: without a token, 401 comes before 400.
        def read() -> Any:
            if route.feed is not None:
                return route.feed(route.transcoder.parameters(query), body.pieces(request))
            if broken:
                raise InvalidArgument.at("body", broken)
            return route.transcoder.read(found, query, data, resume)

        indent = route.style.pretty and _is_pretty(query, metadata)
        if route.method.server_streaming:
            return await self._stream(request, route, read, metadata, events=events, indent=indent)
        answer = await self._calls.unary(route.method, read, metadata, "rest")
        if indent or not isinstance(answer, bytes):
            parsed = route.method.response.FromString(answer) if isinstance(answer, bytes) else answer
            return await _unary(route.converter.dumps(parsed, indent=indent), metadata)
        return await _unary(route.converter.dumps_serialized(route.method.response, answer), metadata)

    async def _stream(
        self,
        request: web.BaseRequest,
        route: _Route,
        read: Callable[[], Message],
        metadata: Metadata,
        *,
        events: bool,
        indent: bool,
    ) -> web.StreamResponse:
        style, method, limit = route.style, route.method, Limit()
        form: streaming.Form
        if method.response is HttpBody:
            form = streaming.Bytes()
        elif events:
            form = streaming.Events(method.response, route.converter, style)
        elif route.ready is not None and not indent:
            form = streaming.ReadyLines(method.response, route.converter, style, indent=False)
            method = route.ready
        else:
            form = streaming.Lines(method.response, route.converter, style, indent=indent)
        headers = {"X-Request-Id": metadata[REQUEST_ID], "Cache-Control": "no-store", **style.stream_headers}
        gzip = style.gzip_streams and body.accepts_gzip(metadata.get("accept-encoding", ""))
        if style.gzip_streams:
            headers["Vary"] = "Accept-Encoding"
        messages = self._calls.stream(method, read, metadata, "rest", limit)
        async with contextlib.aclosing(messages):
            return await streaming.send(
                request, messages, form, headers, gzip=gzip, patience=style.open_stream_after, limit=limit
            )

    def _missed(self, request: web.BaseRequest, path: str, missed: Missed, identifier: str) -> web.Response:
        style = self._style_of(path)
        if not missed.allowed:
            return _failed(errors.unknown_path(path), style, identifier)
        allowed = [*missed.allowed, *(["HEAD"] if "GET" in missed.allowed else []), "OPTIONS"]
        headers = {"Allow": ", ".join(allowed)}
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={**headers, "X-Request-Id": identifier})
        response = _failed(errors.wrong_method(request.method, path, allowed), style, identifier)
        response.set_status(style.wrong_method)
        response.headers.update(headers)
        return response

    def _style_of(self, path: str) -> Style:
        parts = tuple(path.split("/")[1:])
        for length in range(min(len(parts), 32), 0, -1):
            style = self._styles.get(parts[:length])
            if style is not None:
                return style
        return self._default_style


def _target(raw: str) -> tuple[str, str]:
    """Path and query of a request target, which a proxy may send with scheme and host."""
    if not raw.startswith("/") and "://" in raw:
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    path, _, query = raw.partition("#")[0].partition("?")
    return path, query


def _is_pretty(query: str, metadata: Metadata) -> bool:
    if "application/json+pretty" in metadata.get("accept", ""):
        return True
    return any(pair.partition("=")[0] == "pretty" for pair in query.split("&"))


async def _unary(data: bytes, metadata: Metadata) -> web.Response:
    headers = {"Content-Type": _JSON, "X-Request-Id": metadata[REQUEST_ID]}
    if len(data) > body.GZIP_FROM:
        headers["Vary"] = "Accept-Encoding"
        if body.accepts_gzip(metadata.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            data = await body.compressed(data)
    return web.Response(body=data, headers=headers)


def _failed(status: Status, style: Style, identifier: str) -> web.Response:
    headers = {"Content-Type": _JSON, "X-Request-Id": identifier}
    if status.code is StatusCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    data = orjson.dumps(style.error(status))
    return web.Response(status=errors.http_status(status), body=data, headers=headers)

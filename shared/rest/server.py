"""The HTTP server of a process: a few fixed paths, and one handler for everything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from aiohttp import hdrs, web

Handler = Callable[[Any], Awaitable[web.StreamResponse]]
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def http_server(routes: Iterable[web.RouteDef], otherwise: Handler, **options: Any) -> web.Server:
    """Serves `routes`, whose paths hold no variables, and `otherwise` for any other path or verb.

    Nothing of an `aiohttp.web.Application` is needed besides, whose resolver would cost a tenth of
    a short call. `options` are those of `web.Server`.
    """
    fixed: dict[tuple[str, str], Any] = {(route.method, route.path): route.handler for route in routes}

    async def dispatch(request: web.BaseRequest) -> web.StreamResponse:
        if hdrs.EXPECT in request.headers:
            await _expected(request)
        verb = "GET" if request.method == "HEAD" else request.method
        handler: Handler = fixed.get((verb, request.raw_path.partition("?")[0]), otherwise)
        return await handler(request)

    return web.Server(dispatch, **options)


async def _expected(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send the body (RFC 9110, 10.1.1)."""
    if request.version < (1, 1):
        return
    if request.headers[hdrs.EXPECT].lower() != "100-continue":
        raise web.HTTPExpectationFailed(text="only 100-continue can be expected")
    if request.can_read_body:
        await request.writer.write(_CONTINUE)
        # What was written is no part of the answer.
        request.writer.output_size = 0

"""/healthz says that the process runs; /readyz whether it can serve, and names what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

Check = Callable[[], Awaitable[None]]


class Health:
    """`checks` run together, each within `timeout` seconds."""

    def __init__(self, service: str, checks: Mapping[str, Check], *, timeout: float = 2.0) -> None:
        self._service = service
        self._checks = dict(checks)
        self._timeout = timeout
        # Set once everything runs; cleared first at the stop.
        self.serving = False

    async def healthz(self, request: web.BaseRequest) -> web.Response:
        return web.json_response({"service": self._service, "status": "ok"})

    async def readyz(self, request: web.BaseRequest) -> web.Response:
        failures = await self.failures()
        checks = {name: failures.get(name, "ok") for name in ("serving", *self._checks)}
        return web.json_response(
            {"service": self._service, "status": "failing" if failures else "ok", "checks": checks},
            status=503 if failures else 200,
        )

    async def failures(self) -> dict[str, str]:
        """What is wrong now, by check."""
        if not self.serving:
            return {"serving": "starting or stopping"}
        results = await asyncio.gather(*map(self._run, self._checks.values()))
        return {name: text for name, text in zip(self._checks, results, strict=True) if text}

    async def _run(self, check: Check) -> str:
        try:
            async with asyncio.timeout(self._timeout):
                await check()
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except Exception as error:
            # Whatever fails here is what the operator asked about.
            return str(error) or type(error).__name__
        return ""

"""Asking a process over HTTP whether it is ready."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import aiohttp

_SECONDS = 2.0


class Prober:
    """GETs paths that need no token. Close it, or use it as a context manager."""

    def __init__(self, *, tls_ca: str = "") -> None:
        context = ssl.create_default_context(cafile=tls_ca) if tls_ca else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, force_close=True),
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            # The proxy of the environment knows nothing of our ports.
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def problem(self, url: str, path: str = "/readyz") -> str:
        """ "" when it answers 200; otherwise why not, on one line."""
        try:
            async with self._session.get(url + path, allow_redirects=False) as answer:
                if answer.status == 200:
                    return ""
                text = " ".join((await answer.text(errors="replace")).split())
                return text[:200] or f"HTTP {answer.status}"
        except TimeoutError:
            return f"no answer within {_SECONDS:g} s"
        except aiohttp.ClientConnectorError as error:
            return f"nothing answers at {url} ({error.strerror or error})"
        except aiohttp.ClientError as error:
            return " ".join(str(error).split()) or type(error).__name__

    async def skew(self, url: str) -> float | None:
        """Seconds by which the clock there is ahead, to a second; None when it does not say."""
        try:
            async with self._session.get(f"{url}/healthz", allow_redirects=False) as answer:
                return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
        except (KeyError, ValueError, TimeoutError, aiohttp.ClientError):
            return None

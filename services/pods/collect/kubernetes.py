"""Kubernetes' API as a collector needs it: lists in pages and watches, over HTTP.

Objects stay JSON as they came: a cluster has tens of thousands, and of each we take a few fields.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import orjson

from services.pods.collect.mapping import Object, metadata
from services.pods.collect.resources import Resource
from services.pods.ndjson import Splitter
from shared.errors import (
    ApiError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

# Objects of one page, as kubectl asks for them.
PAGE: Final = 500
# Seconds after which the server is to end a watch, which then goes on with a new one: between these, so
# that a connection that died without a word is noticed, and not all of them go on at once.
WATCH_SECONDS: Final = (120, 240)
_CONNECT: Final = 10.0
_ANSWER: Final = 60.0
# What a watch may take to end beyond what it was told.
_GRACE: Final = 15.0
_BODY: Final = 4096


class Expired(OutOfRange):
    """410 Gone: what happened since then is forgotten; list anew."""


class Busy(Unavailable):
    """The server asks to be left alone for `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Event:
    """ADDED, MODIFIED or DELETED with the object, or BOOKMARK with its resourceVersion alone."""

    type: str
    object: Object

    @property
    def version(self) -> str:
        return metadata(self.object).get("resourceVersion") or ""


@dataclass(frozen=True, slots=True)
class Page:
    """`version`: of the list, the same on all its pages."""

    items: Sequence[Object]
    version: str


class KubernetesApi:
    """One cluster's. Its methods raise PermissionDenied naming what is missing, Unauthenticated,
    NotFound for a resource that the server does not have, Expired, and Unavailable for all that may
    pass."""

    def __init__(
        self,
        load: Callable[[], Awaitable[ApiClient]],
        *,
        page: int = PAGE,
        watch_seconds: tuple[int, int] = WATCH_SECONDS,
    ) -> None:
        """`load`: reads the credentials; asked again when the server refuses them, for they may be new."""
        self._load = load
        self.page = page
        self._watch_seconds = watch_seconds
        self._client: ApiClient | None = None
        self._refused: ApiClient | None = None
        self._loading = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for client in (self._client, self._refused):
            if client is not None:
                await client.close()
        self._client = self._refused = None

    async def get(self, path: str) -> Object:
        async with self._answer(path, (), aiohttp.ClientTimeout(total=_ANSWER)) as answer:
            return _object(await answer.read())

    async def pages(self, path: str, *, size: int = 0) -> AsyncGenerator[Page, None]:
        """All objects as of one moment, the newest there is. Raises Expired when the server forgets
        that moment before the last page: larger pages are faster then."""
        more = ""
        while True:
            # Without a resourceVersion: what the server has in its cache may be older than what we saw.
            params = [("limit", str(size or self.page)), *([("continue", more)] if more else [])]
            async with self._answer(path, params, aiohttp.ClientTimeout(total=_ANSWER)) as answer:
                found = _object(await answer.read())
            about = metadata(found)
            yield Page(found.get("items") or (), about.get("resourceVersion") or "")
            more = about.get("continue") or ""
            if not more:
                return

    async def watch(
        self, path: str, version: str, *, opened: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Event, None]:
        """What happens after `version`, until the server ends it, as it does every few minutes. An event
        that is cut off does not come. `opened` is called when the server has begun."""
        splitter = Splitter()
        async with self._watching(path, version) as answer:
            opened()
            async for chunk in answer.content.iter_any():
                for _, line in splitter.feed(chunk):
                    yield _event(line)

    async def may_watch(self, path: str, version: str) -> None:
        """Raises PermissionDenied when we may not."""
        async with self._watching(path, version):
            pass

    @asynccontextmanager
    async def _watching(self, path: str, version: str) -> AsyncIterator[aiohttp.ClientResponse]:
        seconds = random.randint(*self._watch_seconds)
        params = [
            ("watch", "1"),
            ("resourceVersion", version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(seconds)),
        ]
        timeout = aiohttp.ClientTimeout(total=seconds + _GRACE, sock_connect=_CONNECT)
        async with self._answer(path, params, timeout) as answer:
            yield answer

    @asynccontextmanager
    async def _answer(
        self, path: str, params: Sequence[tuple[str, str]], timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        client = await self._connected()
        answer = None
        try:
            answer = await _request(client, path, params, timeout)
            if answer.status == 401:
                answer.release()
                client = await self._renewed(client)
                answer = await _request(client, path, params, timeout)
            if answer.status != 200:
                raise _error(answer.status, await answer.content.read(_BODY), path, answer.headers)
            yield answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise Unavailable(f"no answer from {client.configuration.host}{path}: {why}") from error
        except InvalidArgument as error:
            raise Unavailable(f"{client.configuration.host}{path} answers nonsense: {error}") from error
        finally:
            if answer is not None:
                answer.close()

    async def _connected(self) -> ApiClient:
        """Raises FailedPrecondition when the credentials cannot be read."""
        async with self._loading:
            if self._client is None:
                self._client = await self._load()
            return self._client

    async def _renewed(self, refused: ApiClient) -> ApiClient:
        """A client with the credentials of now. Watches of the refused one go on until it is replaced
        once more."""
        async with self._loading:
            if self._client is refused:
                client = await self._load()
                if self._refused is not None:
                    await self._refused.close()
                self._client, self._refused = client, refused
        return await self._connected()


async def _request(
    client: ApiClient, path: str, params: Sequence[tuple[str, str]], timeout: aiohttp.ClientTimeout
) -> aiohttp.ClientResponse:
    return await client.call_api(
        path,
        "GET",
        query_params=list(params),
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
        _preload_content=False,
        _request_timeout=timeout,
    )


async def served(api: KubernetesApi, resource: Resource) -> str:
    """The path under which the server has a resource that we may list and watch; empty when it has none.
    Raises PermissionDenied and whatever else the API's methods do."""
    for path in resource.paths:
        try:
            async with aclosing(api.pages(path, size=1)) as pages:
                page = await anext(pages)
        except NotFound:
            continue
        await api.may_watch(path, page.version)
        return path
    return ""


def _object(body: bytes) -> Any:
    try:
        found = orjson.loads(body)
    except ValueError as error:
        raise Unavailable(f"an answer that is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Unavailable("an answer that is no object")
    return found


def _event(line: bytes) -> Event:
    """Raises what an ERROR event says."""
    found = _object(line)
    about = found.get("object") or {}
    if found.get("type") == "ERROR":
        raise _status(about.get("code") or 500, about.get("message") or "", "watch", {})
    return Event(found.get("type") or "", about)


def _error(status: int, body: bytes, path: str, headers: Any) -> ApiError:
    try:
        said = orjson.loads(body)
        message = said.get("message") if isinstance(said, dict) else ""
    except ValueError:
        message = body.decode(errors="replace").strip()
    return _status(status, message or "", path, headers)


def _status(code: int, message: str, where: str, headers: Any) -> ApiError:
    text = f"{where}: {code} {message[:500]}".rstrip()
    if code == 401:
        return Unauthenticated(f"the Kubernetes API does not accept the credentials: {text}")
    if code == 403:
        return PermissionDenied(f"the Kubernetes API forbids it: {text}")
    if code == 404:
        return NotFound(text)
    if code == 410:
        return Expired(text)
    if code == 429 or code >= 500:
        after = headers.get("Retry-After", "")
        return Busy(text, float(after) if after.isdecimal() else 0.0)
    return FailedPrecondition(f"the Kubernetes API refuses: {text}")

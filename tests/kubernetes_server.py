"""A Kubernetes API server for tests: HTTP, objects in versions as etcd keeps them, faults on request.

`tests/contract/test_kubernetes_server.py` holds it against the rules, and against a real kube-apiserver
where KUBE_APISERVER names one.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import web

from services.pods.collect.resources import ALL

TOKEN = "of-the-collector"
_Key = tuple[str, str, str]
_TYPE = ("kind", "apiVersion")
_PATHS = {resource.plural: resource.paths for resource in ALL}


def status(code: int, reason: str, message: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": more,
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


@dataclass
class Fault:
    """What happens to the next `times` requests for which `meant` holds: an answer with that status, or
    after so many bytes of the right one the end of the connection, or something before the answer."""

    meant: Callable[[web.Request], bool]
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    bytes: int | None = None
    before: Callable[[], Awaitable[None]] | None = None


@dataclass
class _Versions:
    """Of one object: its revisions, and what it was from then on; None when it was deleted."""

    found: list[tuple[int, dict[str, Any] | None]] = field(default_factory=list)

    def at(self, revision: int) -> dict[str, Any] | None:
        return next((body for number, body in reversed(self.found) if number <= revision), None)


class KubernetesServer:
    """Write by HTTP or by `create`, `change` and `delete`, which do the same."""

    def __init__(self) -> None:
        self.revision = 100
        self.compacted = 0
        self.port = 0
        self.tokens = {TOKEN}
        # (verb, plural) that nobody may.
        self.forbidden: set[tuple[str, str]] = set()
        # Seconds between bookmarks.
        self.bookmarks = 60.0
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._objects: dict[_Key, _Versions] = {}
        self._log: list[tuple[int, str, _Key, dict[str, Any]]] = []
        self._news = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._open: dict[int, web.Request] = {}
        self.create("namespaces", {"metadata": {"name": "kube-system"}})

    # -- the process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        """On the port that it had before."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            self.cut()
            await runner.cleanup()

    def cut(self) -> int:
        """Ends all connections that wait for an answer, or for more of it; says how many."""
        for request in (cut := list(self._open.values())):
            if request.transport is not None:
                request.transport.abort()
        return len(cut)

    @property
    def watches(self) -> int:
        return sum("watch" in request.query for request in self._open.values())

    # -- its content

    def compact(self) -> None:
        """Forgets what was before now, as etcd does every five minutes."""
        self.compacted = self.revision
        self._log = []
        for versions in self._objects.values():
            versions.found = versions.found[-1:]

    def objects(self, plural: str) -> list[dict[str, Any]]:
        return [body for _, body in self._at(plural, "", self.revision)]

    def create(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises KeyError when there is one already."""
        about = body.get("metadata", {})
        key = (plural, about.get("namespace", ""), about["name"])
        if self._current(key) is not None:
            raise KeyError(key)
        made = copy.deepcopy(body)
        made["metadata"].update(
            uid=about.get("uid") or str(uuid.uuid4()),
            creationTimestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        return self._write("ADDED", key, made)

    def change(self, plural: str, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        """A JSON merge patch. Raises KeyError when there is no such object."""
        key = (plural, namespace, name)
        found = self._current(key)
        if found is None:
            raise KeyError(key)
        merged = _merged(copy.deepcopy(found), patch)
        return found if merged == found else self._write("MODIFIED", key, merged)

    def delete(self, plural: str, namespace: str, name: str) -> dict[str, Any]:
        """Raises KeyError when there is no such object."""
        key = (plural, namespace, name)
        found = self._current(key)
        if found is None:
            raise KeyError(key)
        return self._write("DELETED", key, copy.deepcopy(found))

    def _current(self, key: _Key) -> dict[str, Any] | None:
        return self._objects.get(key, _Versions()).at(self.revision)

    def _write(self, event: str, key: _Key, body: dict[str, Any]) -> dict[str, Any]:
        self.revision += 1
        body["metadata"]["resourceVersion"] = str(self.revision)
        kept = None if event == "DELETED" else body
        self._objects.setdefault(key, _Versions()).found.append((self.revision, kept))
        self._log.append((self.revision, event, key, body))
        self._news.set()
        self._news = asyncio.Event()
        return body

    def _at(self, plural: str, namespace: str, revision: int) -> Iterator[tuple[_Key, dict[str, Any]]]:
        for key in sorted(self._objects):
            body = self._objects[key].at(revision)
            if key[0] == plural and namespace in ("", key[1]) and body is not None:
                yield key, body

    # -- HTTP

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        self._open[id(request)] = request
        try:
            return await self._answer(request)
        except ConnectionError:
            # Whoever asked has gone, or was cut off.
            return web.Response()
        finally:
            del self._open[id(request)]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _json(status(401, "Unauthorized", "Unauthorized"))
        fault = next((one for one in self.faults if one.times and one.meant(request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.before is not None:
                await fault.before()
            if fault.status:
                reason, text = "InternalError", f"as asked for: {fault.status}"
                return _json(status(fault.status, reason, text), headers=fault.headers)
        target = _target(request.path)
        if target is None:
            return web.Response(status=404, text="404 page not found\n")
        plural, namespace, name = target
        cut = None if fault is None else fault.bytes
        verb = _verb(request, name)
        if (verb, plural) in self.forbidden:
            return _json(_forbidden(verb, plural, request.path))
        try:
            if verb == "watch":
                return await self._watch(request, plural, namespace, cut)
            found = await self._do(verb, request, plural, namespace, name)
        except KeyError as error:
            exists = verb == "create"
            code, reason = (409, "AlreadyExists") if exists else (404, "NotFound")
            said = "already exists" if exists else "not found"
            return _json(status(code, reason, f'{plural} "{error.args[0][2]}" {said}'))
        if cut is None:
            return _json(found, code=201 if verb == "create" else 200)
        return await _cut_off(request, json.dumps(found).encode(), cut)

    async def _do(
        self, verb: str, request: web.Request, plural: str, namespace: str, name: str
    ) -> dict[str, Any]:
        if verb == "list":
            return self._list(request, plural, namespace)
        if verb == "create":
            body = await request.json()
            body.setdefault("metadata", {}).setdefault("namespace", namespace)
            if not namespace:
                del body["metadata"]["namespace"]
            # What a client says of an object's state does not count when it creates it.
            body.pop("status", None)
            return self.create(plural, body)
        if verb == "patch":
            return self.change(plural, namespace, name, await request.json())
        if verb == "delete":
            if plural == "pods":
                # Who runs it is told to end it, and does so at once.
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                self.change(plural, namespace, name, {"metadata": {"deletionTimestamp": now}})
            return self.delete(plural, namespace, name)
        found = self._current((plural, namespace, name))
        if found is None:
            raise KeyError((plural, namespace, name))
        return found

    def _list(self, request: web.Request, plural: str, namespace: str) -> dict[str, Any]:
        limit = int(request.query.get("limit", "0"))
        revision, after = self.revision, None
        if token := request.query.get("continue"):
            revision, *key = json.loads(base64.b64decode(token))
            after = tuple(key)
            if revision < self.compacted:
                text = "The provided continue parameter is too old to display a consistent list result."
                more = _continue(self.revision, after)
                return status(410, "Expired", text, **{"continue": more})
        found = [(key, body) for key, body in self._at(plural, namespace, revision)]
        left = [(key, body) for key, body in found if after is None or key > after]
        page = left[:limit] if limit else left
        about: dict[str, Any] = {"resourceVersion": str(revision)}
        if len(page) < len(left):
            about["continue"] = _continue(revision, page[-1][0])
            about["remainingItemCount"] = len(left) - len(page)
        return {
            "kind": f"{_kind(plural)}List",
            "apiVersion": "v1",
            "metadata": about,
            # In lists they do not say of which kind they are.
            "items": [{k: v for k, v in body.items() if k not in _TYPE} for _, body in page],
        }

    async def _watch(
        self, request: web.Request, plural: str, namespace: str, cut: int | None
    ) -> web.StreamResponse:
        after = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        sent = 0
        async for line in self._events(request, plural, namespace, after):
            if cut is not None and sent + len(line) > cut:
                await response.write(line[: cut - sent])
                assert request.transport is not None
                request.transport.close()
                break
            sent += len(line)
            await response.write(line)
        return response

    async def _events(
        self, request: web.Request, plural: str, namespace: str, after: int
    ) -> AsyncIterator[bytes]:
        if after < self.compacted:
            text = f"too old resource version: {after} ({self.compacted})"
            yield _line("ERROR", status(410, "Expired", text))
            return
        clock = asyncio.get_running_loop()
        end = clock.time() + float(request.query.get("timeoutSeconds", "1800"))
        wanted = request.query.get("allowWatchBookmarks") in ("1", "true")
        bookmark = min(clock.time() + self.bookmarks, max(clock.time(), end - 2))
        while clock.time() < end:
            news = self._news
            if after < self.compacted:
                # Too slow: what it was to get next is gone.
                yield _line("ERROR", status(410, "Expired", f"too old resource version: {after}"))
                return
            for revision, event, key, body in list(self._log):
                if revision > after:
                    after = revision
                    if key[0] == plural and namespace in ("", key[1]):
                        yield _line(event, body)
            due = min(end, bookmark) if wanted else end
            try:
                await asyncio.wait_for(news.wait(), max(0.0, due - clock.time()))
            except TimeoutError:
                if wanted and clock.time() >= bookmark:
                    bookmark = clock.time() + self.bookmarks
                    yield _line(
                        "BOOKMARK", {"kind": _kind(plural), "metadata": {"resourceVersion": str(after)}}
                    )


@asynccontextmanager
async def serving() -> AsyncIterator[KubernetesServer]:
    server = await KubernetesServer().start()
    try:
        yield server
    finally:
        await server.stop()


def kubeconfig(folder: Path, *, token: str = TOKEN, authority: str = "", **contexts: str) -> Path:
    """A file with a context for each URL; the first is the current one."""
    path = folder / "kubeconfig"
    trust = {"certificate-authority": authority} if authority else {}
    named = [{"name": name, "cluster": {"server": url, **trust}} for name, url in contexts.items()]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(contexts)),
        "clusters": named,
        "users": [{"name": "collector", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "collector"}} for name in contexts],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def _target(path: str) -> tuple[str, str, str] | None:
    """(plural, namespace, name) of a path; None when the server has no such thing."""
    namespace, parts = "", path.split("/")
    if ("namespaces" in parts[:-2] and parts[-1] != "status") or "namespaces" in parts[:-3]:
        at = parts.index("namespaces")
        namespace = parts[at + 1]
        del parts[at : at + 2]
    for plural, paths in _PATHS.items():
        known = paths[0].split("/")
        rest = parts[len(known) :]
        if parts[: len(known)] == known and (len(rest) < 2 or rest[1:] == ["status"]):
            return plural, namespace, rest[0] if rest else ""
    return None


def _verb(request: web.Request, name: str) -> str:
    if request.method != "GET":
        return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]
    if name:
        return "get"
    return "watch" if request.query.get("watch") in ("1", "true") else "list"


def _kind(plural: str) -> str:
    return next(resource.kind for resource in ALL if resource.plural == plural)


def _forbidden(verb: str, plural: str, path: str) -> dict[str, Any]:
    group = path.split("/")[2] if path.startswith("/apis/") else ""
    text = (
        f'{plural} is forbidden: User "collector" cannot {verb} resource "{plural}" '
        f'in API group "{group}" at the cluster scope'
    )
    return status(403, "Forbidden", text)


def _merged(into: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    found = into if isinstance(into, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key), value)
    return found


def _continue(revision: int, after: tuple[str, ...]) -> str:
    return base64.b64encode(json.dumps([revision, *after]).encode()).decode()


def _line(event: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"type": event, "object": body}).encode() + b"\n"


def _json(body: dict[str, Any], code: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    failed = body.get("kind") == "Status" and body.get("status") == "Failure"
    return web.json_response(body, status=body["code"] if failed else code, headers=headers)


async def _cut_off(request: web.Request, body: bytes, after: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(body[:after])
    assert request.transport is not None
    request.transport.close()
    return response

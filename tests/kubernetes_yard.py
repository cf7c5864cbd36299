"""A Kubernetes cluster as tests of the collector see it: objects that a real server takes, writes over
HTTP, and what the export has to say of it all, told independently of the collector."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from services.pods.collect.resources import ALL
from shared.pb.storage.pod_pb2 import Pod
from tests.kube_apiserver import ApiServer
from tests.kubernetes_server import TOKEN, KubernetesServer, serving

_CORE = ("Pod", "Namespace", "ReplicationController")
_PATHS = {resource.kind: resource.paths[0].rpartition("/") for resource in ALL}


def api_version(kind: str) -> str:
    if kind in _CORE:
        return "v1"
    return "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"


class Kube:
    """Calls a cluster's API. Raises aiohttp.ClientResponseError."""

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        server: KubernetesServer | None = None,
        real: ApiServer | None = None,
    ) -> None:
        self.url = url
        self.http = http
        self.real = real
        self._server = server

    @property
    def server(self) -> KubernetesServer:
        """Of the one that tests bring along."""
        assert self._server is not None
        return self._server

    async def call(self, verb: str, path: str, body: Any = None, **params: Any) -> Any:
        merge = {"Content-Type": "application/merge-patch+json"} if verb == "PATCH" else {}
        async with self.http.request(
            verb, self.url + path, json=body, params=params, headers=merge, raise_for_status=True
        ) as answer:
            return await answer.json()

    def path(self, kind: str, namespace: str = "", name: str = "", part: str = "") -> str:
        prefix, _, plural = _PATHS[kind]
        if kind == "CronJob" and self.real is not None:
            prefix = prefix.replace("v1", "v1beta1")
        spaced = f"namespaces/{namespace}/" if namespace else ""
        return "/".join(filter(None, (prefix, f"{spaced}{plural}", name, part)))

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Its status too, which has a request of its own."""
        kind, about = body["kind"], body["metadata"]
        path = self.path(kind, about.get("namespace", ""))
        if kind == "CronJob":
            body = {**body, "apiVersion": "/".join(path.split("/")[2:4])}
        found = await self.call("POST", path, body)
        if body.get("status"):
            found = await self.status(found, body["status"])
        return found

    async def status(self, of: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        return await self.call("PATCH", self.of(of, "status"), {"status": status})

    async def patch(self, of: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
        return await self.call("PATCH", self.of(of), patch)

    async def delete(self, of: dict[str, Any]) -> None:
        await self.call("DELETE", self.of(of), gracePeriodSeconds=0, propagationPolicy="Background")

    def of(self, found: dict[str, Any], part: str = "") -> str:
        about = found["metadata"]
        return self.path(found["kind"], about.get("namespace", ""), about["name"], part)

    async def objects(self, kind: str) -> list[dict[str, Any]]:
        items = (await self.call("GET", self.path(kind)))["items"]
        return [{"kind": kind, **one} for one in items]

    async def clear(self) -> None:
        """Deletes all but namespaces."""
        for kind in _PATHS:
            for one in await self.objects(kind) if kind != "Namespace" else ():
                await self.delete(one)


@asynccontextmanager
async def kube(real: ApiServer | None = None) -> AsyncIterator[Kube]:
    """A cluster with the namespace `shop` and nothing in it."""
    if real is not None:
        async with http(TOKEN, real.trust) as session:
            found = Kube(real.url, session, real=real)
            await found.clear()
            if all(one["metadata"]["name"] != "shop" for one in await found.objects("Namespace")):
                await found.create(namespace("shop"))
            yield found
        return
    async with serving() as server, http(TOKEN) as session:
        found = Kube(server.url, session, server)
        await found.create(namespace("shop"))
        yield found


def http(token: str, authority: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=authority) if authority else aiohttp.TCPConnector()
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, connector=connector)


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def owned(by: dict[str, Any], *, controller: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": api_version(by["kind"]),
            "kind": by["kind"],
            "name": by["metadata"]["name"],
            "uid": by["metadata"]["uid"],
            "controller": controller,
        }
    ]


def _meta(name: str, space: str, by: dict[str, Any] | None, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": space,
        "labels": labels,
        **({"ownerReferences": owned(by)} if by else {}),
    }


def _template(account: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "app", "image": "registry.example/app:1"}]}
    if account:
        spec["serviceAccountName"] = account
    return {"metadata": {"labels": {"app": "web"}}, "spec": spec}


def workload(
    kind: str, name: str, space: str, by: dict[str, Any] | None = None, **labels: str
) -> dict[str, Any]:
    """An owner of pods."""
    template, selector = _template("runner"), {"matchLabels": {"app": "web"}}
    spec: dict[str, Any] = {"selector": selector, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    elif kind in ("Job", "CronJob"):
        template["spec"]["restartPolicy"] = "Never"
        spec = {"template": template}
        if kind == "CronJob":
            spec = {"schedule": "0 0 * * *", "jobTemplate": {"spec": spec}}
    elif kind == "ReplicationController":
        spec["selector"] = {"app": "web"}
    return {
        "apiVersion": api_version(kind),
        "kind": kind,
        "metadata": _meta(name, space, by, labels),
        "spec": spec,
    }


def pod(name: str, space: str, by: dict[str, Any] | None = None, **labels: str) -> dict[str, Any]:
    """Without a state: nothing runs yet."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _meta(name, space, by, labels),
        "spec": {**_template()["spec"], "nodeName": f"node-{len(name) % 3}"},
    }


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def running(name: str, run: str = "1") -> dict[str, Any]:
    return _state(name, run, {"running": {"startedAt": "2024-05-01T10:00:00Z"}})


def ended(name: str, run: str = "1", code: int = 0) -> dict[str, Any]:
    state = {
        "startedAt": "2024-05-01T10:00:00Z",
        "finishedAt": "2024-05-01T11:00:00Z",
        "exitCode": code,
        "reason": "Error" if code else "Completed",
    }
    return _state(name, run, {"terminated": state})


def _state(name: str, run: str, state: dict[str, Any]) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": "registry.example/app:1",
        "imageID": f"docker-pullable://registry.example/app@{digest(name)}",
        "containerID": f"containerd://{digest(name + run)[7:]}",
        "ready": True,
        "restartCount": 0,
        "state": state,
    }
    return {"phase": "Running", "podIP": "10.1.2.3", "containerStatuses": [container]}


async def expected(kube: Kube, cluster: str) -> dict[str, dict[str, Any]]:
    """What the export has to show of each pod, by its id. Terminated instances aside: the service
    remembers those that a cluster has forgotten."""
    owners = {
        one["metadata"]["uid"]: one["metadata"].get("ownerReferences", [])
        for kind in ("ReplicaSet", "Job")
        for one in await kube.objects(kind)
    }
    found = {}
    for one in await kube.objects("Pod"):
        about, uid = one["metadata"], one["metadata"]["uid"]
        top = uid
        for reference in about.get("ownerReferences", []):
            top = reference["uid"]
            if reference["kind"] in ("ReplicaSet", "Job"):
                assert top in owners, "delete owners after their pods"
                top = owners[top][0]["uid"] if owners[top] else top
        id = str(uuid.uuid5(uuid.UUID("32581326-b68f-49f5-a8a2-83853cac8813"), uid))
        found[id] = {
            "name": about["name"],
            "namespace": about["namespace"],
            "deployment": top,
            "cluster": cluster,
            "containers": [
                container["containerID"].split("//")[1]
                for container in one.get("status", {}).get("containerStatuses", [])
                if "terminated" not in container["state"]
            ],
            "digests": [
                re.findall("sha256:.*", container["imageID"])[0]
                for container in one.get("status", {}).get("containerStatuses", [])
                if "terminated" not in container["state"]
            ],
        }
    return found


def shown(pods: Iterable[Pod]) -> dict[str, dict[str, Any]]:
    """The same of pods of an export. Raises AssertionError when one is there twice."""
    found: dict[str, dict[str, Any]] = {}
    for one in pods:
        assert one.id not in found
        found[one.id] = {
            "name": one.name,
            "namespace": one.namespace,
            "deployment": one.deployment_id,
            "cluster": one.cluster_id,
            "containers": [instance.instance_id.id for instance in one.live_instances],
            "digests": [instance.image_digest for instance in one.live_instances],
        }
    return found


async def eventually(check: Any, *, patience: float = 60.0) -> Any:
    """The first true answer of an async function, which is asked until the patience ends."""
    answer = None
    try:
        async with asyncio.timeout(patience):
            while not (answer := await check()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {check}") from None
    return answer


class Proxy:
    """Stands between a client and a server and cuts what they say, wherever it is."""

    def __init__(self, url: str) -> None:
        self._scheme, _, address = url.partition("://")
        self._host, _, self._port = address.partition(":")
        self._open: set[asyncio.StreamWriter] = set()
        self._left: int | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def cut(self) -> None:
        for one in self._open:
            one.transport.abort()

    def cut_after(self, count: int | None) -> None:
        """Once the server has said so many bytes more; None is never."""
        self._left = count

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(self._host, int(self._port))
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_server}
        self._open |= both
        try:
            await asyncio.gather(
                self._pump(reader, to_server, counted=False), self._pump(from_server, writer, counted=True)
            )
        except OSError:
            pass
        finally:
            self._open -= both
            for one in both:
                one.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        while data := await reader.read(1 << 16):
            if counted and self._left is not None and len(data) > self._left:
                data, self._left = data[: self._left], None
                writer.write(data)
                await writer.drain()
                break
            if counted and self._left is not None:
                self._left -= len(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy
        server.close()
        proxy.cut()

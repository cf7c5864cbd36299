"""Requests of the meta service that several measurements make."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final
from urllib.parse import urlencode

import orjson

from bench import client, meta_seed
from bench.processes import Server
from services.meta import page_tokens
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import region_service_pb2
from shared.query import page_token
from shared.query.page_token import Cursor

PAGE: Final = 50
PATH: Final = "/v1alpha2/regions"
SERVICE: Final = f"/{region_service_pb2.DESCRIPTOR.package}.RegionService"
LIST: Final = f"{SERVICE}/ListRegions"
WATCH: Final = f"{SERVICE}/WatchRegions"
APPLY: Final = "/roundhouse.admin.v1.AdminService/Apply"
_CONNECTIONS: Final = 16
# Pages of 540 KB as JSON and as bytes together, in which the region stands that `write` changes.
_LONG: Final = 900
_LONG_PAGES: Final = 16
_writes = count()


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def pages(server: Server, token: str, tokens: Sequence[str], order: str) -> None:
    """The page behind each of `tokens` over REST. Raises BadAnswer."""
    headers = _headers(token)
    requests = [
        client.get(f"{PATH}?{urlencode({'page_size': PAGE, 'order_by': order, 'page_token': at})}", headers)
        for at in tokens
    ]
    client.send(server.ports["http"], requests, _CONNECTIONS)


def write(server: Server, token: str) -> None:
    """One change, after which nothing that was remembered holds."""
    manifest = f"regions:\n- name: regions/written\n  title: Written {next(_writes)}\n"
    request = client.post("/admin/v1/apply", _headers(token), {"manifest": manifest})
    client.send(server.ports["http"], [request], 1)


def forget(server: Server, token: str) -> None:
    """One change, and answers that push all others out of what is remembered as JSON: 8 MiB."""
    write(server, token)
    for size in range(_LONG, _LONG + _LONG_PAGES):
        query = urlencode({"page_size": size, "order_by": "name desc"})
        client.fetch(server.ports["http"], client.get(f"{PATH}?{query}", _headers(token)))


def tokens(server: Server, token: str, order: str, numbers: Iterable[int], total: int) -> list[str]:
    """For each number the token of the page behind that region, in an order by name or by title: one
    that the server made, moved to another row, for walking to the middle of a million takes long."""
    query = urlencode({"page_size": 1, "order_by": order})
    answer = orjson.loads(client.fetch(server.ports["http"], client.get(f"{PATH}?{query}", _headers(token))))
    made = base64.b64decode(answer["nextPageToken"].rpartition(":")[2]).decode()
    fingerprint = page_token.decode(made, frozenset({"k", "n", "q"}))["q"]
    by_title = order.startswith("title")
    return [
        page_tokens.encode(
            Cursor((meta_seed.title(n, total),) if by_title else (), meta_seed.name(n)), fingerprint
        )
        for n in numbers
    ]

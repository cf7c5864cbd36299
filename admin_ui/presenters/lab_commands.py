"""What a lab's pages do, in a terminal: jmp, curl, grpcurl and roundhouse."""

from __future__ import annotations

import json
import shlex
from typing import Any, Final

from admin_ui.catalogue import CatalogueKind
from admin_ui.clients import Endpoint
from admin_ui.lab_kinds import CLIENT, EXPORTER, LEASE, id_of, namespace_of
from admin_ui.presenters import commands
from admin_ui.presenters.commands import Snippet
from shared.pb.roundhouse.lab.v1 import lab_service_pb2 as pb

CLIENT_SERVICE: Final = "jumpstarter.client.v1.ClientService"
LAB_SERVICE: Final = "roundhouse.lab.v1.LabService"
HOUR: Final = "1h"


def jmp(*words: str) -> str:
    return shlex.join(("jmp", *words))


def for_board(endpoint: Endpoint, request: pb.ListBoardRequest) -> list[Snippet]:
    """`request`: what the page asks."""
    chosen = ("-l", request.filter) if request.filter else ()
    url = f"{commands.rest(endpoint)}/v1/{request.parent}/exporters"
    return [
        Snippet(
            "jmp", jmp("get", "exporters", *chosen, "--with", "leases,online,status", "--allow-disabled")
        ),
        Snippet("curl", commands.curl(url, {"filter": request.filter} if request.filter else None)),
        Snippet("grpcurl", commands.grpcurl(endpoint, f"{LAB_SERVICE}/ListBoard", _said(request))),
        _roundhouse_list(EXPORTER.kind, request.parent),
    ]


def for_leases(endpoint: Endpoint, request: pb.ListLeasesRequest) -> list[Snippet]:
    words = ["get", "leases", "-A", *([] if request.only_active else ["-a"])]
    given: dict[str, Any] = {} if request.only_active else {"onlyActive": False}
    for option, parameter, text in (
        ("-l", "filter", request.filter),
        ("--tag-filter", "tagFilter", request.tag_filter),
    ):
        if text:
            words += [option, text]
            given[parameter] = text
    url = f"{commands.rest(endpoint)}/v1/{request.parent}/leases"
    return [
        Snippet("jmp", jmp(*words)),
        Snippet("curl", commands.curl(url, given)),
        Snippet("grpcurl", commands.grpcurl(endpoint, f"{LAB_SERVICE}/ListLeases", _said(request))),
        _roundhouse_list(LEASE.kind, request.parent),
    ]


def for_kind(kind: CatalogueKind, parent: str) -> list[Snippet]:
    """A list of clients or access policies."""
    return [
        _roundhouse_list(kind.kind, parent),
        Snippet("roundhouse · all as a manifest", commands.roundhouse("export")),
    ]


def for_one(endpoint: Endpoint, kind: CatalogueKind, name: str) -> list[Snippet]:
    own = {EXPORTER.kind: _exporter, LEASE.kind: _lease, CLIENT.kind: _client}.get(kind.kind)
    stored = [
        Snippet("roundhouse", commands.roundhouse("get", kind.kind, name, "-o", "yaml")),
        Snippet("roundhouse · history", commands.roundhouse("history", kind.kind, name)),
    ]
    if kind is not LEASE:
        stored.append(Snippet("roundhouse · delete", commands.roundhouse("delete", kind.kind, name)))
    return [*(own(endpoint, name) if own else []), *stored]


def for_new_lease(endpoint: Endpoint, namespace: str, *, exporter: str, selector: str) -> list[Snippet]:
    """`exporter` is an id; one of both may be empty."""
    wanted = [
        *(["-n", exporter] if exporter else []),
        *(["-l", selector] if selector or not exporter else []),
    ]
    body: dict[str, Any] = {"duration": "3600s"}
    body |= {"exporterName": exporter} if exporter else {}
    body |= {"selector": selector} if selector else {}
    url = f"{commands.rest(endpoint)}/v1/namespaces/{namespace}/leases"
    return [
        Snippet("jmp", jmp("create", "lease", *wanted, "--duration", HOUR)),
        Snippet("jmp · at once, for one command", jmp("shell", *wanted, "--", "j", "power", "on")),
        Snippet("curl", commands.curl(url, options=f"-X POST -d {shlex.quote(json.dumps(body))}")),
    ]


def for_new(kind: CatalogueKind, namespace: str) -> list[Snippet]:
    """Something new of that kind, and the file that connects it."""
    name = f"namespaces/{namespace}/{kind.plural}/NAME"
    made = f"roundhouse apply -f - <<'EOF'\n{kind.plural}:\n- name: {name}\n  labels: {{KEY: VALUE}}\nEOF"
    fetch = commands.roundhouse("jumpstarter", "config", kind.kind, f"{namespace}/NAME")
    return [Snippet("roundhouse", made), Snippet("roundhouse · its file for jmp", fetch)]


def for_config(kind: CatalogueKind, name: str) -> list[Snippet]:
    """What to do with the file that jmp reads."""
    id, place = id_of(name), f"{namespace_of(name)}/{id_of(name)}"
    folder = f"~/.config/jumpstarter/{kind.plural}"
    fetch = commands.roundhouse("jumpstarter", "config", kind.kind, place)
    stored = f"mkdir -p {folder} && {fetch} > {folder}/{shlex.quote(id)}.yaml"
    if kind is EXPORTER:
        use = [
            Snippet("jmp · serve its devices", jmp("run", "--exporter", id)),
            Snippet("jmp · from a file anywhere", jmp("run", "--exporter-config", f"{id}.yaml")),
        ]
    else:
        use = [
            Snippet("jmp · look around", jmp("get", "exporters", "--client", id)),
            Snippet("jmp · lease and use", jmp("shell", "--client", id, "-l", "board=…")),
        ]
    return [Snippet("roundhouse · the same file again", stored), *use]


def _exporter(endpoint: Endpoint, name: str) -> list[Snippet]:
    id, namespace = id_of(name), namespace_of(name)
    return [
        Snippet("jmp · lease it", jmp("create", "lease", "-n", id, "--duration", HOUR)),
        Snippet("jmp · lease it and use it", jmp("shell", "-n", id, "--", "j", "--help")),
        Snippet("jmp · serve it, at the bench", jmp("run", "--exporter", id)),
        Snippet("curl", commands.curl(f"{commands.rest(endpoint)}/v1/{name}")),
        Snippet("grpcurl", commands.grpcurl(endpoint, f"{CLIENT_SERVICE}/GetExporter", {"name": name})),
        Snippet(
            "roundhouse · its file for jmp",
            commands.roundhouse("jumpstarter", "config", "exporter", f"{namespace}/{id}"),
        ),
    ]


def _lease(endpoint: Endpoint, name: str) -> list[Snippet]:
    id, url = id_of(name), f"{commands.rest(endpoint)}/v1/{name}"
    longer = shlex.quote(json.dumps({"duration": "7200s"}))
    return [
        Snippet("jmp · use it", jmp("shell", "--lease", id)),
        Snippet("jmp · two hours in all", jmp("update", "lease", id, "--duration", "2h")),
        Snippet("jmp · hand it over", jmp("update", "lease", id, "--to-client", "CLIENT")),
        Snippet("jmp · release it", jmp("delete", "leases", id)),
        Snippet("curl", commands.curl(url)),
        Snippet("curl · two hours in all", commands.curl(url, options=f"-X PATCH -d {longer}")),
        Snippet("curl · release it", commands.curl(url, options="-X DELETE")),
        Snippet("grpcurl", commands.grpcurl(endpoint, f"{CLIENT_SERVICE}/GetLease", {"name": name})),
    ]


def _client(endpoint: Endpoint, name: str) -> list[Snippet]:
    place = f"{namespace_of(name)}/{id_of(name)}"
    return [
        Snippet("jmp", jmp("get", "leases", "--client", id_of(name))),
        Snippet(
            "roundhouse · its file for jmp", commands.roundhouse("jumpstarter", "config", "client", place)
        ),
        Snippet("roundhouse · a token alone", commands.roundhouse("token", "jumpstarter", "client", place)),
    ]


def _roundhouse_list(kind: str, parent: str) -> Snippet:
    filter = f'namespace = "{parent.rpartition("/")[2]}"'
    return Snippet("roundhouse", commands.roundhouse("list", kind, "--filter", filter))


def _said(request: Any) -> dict[str, Any]:
    return commands.fields(request)

"""Regions, services, resources and deployments as rows and pages show them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from admin_ui.catalogue import CatalogueKind, short
from admin_ui.clients import Endpoint
from admin_ui.presenters import commands, moments
from admin_ui.presenters.commands import Snippet
from shared.pb.goten_sdk.types import meta_pb2

_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_/-]*")
LOCATION: Final = ("continent", "country", "agglomeration", "city", "cloud")


@dataclass(frozen=True, slots=True)
class Label:
    """`query`: the query string of the list of everything that has it."""

    key: str
    value: str
    query: str


@dataclass(frozen=True, slots=True)
class Metadata:
    created: datetime | None
    updated: datetime | None
    uuid: str
    generation: int
    resource_version: str
    state: str
    labels: tuple[Label, ...]
    annotations: tuple[tuple[str, str], ...]
    tags: tuple[Label, ...]
    # What has no form of its own, as label and text.
    others: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Thing:
    """Any of the four: `one.fields` are the message itself, for what is shown as it is."""

    kind: CatalogueKind
    name: str
    id: str
    # What people call it; the id when it has no title.
    title: str
    # The name of what it belongs to; empty at the top.
    parent: str
    fields: Any
    meta: Metadata

    @property
    def parent_id(self) -> str:
        return short(self.parent)

    @property
    def place(self) -> tuple[str, ...]:
        """Of a region, from the continent down; what is not known is left out."""
        where = self.fields.location
        return tuple(filter(None, (getattr(where, part) for part in LOCATION[:-1])))


def thing(kind: CatalogueKind, message: Any) -> Thing:
    parts = message.name.split("/")
    title = {"region": "title", "service": "display_name"}.get(kind.kind, "")
    return Thing(
        kind=kind,
        name=message.name,
        id=parts[-1],
        title=(getattr(message, title) if title else "") or parts[-1],
        parent="/".join(parts[:-2]),
        fields=message,
        meta=metadata(message.metadata)
        if "metadata" in message.DESCRIPTOR.fields_by_name
        else _plain(message),
    )


def metadata(found: meta_pb2.Meta) -> Metadata:
    return Metadata(
        created=moments.from_timestamp(found.create_time),
        updated=moments.from_timestamp(found.update_time),
        uuid=found.uuid,
        generation=found.generation,
        resource_version=found.resource_version,
        state=meta_pb2.Lifecycle.State.Name(found.lifecycle.state) if found.HasField("lifecycle") else "",
        labels=tuple(
            Label(key, value, _query(label_filter(key, value))) for key, value in sorted(found.labels.items())
        ),
        annotations=tuple(sorted(found.annotations.items())),
        tags=tuple(Label("", tag, _query(f"metadata.tags CONTAINS {_quoted(tag)}")) for tag in found.tags),
        others=tuple(_others(found)),
    )


def _plain(message: Any) -> Metadata:
    """Of a message without a goten.types.Meta."""
    created, uuid = moments.from_timestamp(message.create_time), getattr(message, "uid", "")
    return Metadata(created, None, uuid, 0, "", "", (), (), (), ())


def _others(found: meta_pb2.Meta) -> Sequence[tuple[str, str]]:
    told = []
    for owner in found.owner_references:
        told.append(("Owner", f"{owner.kind} {owner.name}{' (controller)' if owner.controller else ''}"))
    if found.shards:
        told.append(("Shards", ", ".join(f"{key}: {value}" for key, value in sorted(found.shards.items()))))
    if found.syncing.owning_region:
        told.append(("Owning region", found.syncing.owning_region))
    if found.syncing.regions:
        told.append(("Synced to", ", ".join(found.syncing.regions)))
    if found.services.owning_service:
        told.append(("Owning service", found.services.owning_service))
    if found.services.allowed_services:
        told.append(("Allowed services", ", ".join(found.services.allowed_services)))
    return told


def label_filter(key: str, value: str) -> str:
    """The filter for one label. A key that is no path of the language is looked for in the map."""
    if all(_KEY.fullmatch(part) for part in key.split(".")):
        path = key.replace(".", "\\.")
        return f"metadata.labels.{path} = {_quoted(value)}"
    return f"metadata.labels CONTAINS {{{_quoted(key)}: {_quoted(value)}}}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _query(filter: str) -> str:
    return f"?{urlencode({'filter': filter})}"


# --- the same in a terminal ---------------------------------------------------------------------


def commands_for_one(endpoint: Endpoint, kind: CatalogueKind, name: str) -> list[Snippet]:
    url = f"{commands.rest(endpoint)}/v1alpha2/{name}"
    return [
        Snippet("curl", commands.curl(url)),
        Snippet("curl · watch", commands.curl(f"{url}:watch", options="-N -X POST")),
        Snippet("grpcurl", commands.grpcurl(endpoint, f"{kind.service}/Get{kind.title}", {"name": name})),
        Snippet("roundhouse", commands.roundhouse("get", kind.kind, name, "-o", "yaml")),
        Snippet("roundhouse · delete", commands.roundhouse("delete", kind.kind, name)),
    ]


def commands_for_list(endpoint: Endpoint, kind: CatalogueKind, request: Any) -> list[Snippet]:
    given = commands.fields(request)
    parent = f"{given.pop('parent')}/" if kind.parent else ""
    url = f"{commands.rest(endpoint)}/v1alpha2/{parent}{kind.plural}"
    watched: Mapping[str, Any] = {key: given[key] for key in ("filter",) if key in given}
    words = ["list", kind.kind]
    for option, field in (("--filter", "filter"), ("--order-by", "order_by")):
        if field in given:
            words += [option, given[field]]
    method = f"{kind.service}/List{kind.titles}"
    found = [
        Snippet("curl", commands.curl(url, given)),
        Snippet(
            "curl · watch",
            commands.curl(
                commands.query(f"{url}:watch", {"type": "STATELESS", **watched}), options="-N -X POST"
            ),
        ),
        Snippet("grpcurl", commands.grpcurl(endpoint, method, commands.fields(request))),
    ]
    if parent in ("", f"{kind.parent}s/-/"):
        found.append(Snippet("roundhouse", commands.roundhouse(*words)))
    return found


def commands_for_apply(endpoint: Endpoint, *, prune: bool) -> list[Snippet]:
    words = ["apply", "-f", "manifest.yaml", *(["--prune"] if prune else [])]
    body = f"jq -Rs '{{manifest: ., prune: {json.dumps(prune)}}}' manifest.yaml"
    send = commands.curl(f"{commands.rest(endpoint)}/admin/v1/apply", options="-d @-")
    return [
        Snippet("roundhouse · look first", commands.roundhouse(*words, "--dry-run")),
        Snippet("roundhouse", commands.roundhouse(*words)),
        Snippet("curl", f"{body} | {send}"),
    ]

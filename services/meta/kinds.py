"""The four kinds of the catalogue: fields, views, indexes and rules of writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from services.meta.names import DEPLOYMENT, REGION, RESOURCE, SERVICE, NamePattern, parent_of
from shared.errors import Violation
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import deployment_pb2, region_pb2, resource_pb2, service_pb2
from shared.pb.goten_sdk.types import meta_pb2, view_pb2
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish import Sqlish
from shared.resource import field_mask
from shared.resource.definition import Definition, Lookup, Strategy
from shared.resource.projection import Views
from shared.storage.port import Store

MAX_BYTES: Final = 32 * 1024
_CREATED: Final = "metadata.create_time"
# The server's own, of metadata.
_OUTPUT_ONLY: Final = (
    "create_time",
    "update_time",
    "delete_time",
    "uuid",
    "generation",
    "resource_version",
    "lifecycle",
)
_ALL: Final = frozenset({view_pb2.UNSPECIFIED, view_pb2.BASIC, view_pb2.DETAIL})


@dataclass(frozen=True)
class MetaKind:
    """One type of the API: `title` is X in GetX, `collection` the xs of ListXs."""

    title: str
    kind: str
    collection: str
    message: type[Message]
    pattern: NamePattern
    # Paths of names and references -> their forms.
    names: Mapping[str, NamePattern]
    indexed: tuple[str, ...]
    views: Views
    parent: NamePattern | None = None

    @property
    def schema(self) -> DescriptorSchema:
        return _SCHEMAS[self.kind]

    @property
    def dialect(self) -> Sqlish:
        return _DIALECTS[self.kind]


def _views(*names: str) -> Views:
    everything: dict[int, tuple[str, ...] | None] = dict.fromkeys(view_pb2.View.values())
    return Views({**everything, view_pb2.NAME: names}, masked=_ALL)


REGIONS: Final = MetaKind(
    "Region",
    "region",
    "regions",
    region_pb2.Region,
    REGION,
    {"name": REGION, "connectivity_scores.dest": REGION},
    ("title", "domain", _CREATED, "metadata.update_time"),
    _views("name"),
)
DEPLOYMENTS: Final = MetaKind(
    "Deployment",
    "deployment",
    "deployments",
    deployment_pb2.Deployment,
    DEPLOYMENT,
    {"name": DEPLOYMENT, "service": SERVICE},
    ("service", _CREATED, "metadata.update_time"),
    _views("name"),
    parent=REGION,
)
SERVICES: Final = MetaKind(
    "Service",
    "service",
    "services",
    service_pb2.Service,
    SERVICE,
    {"name": SERVICE},
    ("display_name", "current_version", _CREATED, "metadata.update_time"),
    _views("name", "display_name"),
)
RESOURCES: Final = MetaKind(
    "Resource",
    "resource",
    "resources",
    resource_pb2.Resource,
    RESOURCE,
    {"name": RESOURCE},
    ("plural_name", "fqn", _CREATED, "metadata.update_time"),
    _views("name"),
    parent=SERVICE,
)
KINDS: Final = (REGIONS, DEPLOYMENTS, SERVICES, RESOURCES)
_SCHEMAS: Final = {
    k.kind: DescriptorSchema(k.message.DESCRIPTOR, names=k.names, indexed=k.indexed) for k in KINDS
}
_DIALECTS: Final = {k.kind: Sqlish(_SCHEMAS[k.kind]) for k in KINDS}


class CatalogueRules(Strategy[Any]):
    """What all four kinds share (meta contract, section 14)."""

    related = True

    def __init__(self, kind: MetaKind, clock: Callable[[], int], new_id: Callable[[], str]) -> None:
        self._kind = kind
        self._clock = clock
        self._new_id = new_id

    def prepare(self, new: Any, old: Any | None) -> None:
        metadata: meta_pb2.Meta = new.metadata
        if self._kind is RESOURCES and not new.fqn:
            new.fqn = _fqn(new.name)
        if old is None:
            now = self._clock()
            metadata.create_time.FromNanoseconds(now)
            metadata.update_time.FromNanoseconds(now)
            metadata.uuid = self._new_id()
            metadata.generation = 1
            metadata.resource_version = self._new_id()
            metadata.lifecycle.state = meta_pb2.Lifecycle.ACTIVE
            return
        for name in _OUTPUT_ONLY:
            field_mask.merge(old.metadata, metadata, [name])
        changed = field_mask.differences(old, new)
        if changed:
            metadata.update_time.FromNanoseconds(self._clock())
            metadata.resource_version = self._new_id()
            metadata.generation += any(path.split(".")[0] != "metadata" for path in changed)

    def submitted(self, item: Any) -> Iterable[Violation]:
        for name in _OUTPUT_ONLY:
            field = item.metadata.DESCRIPTOR.fields_by_name[name]
            if item.metadata.HasField(name) if field.has_presence else getattr(item.metadata, name):
                yield Violation(f"metadata.{name}", "is set by the server; leave it out")

    def validate(self, new: Any, old: Any | None) -> Sequence[Violation]:
        return [Violation(field, text) for field, text in self._wrong(new) if text]

    def _wrong(self, new: Any) -> Iterable[tuple[str, str]]:
        yield "name", self._kind.pattern.storable(new.name)
        if new.ByteSize() > MAX_BYTES:
            yield "", f"takes {new.ByteSize()} bytes; at most {MAX_BYTES} are allowed"
        for path, pattern, value in self._references(new):
            yield path, pattern.storable(value)
        if self._kind is SERVICES:
            yield from _versions(new)
        if self._kind is RESOURCES and new.fqn and new.fqn != _fqn(new.name):
            yield "fqn", f"must be empty or {_fqn(new.name)!r}"

    def _references(self, new: Any) -> Iterable[tuple[str, NamePattern, str]]:
        if self._kind is DEPLOYMENTS:
            yield "service", SERVICE, new.service
        if self._kind is REGIONS:
            for index, entry in enumerate(new.connectivity_scores):
                yield f"connectivity_scores[{index}].dest", REGION, entry.dest

    def claims(self, resource: Any) -> Iterable[str]:
        if self._kind is REGIONS and resource.is_default:
            yield "region/default"

    def taken(self, claim: str, resource: Any) -> str:
        return "another region is the default one; at most one may be"

    async def locate(self, item: Any, store: Store) -> str:
        return str(item.name)

    # -- what must hold between resources once everything is applied

    async def relations(self, new: Any, after: Lookup) -> Sequence[Violation]:
        found: list[Violation] = []
        if self._kind.parent is not None:
            parent = parent_of(new.name)
            if self._kind.parent.qualified(parent) and await after(_kind_of(parent), parent) is None:
                found.append(Violation("name", f"its parent {parent} does not exist"))
        for path, pattern, value in self._references(new):
            if pattern.qualified(value) and await after(_kind_of(value), value) is None:
                found.append(Violation(path, f"{value} does not exist"))
        return found


def definition(kind: MetaKind, rules: CatalogueRules) -> Definition[Any]:
    return Definition(
        kind=kind.kind,
        plural=kind.collection,
        message=kind.message,
        name=lambda message: message.name,
        parent=lambda message: parent_of(message.name),
        schema=kind.schema,
        parse_filter=kind.dialect.parse,
        strategy=rules,
        # Times need none: what was written one after the other stands so in a file.
        covering=tuple(index.name for index in kind.schema.indexes() if index.type == "text"),
    )


def _versions(new: Any) -> Iterable[tuple[str, str]]:
    versions = list(new.all_versions)
    if len(set(versions)) != len(versions):
        yield "all_versions", "names a version twice"
    if new.current_version not in versions:
        yield "current_version", f"{new.current_version!r} is not among all_versions"


def _fqn(name: str) -> str:
    parts = name.split("/")
    return f"{parts[1]}/{parts[3]}" if len(parts) == 4 else ""


def _kind_of(name: str) -> str:
    """The kind that a well-formed name is of."""
    collection = name.split("/")[-2] if name.count("/") else ""
    return {kind.collection: kind.kind for kind in KINDS}.get(collection, "")

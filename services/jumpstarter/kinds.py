"""What the lab stores: fields, indexes and rules of writing (docs/apis/jumpstarter.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from services.jumpstarter import names, selectors
from services.jumpstarter.names import CLIENTS, EXPORTERS, LEASES, POLICIES, Collection
from shared.errors import FailedPrecondition, InvalidArgument, Violation
from shared.pb.roundhouse.lab.v1 import lab_pb2 as pb
from shared.query.descriptor_schema import DescriptorSchema
from shared.query.dialects.sqlish import Sqlish
from shared.query.labels import key_fault, value_fault
from shared.resource.definition import Definition, Strategy
from shared.service.service import Clock, NewId
from shared.storage.port import Check, Condition, Kind, Query, Store

# Labels under it are what the exporter says of itself.
OWN_PREFIX: Final = "jumpstarter.dev/"
NEVER_SEEN: Final = "Never seen"
MAX_LABELS: Final = 64
MAX_RULES: Final = 100

EXPORTER: Final = "exporter"
CLIENT: Final = "client"
ACCESS_POLICY: Final = "access_policy"
LEASE: Final = "lease"
CONTROLLER: Final = Kind("controller")
LISTENER: Final = Kind("listener")
DIAL: Final = Kind("dial")


def label_faults(labels: Mapping[str, str], path: str) -> Iterable[Violation]:
    """What is wrong with labels, by the rules of Kubernetes."""
    if len(labels) > MAX_LABELS:
        yield Violation(path, f"has {len(labels)} entries; at most {MAX_LABELS} are allowed")
        return
    for key, value in labels.items():
        for fault in filter(None, (key_fault(key), value_fault(value))):
            yield Violation(f"{path}[{key[:300]!r}]", fault)


class _Rules(Strategy[Any]):
    """What exporters, clients and access policies share: a name, and fields of the server's own."""

    def __init__(self, collection: Collection, own: Sequence[str], clock: Clock, new_id: NewId) -> None:
        self._collection = collection
        self._own = own
        self._clock = clock
        self._new_id = new_id

    def prepare(self, new: Any, old: Any | None) -> None:
        for field in self._own:
            new.ClearField(field)
        if old is not None:
            for field in self._own:
                value = getattr(old, field)
                descriptor = new.DESCRIPTOR.fields_by_name[field]
                if descriptor.is_repeated or descriptor.message_type is not None:
                    if value if descriptor.is_repeated else old.HasField(field):
                        getattr(new, field).MergeFrom(value)
                else:
                    setattr(new, field, value)
            return
        new.namespace = names.namespace_of(new.name) if self._collection.pattern.matches(new.name) else ""
        new.create_time.FromNanoseconds(self._clock())

    def submitted(self, item: Any) -> Iterable[Violation]:
        for field in self._own:
            descriptor = item.DESCRIPTOR.fields_by_name[field]
            if item.HasField(field) if descriptor.has_presence else getattr(item, field):
                yield Violation(field, "is set by the server; leave it out")

    def validate(self, new: Any, old: Any | None) -> Sequence[Violation]:
        try:
            self._collection.parse(new.name)
        except InvalidArgument as error:
            return error.violations
        return list(self._faults(new))

    def _faults(self, new: Any) -> Iterable[Violation]:
        return label_faults(new.labels, "labels")

    async def locate(self, item: Any, store: Store) -> str:
        return str(item.name)


class ExporterRules(_Rules):
    """An exporter's own labels stay what it registered."""

    def __init__(self, clock: Clock, new_id: NewId) -> None:
        super().__init__(
            EXPORTERS, [f.name for f in pb.Exporter.DESCRIPTOR.fields if f.number >= 10], clock, new_id
        )

    def prepare(self, new: pb.Exporter, old: pb.Exporter | None) -> None:
        super().prepare(new, old)
        for key in [key for key in new.labels if key.startswith(OWN_PREFIX)]:
            del new.labels[key]
        if old is None:
            new.uid = self._new_id()
            new.status_message = NEVER_SEEN
            return
        for key, value in old.labels.items():
            if key.startswith(OWN_PREFIX):
                new.labels[key] = value

    def submitted(self, item: pb.Exporter) -> Iterable[Violation]:
        yield from super().submitted(item)
        for key in item.labels:
            if key.startswith(OWN_PREFIX):
                yield Violation(f"labels[{key!r}]", "is set by the exporter when it registers; leave it out")

    async def guard_removal(self, resource: pb.Exporter, store: Store) -> Sequence[Check]:
        if resource.lease:
            raise FailedPrecondition(
                f"{resource.name} is leased by {resource.lease}; release that first",
                kind=EXPORTER,
                name=resource.name,
            )
        return ()


class ClientRules(_Rules):
    def __init__(self, clock: Clock, new_id: NewId) -> None:
        super().__init__(CLIENTS, ("namespace", "uid", "create_time"), clock, new_id)

    def prepare(self, new: pb.Client, old: pb.Client | None) -> None:
        super().prepare(new, old)
        if old is None:
            new.uid = self._new_id()

    async def guard_removal(self, resource: pb.Client, store: Store) -> Sequence[Check]:
        """A lease needs its owner for as long as it lasts."""
        head = await store.head()
        owned = (Condition("client", "=", resource.name), Condition("ended", "=", 0))
        async for record in store.scan(Query(LEASE, where=owned, limit=1)):
            raise FailedPrecondition(
                f"{resource.name} has the active lease {record.name}; release or transfer it first",
                kind=CLIENT,
                name=resource.name,
            )
        return (Check(LEASE, None, head),)


class PolicyRules(_Rules):
    def __init__(self, clock: Clock, new_id: NewId) -> None:
        super().__init__(POLICIES, ("namespace", "create_time"), clock, new_id)

    def _faults(self, new: pb.AccessPolicy) -> Iterable[Violation]:
        yield from selectors.faults(new.exporter_selector, "exporter_selector")
        if len(new.policies) > MAX_RULES:
            yield Violation("policies", f"has {len(new.policies)} entries; at most {MAX_RULES} are allowed")
            return
        for index, rule in enumerate(new.policies):
            path = f"policies[{index}]"
            for number, client in enumerate(getattr(rule, "from")):
                yield from selectors.faults(client.client_selector, f"{path}.from[{number}].client_selector")
            if rule.HasField("maximum_duration"):
                longest = rule.maximum_duration
                if longest.seconds < 0 or longest.nanos < 0 or not (longest.seconds or longest.nanos):
                    yield Violation(f"{path}.maximum_duration", "must be positive")


def _schema(message: Any, collection: Collection, *indexed: str) -> DescriptorSchema:
    return DescriptorSchema(
        message.DESCRIPTOR, names={"name": collection.pattern}, indexed=("namespace", *indexed)
    )


EXPORTER_SCHEMA: Final = _schema(pb.Exporter, EXPORTERS, "lease", "online", "status", "create_time")
CLIENT_SCHEMA: Final = _schema(pb.Client, CLIENTS, "create_time")
POLICY_SCHEMA: Final = _schema(pb.AccessPolicy, POLICIES, "create_time")
LEASE_SCHEMA: Final = _schema(pb.Lease, LEASES, "client", "exporter", "ended", "create_time", "ended_time")


def definitions(clock: Clock, new_id: NewId) -> list[Definition[Any]]:
    """Exporters, clients, access policies and leases. The engine alone writes leases."""
    return [
        _definition(EXPORTER, EXPORTERS, pb.Exporter, EXPORTER_SCHEMA, ExporterRules(clock, new_id)),
        _definition(CLIENT, CLIENTS, pb.Client, CLIENT_SCHEMA, ClientRules(clock, new_id)),
        _definition(
            ACCESS_POLICY,
            POLICIES,
            pb.AccessPolicy,
            POLICY_SCHEMA,
            PolicyRules(clock, new_id),
            plural="access_policies",
        ),
        _definition(LEASE, LEASES, pb.Lease, LEASE_SCHEMA, None),
    ]


def _definition(
    kind: str,
    collection: Collection,
    message: Any,
    schema: DescriptorSchema,
    strategy: Strategy[Any] | None,
    *,
    plural: str = "",
) -> Definition[Any]:
    return Definition(
        kind=kind,
        plural=plural or collection.plural,
        message=message,
        name=lambda found: found.name,
        parent=lambda found: names.parent(found.namespace),
        schema=schema,
        parse_filter=Sqlish(schema).parse,
        strategy=strategy,
        namespace="namespace",
    )

"""What a kind of resource is: its message, names, fields, filter language and rules of writing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from shared.errors import Violation
from shared.query import order_by
from shared.query.ast import Node
from shared.query.order_by import Ordering
from shared.query.schema import Schema
from shared.storage.port import Check, Kind, Store

T = TypeVar("T", bound=Message)
# The body of (kind, name) once everything is written; None for what will not be there.
Lookup = Callable[[str, str], Awaitable[bytes | None]]


class Strategy(Generic[T]):
    """The rules of writing one kind. A write runs prepare -> validate -> canonicalize -> commit."""

    # Whether `relations` has anything to say.
    related: bool = False
    # Whether a change of one can break what `relations` says of others that stay as they are.
    entangled: bool = False

    def prepare(self, new: T, old: T | None) -> None:
        """Clear what callers may not set and set what the server does."""

    def validate(self, new: T, old: T | None) -> Sequence[Violation]:
        """Everything that is wrong, each with its field path. Changes nothing."""
        return ()

    def canonicalize(self, new: T) -> None:
        """One form for values that mean the same."""

    def submitted(self, item: T) -> Iterable[Violation]:
        """What is wrong with a manifest's item as it was written, before the rules: fields that only
        the server sets."""
        return ()

    async def relations(self, new: T, after: Lookup) -> Sequence[Violation]:
        """What is wrong between resources once everything that is written together is written."""
        return ()

    def claims(self, resource: T) -> Iterable[str]:
        """Names that no other resource may claim at the same time: uniqueness beside the name."""
        return ()

    def taken(self, claim: str, resource: T) -> str:
        """The message for the caller whose claim another resource holds."""
        return f"{claim} is taken"

    async def guard_removal(self, resource: T, store: Store) -> Sequence[Check]:
        """Raises when the resource may not be removed; answers what that was decided by, which the
        removal's commit checks to be unchanged."""
        return ()

    async def locate(self, item: T, store: Store) -> str:
        """The name of the stored resource that a manifest item means; empty: a new one."""
        return ""


@dataclass(frozen=True)
class Definition(Generic[T]):
    """`name` and `parent` answer a message's storage name and parent; both are pure."""

    kind: str
    plural: str
    message: type[T]
    name: Callable[[T], str]
    schema: Schema
    parse_filter: Callable[[str], Node]
    parent: Callable[[T], str] = lambda message: ""
    parse_order: Callable[[str], Ordering] | None = None
    # None: the admin API does not write this kind.
    strategy: Strategy[T] | None = None
    composites: tuple[tuple[str, ...], ...] = ()
    covering: tuple[str, ...] = ()
    # Raise it when `schema` gives other values for the same message: the store then reindexes.
    version: int = 1
    # The field of `schema` that holds the namespace, of kinds that callers may be confined in.
    namespace: str = ""

    def parse(self, body: bytes) -> T:
        return self.message.FromString(body)

    def shown(self, body: bytes) -> bytes:
        """The body as the admin API shows it: without what is stored for speed alone."""
        return body

    def ordering(self, text: str) -> Ordering:
        """Of an order_by text. Raises InvalidArgument."""
        return (self.parse_order or self._by_schema)(text)

    def storage(self) -> Kind:
        """How the store keeps it."""
        return Kind(
            name=self.kind,
            indexes=self.schema.indexes(),
            values=lambda body: self.schema.values(self.parse(body)),
            document=self._document,
            version=self.version,
            composites=self.composites,
            covering=self.covering,
        )

    def _by_schema(self, text: str) -> Ordering:
        return order_by.parse(text, self.schema)

    def _document(self, body: bytes) -> dict[str, Any]:
        return json_format.MessageToDict(self.parse(body), preserving_proto_field_name=True)


# Uniqueness beside the name: a claim's name is what is unique, its body the name of the holder.
CLAIM = Kind("claim")

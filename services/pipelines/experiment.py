"""The experiment as a resource: its fields, names, indexes and rules of writing.

Stored as the v2beta1 message without `last_run_created_at`, which has no value until an experiment
can have runs. In single-user mode its bytes are a v1beta1 Experiment as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import quote

from shared.errors import Aborted, InvalidArgument, Violation
from shared.pb.backend.api.v1beta1 import filter_pb2 as filter_v1
from shared.pb.backend.api.v2beta1 import filter_pb2 as filter_v2
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.query.dialects.predicates import Predicates
from shared.query.order_by import Key, Ordering
from shared.query.schema import Field, Schema
from shared.resource.definition import CLAIM, Definition, Strategy
from shared.storage.port import NULL, Check, Kind, Store

MAX_NAME: Final = 128
MAX_NAMESPACE: Final = 63
MAX_DESCRIPTION: Final = 65_535
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# One record: which experiment is the default one.
MARK: Final = Kind("mark")
DEFAULT_MARK: Final = "default_experiment"

Clock = Callable[[], int]

SCHEMA: Final = Schema(
    (
        Field("id", "text", lambda e: e.experiment_id, aliases=("experiment_id",)),
        Field("name", "text", lambda e: e.display_name, indexed=True, folded=True, aliases=("display_name",)),
        Field("created_at", "timestamp", lambda e: e.created_at.seconds, indexed=True),
        Field("description", "text", lambda e: e.description),
        Field("namespace", "text", lambda e: e.namespace, indexed=True),
        Field(
            "storage_state",
            "text",
            lambda e: Experiment.StorageState.Name(e.storage_state) if e.storage_state else NULL,
            indexed=True,
        ),
        Field("last_run_created_at", "timestamp", lambda e: e.last_run_created_at.seconds),
    ),
    key="id",
)

_STATES: Final = {
    "STORAGESTATE_AVAILABLE": "AVAILABLE",
    "STORAGESTATE_ARCHIVED": "ARCHIVED",
}
FILTER_V1: Final = Predicates(filter_v1.Filter, "op", SCHEMA, {"storage_state": _STATES})
FILTER_V2: Final = Predicates(filter_v2.Filter, "operation", SCHEMA, {"storage_state": _STATES})
# What lists walk, by multi_user.
_COMPOSITES: Final = {
    False: (("storage_state", "created_at"),),
    True: (("namespace", "created_at"), ("namespace", "storage_state", "created_at")),
}
_DIRECTIONS: Final = {"asc": False, "desc": True}
# Fields that order nothing by themselves: the id breaks every tie, and no experiment has runs.
_BY_ID: Final = frozenset({"id", "last_run_created_at"})


def sort_by(text: str, *, parameter: str = "sort_by") -> Ordering:
    """`field`, `field asc` or `field desc` in any letter case; empty is created_at ascending. Ties
    are broken by id in the same direction. Raises InvalidArgument."""
    words = text.lower().split() or ["created_at"]
    field = SCHEMA.find(words[0])
    if field is None:
        raise InvalidArgument.at(
            parameter, f"cannot sort by {words[0]!r}; use one of {', '.join(SCHEMA.names)}"
        )
    direction = words[1] if len(words) > 1 else "asc"
    if direction not in _DIRECTIONS or len(words) > 2:
        raise InvalidArgument.at(parameter, f"{text!r} is not `field`, `field asc` or `field desc`")
    descending = _DIRECTIONS[direction]
    keys = () if field.name in _BY_ID else (Key(field, descending),)
    return Ordering(keys, descending)


class Rules(Strategy[Experiment]):
    """What may be stored. The API's create sets nothing but name, description and namespace; a
    manifest may also carry id, time and state, so that an export can be applied again."""

    def __init__(self, clock: Clock, new_id: Callable[[], str], *, multi_user: bool) -> None:
        self._clock = clock
        self._new_id = new_id
        self.multi_user = multi_user

    def prepare(self, new: Experiment, old: Experiment | None) -> None:
        new.ClearField("last_run_created_at")
        if old is not None:
            new.experiment_id = old.experiment_id
            new.created_at.CopyFrom(old.created_at)
        if not new.experiment_id:
            new.experiment_id = self._new_id()
        if not new.HasField("created_at"):
            new.created_at.seconds = self._clock() // 1_000_000_000
        new.created_at.nanos = 0
        if new.storage_state == Experiment.STORAGE_STATE_UNSPECIFIED:
            new.storage_state = Experiment.AVAILABLE

    def validate(self, new: Experiment, old: Experiment | None) -> Sequence[Violation]:
        return [Violation(field, text) for field, text in self._wrong(new, old) if text]

    def _wrong(self, new: Experiment, old: Experiment | None) -> Iterable[tuple[str, str]]:
        yield "display_name", _length("name", new.display_name, 1, MAX_NAME)
        yield "description", _length("description", new.description, 0, MAX_DESCRIPTION)
        if self.multi_user:
            yield "namespace", _length("namespace", new.namespace, 1, MAX_NAMESPACE)
        elif new.namespace:
            yield "namespace", f"must be empty in single-user mode, not {new.namespace!r}"
        if old is not None and old.namespace != new.namespace:
            yield "namespace", "cannot be changed"
        if not _ID.fullmatch(new.experiment_id):
            yield "experiment_id", "must be 1 to 64 letters, digits, '.', '_' or '-'"
        if new.storage_state not in Experiment.StorageState.values():
            yield "storage_state", f"has no value {new.storage_state}"

    def claims(self, resource: Experiment) -> Iterable[str]:
        return (claim(resource.namespace, resource.display_name),)

    def taken(self, claim: str, resource: Experiment) -> str:
        where = f" in namespace {resource.namespace!r}" if resource.namespace else ""
        return (
            f"an experiment with name {resource.display_name!r} already exists{where}, perhaps archived; "
            "use another name"
        )

    async def guard_removal(self, resource: Experiment, store: Store) -> Sequence[Check]:
        mark = await store.get(MARK.name, DEFAULT_MARK)
        if mark is not None and mark.body.decode() == resource.experiment_id:
            raise Aborted(
                f"experiment {resource.experiment_id} is the default one and cannot be deleted; archive it",
                kind="experiment",
                name=resource.experiment_id,
            )
        return [Check(MARK.name, DEFAULT_MARK, mark.revision if mark is not None else 0)]

    async def locate(self, item: Experiment, store: Store) -> str:
        if item.experiment_id:
            return item.experiment_id
        held = await store.get(CLAIM.name, claim(item.namespace, item.display_name))
        return held.body.decode() if held is not None else ""


def claim(namespace: str, name: str) -> str:
    """The record that makes (namespace, name) unique. Quoted: names may hold any character."""
    return f"experiment/{quote(namespace, safe='')}/{quote(name, safe='')}"


def definition(rules: Rules) -> Definition[Experiment]:
    return Definition(
        kind="experiment",
        plural="experiments",
        message=Experiment,
        name=lambda e: e.experiment_id,
        schema=SCHEMA,
        parse_filter=FILTER_V2.parse,
        parse_order=lambda text: sort_by(text, parameter="order_by"),
        strategy=rules,
        composites=_COMPOSITES[rules.multi_user],
        namespace="namespace" if rules.multi_user else "",
    )


def _length(what: str, text: str, least: int, most: int) -> str:
    """What is wrong with the length of `text`, in Unicode characters; empty when nothing is."""
    if len(text) < least:
        return f"the {what} must not be empty"
    if len(text) > most:
        return f"the {what} has {len(text)} characters; at most {most} are allowed"
    return ""

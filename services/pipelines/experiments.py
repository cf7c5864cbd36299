"""The operations on experiments, whichever API version asks (docs/apis/pipelines.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.pipelines.experiment import DEFAULT_MARK, MARK, SCHEMA, claim, sort_by
from shared.errors import FailedPrecondition, InvalidArgument
from shared.pb.backend.api.v2beta1.experiment_pb2 import Experiment
from shared.query import page_token
from shared.query.ast import And, Compare, Node
from shared.query.dialects.predicates import Predicates
from shared.query.page_token import CURSOR_KEYS
from shared.resource.collection import Collection, Page, PageRequest
from shared.resource.definition import CLAIM
from shared.storage.errors import Conflict
from shared.storage.port import Author, Check, Delete, Expect, Order, Put, Query, Record

DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 200
_TOKEN_KEYS: Final = CURSOR_KEYS | {"a", "s", "d", "f"}
# The runs and recurring runs that follow an experiment into the archive are changed in the same
# commit: this is where. They stay there when it comes back. Nothing here has runs yet.
Cascade = Callable[[Experiment], Sequence[Put | Delete]]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list request of either version. `api` binds tokens to the filter dialect."""

    api: str
    dialect: Predicates
    page_token: str
    page_size: int
    sort_by: str
    filter: str
    namespace: str


class Experiments:
    """Each version tells `requested(verb)` of every request, whatever becomes of it."""

    def __init__(
        self,
        collection: Collection[Experiment],
        *,
        cascade: Cascade = lambda experiment: (),
        requested: Callable[[str], None] = lambda verb: None,
    ) -> None:
        self._collection = collection
        self._cascade = cascade
        self.requested = requested

    async def create(self, name: str, description: str, namespace: str, by: Author) -> Experiment:
        """Raises InvalidArgument, AlreadyExists."""
        wanted = Experiment(display_name=name, description=description, namespace=namespace)
        return (await self._collection.create(wanted, by)).resource

    async def get(self, experiment_id: str) -> Record:
        """Raises NotFound; an empty id is InvalidArgument."""
        if not experiment_id:
            raise InvalidArgument.at("experiment_id", "must not be empty")
        return await self._collection.record(experiment_id)

    async def set_state(self, experiment_id: str, state: Experiment.StorageState, by: Author) -> None:
        """Archive or unarchive; idempotent. Raises NotFound."""

        def change(experiment: Experiment) -> None:
            experiment.storage_state = state

        also: Cascade = self._cascade if state == Experiment.ARCHIVED else lambda experiment: ()
        await self._collection.update(experiment_id, change, by, also=also)

    async def delete(self, experiment_id: str, by: Author) -> None:
        """Raises NotFound, and Aborted for the default experiment."""
        await self._collection.delete(experiment_id, by)

    async def list(self, query: ListQuery) -> tuple[Page, str]:
        """A page with the total at the same revision, and the token of the next one.

        A token carries sort and filter; given again, they must mean the same. The namespace and the
        page size are of each request. Raises InvalidArgument.
        """
        request, sort, filter_text = self._request(query)
        page = await self._collection.page(request)
        if page.next is None:
            return page, ""
        direction = request.ordering.name_descending
        payload = {"a": query.api, "s": sort, "d": direction, "f": filter_text, **page.next.payload()}
        return page, page_token.encode(payload)

    def _request(self, query: ListQuery) -> tuple[PageRequest, str, str]:
        if query.page_size < 0:
            raise InvalidArgument.at("page_size", f"must not be negative; {query.page_size} is")
        size = min(query.page_size or DEFAULT_PAGE, MAX_PAGE)
        tree = query.dialect.parse(query.filter)
        request = PageRequest(size, sort_by(query.sort_by), _within(query.namespace, tree), total=True)
        if not query.page_token:
            return request, _sort_field(query.sort_by), query.filter
        payload = page_token.decode(query.page_token, _TOKEN_KEYS)
        wrong = InvalidArgument.at("page_token", "is not a token of this query; start again without it")
        sort, descending, text = payload["s"], payload["d"], payload["f"]
        if payload["a"] != query.api or type(descending) is not bool:
            raise wrong
        if not isinstance(text, str) or not isinstance(sort, str) or SCHEMA.find(sort) is None:
            raise wrong
        ordering = sort_by(f"{sort} {'desc' if descending else 'asc'}")
        try:
            held = query.dialect.parse(text)
        except InvalidArgument as error:
            raise wrong from error
        if query.sort_by or query.filter:
            if (_sort_field(query.sort_by), request.ordering) != (sort, ordering):
                raise InvalidArgument.at("sort_by", "differs from the one that page_token was made for")
            if tree != held:
                raise InvalidArgument.at("filter", "differs from the one that page_token was made for")
        cursor = page_token.cursor(payload, ordering)
        filter = _within(query.namespace, held)
        return replace(request, ordering=ordering, filter=filter, cursor=cursor), sort, text

    async def refuse_namespaces(self) -> None:
        """Raises FailedPrecondition when experiments of namespaces are stored: single-user mode has
        no place for them, neither in its answers nor in its rules."""
        last = Query(self._collection.definition.kind, order=(Order("namespace", True),), limit=1)
        found = [record async for record in self._collection.store.scan(last)]
        namespaces = [Experiment.FromString(record.body).namespace for record in found]
        if any(namespaces):
            raise FailedPrecondition(
                f"experiments of namespaces are stored, {namespaces[0]!r} for example: "
                "set ROUNDHOUSE_MULTI_USER=true, or delete them in that mode first"
            )

    async def ensure_default(self, name: str, by: Author) -> None:
        """Create the experiment `name`, or adopt the one that has it, and remember which; nothing
        when one is remembered. Safe in several processes at once."""
        store = self._collection.store
        while await store.get(MARK.name, DEFAULT_MARK) is None:
            held = await store.get(CLAIM.name, claim("", name))
            checks: list[Check] = []
            changes: list[Put | Delete] = []
            if held is not None:
                experiment_id = held.body
                checks = [Check(CLAIM.name, held.name, held.revision)]
            else:
                wanted = Experiment(
                    display_name=name, description="All runs without an experiment of their own."
                )
                changes = self._collection.creation(wanted)
                experiment_id = wanted.experiment_id.encode()
            mark = Put(MARK.name, DEFAULT_MARK, experiment_id, expect=Expect.ABSENT)
            try:
                await store.commit([*changes, mark], checks=checks, by=by)
            except Conflict:
                continue  # a peer was first: look again


def _within(namespace: str, tree: Node) -> Node:
    """Only the rows of a namespace; in single-user mode all rows are of none."""
    return And((Compare("namespace", "=", namespace), tree)) if namespace else tree


def _sort_field(text: str) -> str:
    words = text.lower().split() or ["created_at"]
    field = SCHEMA.find(words[0])
    return field.name if field is not None else ""

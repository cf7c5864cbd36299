"""Lists: one page for all of them, the same live, and what it says of a list that cannot be shown.

A list of another kind is a `Listing`, a template that extends `lists/list.html`, and one for its rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import grpc
from aiohttp import web

from admin_ui import render, session, sse
from admin_ui.list_state import PAGE_SIZES, ListQuery
from admin_ui.live import Feed
from admin_ui.presenters import failures, filters
from admin_ui.views import common
from shared.rpc.client import CallFailed, Failure

S = TypeVar("S", bound=ListQuery)
Values = dict[str, Any]

# Templates that most lists share, by the element that they fill.
SHARED: Final = {"count": "lists/_count.html", "pager": "lists/_pager.html"}
# The choice of all that match, for lists whose actions can do with it.
ALL: Final = {"all": "lists/_all.html"}


@dataclass(frozen=True, slots=True)
class Action:
    """A button that acts on the selected rows: it writes to the route `KIND.bulk.VERB`."""

    verb: str
    label: str
    permission: str
    icon: str
    tone: str = "small"


async def _as_asked(request: web.Request, state: S) -> S:
    return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[S]):
    """What is particular to one list. Its route is called `NAME`, that of its stream `NAME.live`.

    `template`: the page's. `parts` and `rows`: templates of what changes live, by element id, and of the
    table. `load` asks the service: `rows`, `total`, `pages`, `commands` and what the kind's templates
    want besides; it raises CallFailed. `frame`: what the page needs, whatever is in its table.
    `settle`: the state that an incomplete address means, or where it leads instead. `fields`: those of the
    state by the request's, where the service finds mistakes in what was typed. `alone` asks for the
    typed filter alone, where `load` adds to it: its mistakes are those to show."""

    template: str
    rows: str
    parts: Mapping[str, str]
    parse: Callable[[Mapping[str, str]], S]
    frame: Callable[[web.Request, S], Awaitable[Values]]
    load: Callable[[web.Request, S], Awaitable[Values]]
    feeds: Callable[[web.Request], Sequence[Feed]]
    settle: Callable[[web.Request, S], Awaitable[S | web.StreamResponse]] = _as_asked
    alone: Callable[[web.Request, S], Awaitable[object]] | None = None
    actions: Sequence[Action] = ()
    fields: Mapping[str, str] = field(default_factory=lambda: {"filter": "filter"})
    order_field: str = "order_by"

    async def page(self, request: web.Request) -> web.StreamResponse:
        state = self.parse(request.query)
        try:
            settled = await self.settle(request, state)
            if isinstance(settled, web.StreamResponse):
                return settled
            state = settled
            values = await self._values(request, state)
        except CallFailed as error:
            return await self._failed(request, state, error)
        return await render.page(request, self.template, values)

    async def live(self, request: web.Request) -> web.StreamResponse:
        state = self.parse(request.query)

        async def look() -> sse.View:
            values = await self._values(request, state)
            return sse.View(
                parts={id: render.part(request, name, values) for id, name in self.parts.items()},
                tables={"rows": render.part(request, self.rows, values)} if self.rows else {},
            )

        return await sse.stream(request, look, (), feeds=self.feeds(request))

    async def _values(self, request: web.Request, state: S) -> Values:
        """Raises CallFailed."""
        found = await self.load(request, state)
        return {**await self._frame(request, state), **found}

    async def _frame(self, request: web.Request, state: S) -> Values:
        own, here = request[render.ROUTE].removesuffix(".live"), state.here()
        kind, who = own.partition(".")[0], render.person(request)

        def url(route: str) -> str:
            return render.url(request.app, route, **request.match_info)

        return {
            "base": url(own),
            "list": state,
            "here": f"{url(own)}{here}",
            "stream": f"{url(f'{own}.live')}{here}",
            "parts": self.parts,
            "table": self.rows,
            "actions": [(action, url(f"{kind}.bulk.{action.verb}")) for action in self.actions],
            "may_act": any(who.may(action.permission) for action in self.actions),
            "page_sizes": PAGE_SIZES,
            "rows": [],
            "total": 0,
            "pages": None,
            "commands": [],
            "errors": {},
            "caret": None,
            "problem": None,
            **await self.frame(request, state),
        }

    async def _failed(self, request: web.Request, state: S, error: CallFailed) -> web.StreamResponse:
        """A place or an order that there is not leads to where there is something; what is wrong with
        what was typed is shown under its box, with a caret where the service says where; anything else
        stands in place of the table."""
        failure = error.failure
        if failure.code is grpc.StatusCode.UNAUTHENTICATED:
            raise error
        values = {**await self._frame(request, state), "problem": failure}
        if common.is_invalid(failure):
            elsewhere = await self._recovered(request, state, failure, values["base"])
            if elsewhere is not None:
                return elsewhere
            values |= await self._mistakes(request, state, failure)
        return await render.page(request, self.template, values, status=failures.explain(failure).status)

    async def _recovered(
        self, request: web.Request, state: S, failure: Failure, base: str
    ) -> web.Response | None:
        """A place that is gone leads to the first page, an order that there is not is left out."""
        if state.page_token:
            # Whatever else is wrong, the first page says it.
            await session.flash(request, common.GONE_PAGE, tone="info")
            return render.redirect(f"{base}{state.first()}")
        if state.order_by and self.order_field in failures.by_field(failure):
            await session.flash(request, f"The list cannot be sorted by “{state.order_by}”.", tone="warn")
            return render.redirect(f"{base}{state.query(order_by='')}")
        return None

    async def _mistakes(self, request: web.Request, state: S, failure: Failure) -> Values:
        """Nothing when it is not what was typed that is wrong."""
        wrong, position = failures.by_field(failure), failure.position
        told = {
            own: wrong[field] for field, own in self.fields.items() if field in wrong and getattr(state, own)
        }
        if self.alone is not None and state.filter:
            found = await common.attempt(self.alone(request, state))
            position = None
            if isinstance(found, Failure):
                told["filter"] = failures.by_field(found).get("filter", found.message)
                position = found.position
        if not told:
            return {}
        caret = filters.caret(state.filter, position) if "filter" in told and position is not None else None
        return {"errors": told, "caret": caret, "problem": None}

"""What was done to one job, found among the many writes of its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from admin_ui import render
from admin_ui.clients import JOBS
from admin_ui.jobs import JOB
from admin_ui.presenters import job_history
from admin_ui.presenters.history import Entry
from admin_ui.views import common
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.rpc.client import Failure

# Writes that are read at once at first, and later, when only some are new.
FIRST: Final = 50
LATER: Final = 10
# Writes that are looked through for what means something to people.
MOST: Final = 1000


class Past:
    """As one page shows it again and again: only what is new is read. `wanted`: entries that are told,
    newest first; `before`: the token of a place in the history, for what was done before that."""

    def __init__(self, request: web.Request, wanted: int, before: str = "") -> None:
        self._request = request
        self._wanted = wanted
        self._entries: list[Entry] = []
        self._newest = self._kept = 0
        self.before = before
        # The token of what was done before the entries.
        self.older = ""

    async def look(self) -> tuple[Sequence[Entry], Failure | None]:
        """Why it cannot be known stands beside what is known. Raises nothing."""
        if not render.person(self._request).may("admin.read"):
            return (), None
        fresh: list[Entry] = []
        known, newest, token, looked = self._newest, self._newest, self.before, 0
        while looked < MOST:
            found = await self._read(token)
            if isinstance(found, Failure):
                return self._entries, found
            new = [version for version in found.versions if version.revision > known]
            fresh += job_history.entries(new)
            newest = max([newest, *(version.revision for version in new)])
            looked, token = looked + len(found.versions), found.next_page_token
            if not token or len(new) < len(found.versions) or (not known and len(fresh) >= self._wanted):
                break
        self._entries, self._newest = [*fresh, *self._entries], newest
        if known:
            # A page does not grow for ever.
            del self._entries[self._kept :]
        else:
            self.older, self._kept = token, max(self._wanted, len(fresh))
        return self._entries, None

    async def _read(self, token: str) -> admin_pb2.HistoryResponse | Failure:
        size = LATER if self._newest else FIRST
        id = self._request.match_info["id"]
        asked = admin_pb2.HistoryRequest(kind=JOB, name=id, page_size=size, page_token=token)
        return await common.attempt(render.caller(self._request).admin(JOBS, "History", asked))


async def meanwhile(request: web.Request, version: str) -> Sequence[Entry]:
    """What was done to the job after it was at that version: a help, so nothing when it cannot be known."""
    if not render.person(request).may("admin.read"):
        return ()
    asked = admin_pb2.HistoryRequest(kind=JOB, name=request.match_info["id"], page_size=FIRST)
    found: list[Entry] = []
    for _ in range(MOST // FIRST):
        answer = await common.attempt(render.caller(request).admin(JOBS, "History", asked))
        if isinstance(answer, Failure):
            break
        newer, reached = job_history.since(answer.versions, version)
        found += newer
        if reached or not answer.next_page_token:
            break
        asked.page_token = answer.next_page_token
    return found

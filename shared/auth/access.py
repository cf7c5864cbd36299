"""Turns the token of a call into an identity, and keeps up with revocations of other processes.

A token counts when its signature and expiry are right *and* the access store has it, not revoked,
and its subject is not disabled there. That is looked up once for each token and then remembered;
the store's log says when to forget. So a revocation or a change of role takes effect at once in the
process that makes it and within the log's polling time (0.1 s) in the others; and should the log be
unreadable, after TRUST seconds at the latest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.auth import permissions
from shared.auth.access_store import TOKEN, USER, AccessStore
from shared.auth.identity import Identity
from shared.auth.keys import KeyRing
from shared.auth.tokens import Claims, Clock, Tokens, expired
from shared.errors import Unauthenticated
from shared.pb.roundhouse.admin.v1.access_pb2 import Token, User
from shared.storage.errors import Compacted, Conflict, FutureRevision, StoreFull, StoreUnavailable
from shared.storage.port import Author, Commit, Store
from shared.watch.tailer import Tailer

log = logging.getLogger(__name__)

AUTHORIZATION: Final = "authorization"
# In User.namespaces: all of them.
ALL_NAMESPACES: Final = "*"
# Seconds after which a remembered token is looked up again, whatever the log says.
TRUST: Final = 30.0
_RETRY: Final = 0.1
# A token of so few seconds that is not on record yet is looked for that many times more.
_YOUNG: Final = 5.0
_YOUNG_TRIES: Final = 4
_SWEEPER: Final = Author("roundhouse", "auth:token:sweep")

# Everyone, when authentication is switched off.
EVERYONE: Final = Identity("anonymous", permissions.ADMIN, permissions.EVERYTHING)


@dataclass(frozen=True, slots=True)
class _Known:
    identity: Identity
    expires_at: float
    # When to look again.
    stale_at: float


class Access:
    """Authenticates calls against the access store, which the caller opens with KINDS and closes.

    `cache_size` tokens are remembered at most. With `enabled` False everyone may do everything,
    whatever they send.
    """

    def __init__(
        self,
        store: Store,
        keys: KeyRing,
        clock: Clock = time.time,
        *,
        enabled: bool = True,
        cache_size: int = 4096,
    ) -> None:
        self.records = AccessStore(store)
        self.tokens = Tokens(keys, clock)
        self.clock = clock
        self.enabled = enabled
        self._size = cache_size
        self._known: OrderedDict[str, _Known] = OrderedDict()
        # Counts what was forgotten, so that a look-up it overtook is not remembered.
        self._forgotten = 0
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Follow the store's log. Raises StoreUnavailable when it cannot be read."""
        if not self.enabled:
            log.warning(
                "AUTHENTICATION IS SWITCHED OFF: whoever reaches this process may do everything; "
                "set ROUNDHOUSE_AUTH=true to ask for tokens"
            )
        async with contextlib.AsyncExitStack() as stack:
            tailer = await stack.enter_async_context(Tailer(self.records.store))
            task = asyncio.create_task(self._follow(tailer, tailer.head), name="access")
            stack.push_async_callback(_end, task)
            await self.sweep()
            self._stack = stack.pop_all()

    async def close(self) -> None:
        await self._stack.aclose()

    async def __aenter__(self) -> Access:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def authenticate(self, metadata: Mapping[str, str]) -> Identity:
        """Who calls, with what `metadata` (lower-case names) carries.

        The role is the token's, or the user's where a user is stored whose role may less. Raises
        Unauthenticated, saying what is wrong with the token, and StoreUnavailable.
        """
        if not self.enabled:
            return EVERYONE
        text = _bearer(metadata)
        known = self._known.get(text)
        now = self.clock()
        if known is None or now >= known.stale_at:
            return await self._look_up(text)
        if now >= known.expires_at:
            del self._known[text]
            raise Unauthenticated(expired(known.expires_at))
        self._known.move_to_end(text)
        return known.identity

    async def identity_of(self, subject: str) -> Identity:
        """What a stored user may, without a token: for callers that may speak for others. Raises
        Unauthenticated when there is no such user or it is disabled."""
        user = await self.records.user(subject)
        if user is None or user.disabled:
            raise Unauthenticated(f"user {subject!r} is {'disabled' if user else 'unknown'}")
        return Identity(
            subject=subject,
            role=user.role,
            permissions=permissions.permissions_of(user.role),
            namespaces=_namespaces(user.role, user),
        )

    async def issue(
        self, subject: str, role: str, ttl: timedelta, *, creator: str, by: Author
    ) -> tuple[str, Token]:
        """A new token, recorded: its text and its record. Raises InvalidArgument at "ttl"."""
        text, record = self.prepare(subject, role, ttl, creator=creator)
        await self.records.add_token(record, by)
        await self.sweep()
        return text, record

    def prepare(self, subject: str, role: str, ttl: timedelta, *, creator: str) -> tuple[str, Token]:
        """A new token that counts once its record is stored."""
        text, claims = self.tokens.issue(subject, role, ttl)
        record = Token(id=claims.token_id, subject=subject, role=role, creator=creator)
        record.create_time.FromSeconds(claims.issued_at)
        record.expire_time.FromSeconds(claims.expires_at)
        return text, record

    async def revoke(self, token_id: str, by: Author) -> Token | None:
        """Revoke a token, in this process at once; None when there is none of that id. Doing it
        again changes nothing."""
        found = await self.records.revoke(token_id, self.now_ns(), by)
        self._forget(token_id=token_id)
        return found

    def forget_user(self, subject: str) -> None:
        """Look the tokens of `subject` up again: its record changed."""
        self._forget(subject=subject)

    def now_ns(self) -> int:
        """Nanoseconds since 1970, in whole microseconds: all that a float can tell."""
        return round(self.clock() * 1e6) * 1000

    async def sweep(self) -> int:
        """Remove some of what expired. It is housekeeping: a busy or full store only puts it off."""
        try:
            return await self.records.sweep(self.now_ns(), _SWEEPER)
        except (StoreUnavailable, StoreFull, Conflict) as error:
            log.info("expired tokens stay for now", extra={"error": str(error)})
            return 0

    async def _look_up(self, text: str) -> Identity:
        forgotten = self._forgotten
        claims = self.tokens.verify(text)
        identity = await self._admit(claims)
        if forgotten == self._forgotten:
            self._remember(text, identity, claims)
        return identity

    async def _admit(self, claims: Claims) -> Identity:
        token = await self._record(claims)
        if token is None:
            raise Unauthenticated("the bearer token is not on record: it was removed, or made elsewhere")
        if token.HasField("revoke_time"):
            raise Unauthenticated("the bearer token is revoked")
        user = await self.records.user(claims.subject)
        if user is not None and user.disabled:
            raise Unauthenticated("the user of the bearer token is disabled")
        role = claims.role if user is None else permissions.lesser(claims.role, user.role)
        return Identity(
            subject=claims.subject,
            role=role,
            permissions=permissions.permissions_of(role),
            token_id=claims.token_id,
            expires_at=float(claims.expires_at),
            namespaces=_namespaces(role, user),
        )

    async def _record(self, claims: Claims) -> Token | None:
        """The token's record. A peer's newest commits may show up here with the log's delay, so a
        young token gets a moment."""
        token = await self.records.token(claims.token_id)
        tries = _YOUNG_TRIES if self.clock() - claims.issued_at < _YOUNG else 0
        while token is None and tries:
            await asyncio.sleep(_RETRY)
            token = await self.records.token(claims.token_id)
            tries -= 1
        return token

    def _remember(self, text: str, identity: Identity, claims: Claims) -> None:
        self._known[text] = _Known(identity, claims.expires_at, self.clock() + TRUST)
        self._known.move_to_end(text)
        while len(self._known) > self._size:
            self._known.popitem(last=False)

    def _forget(self, *, token_id: str | None = None, subject: str | None = None) -> None:
        self._forgotten += 1
        gone = [
            text
            for text, known in self._known.items()
            if known.identity.token_id == token_id or known.identity.subject == subject
        ]
        for text in gone:
            del self._known[text]

    async def _follow(self, tailer: Tailer, after: int) -> None:
        """Forget what the log says has changed, until cancelled."""
        while True:
            try:
                async for commit in tailer.follow(after):
                    self._apply(commit)
                    after = commit.revision
            except (Compacted, FutureRevision):
                # What happened meanwhile cannot be read: assume everything did.
                self._forgotten += 1
                self._known.clear()
                after = tailer.head
            except StoreUnavailable:
                await asyncio.sleep(_RETRY)

    def _apply(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.before is None and change.kind == TOKEN:
                continue  # a new token; nobody has met it
            if change.kind == TOKEN:
                self._forget(token_id=change.name)
            elif change.kind == USER:
                self._forget(subject=change.name)


def _namespaces(role: str, user: User | None) -> frozenset[str] | None:
    """Where a caller may act. None is everywhere; a subject that is no stored user may nowhere,
    unless it is an admin."""
    if role == permissions.ADMIN:
        return None
    named = frozenset(user.namespaces if user is not None else ())
    return None if ALL_NAMESPACES in named else named


def _bearer(metadata: Mapping[str, str]) -> str:
    header = metadata.get(AUTHORIZATION, "").strip()
    if not header:
        raise Unauthenticated(
            "no token: send 'authorization: Bearer <token>'; 'roundhouse token create' makes one"
        )
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("the authorization header must read 'Bearer <token>'")
    return token


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

"""What is stored of users, tokens and sign-in codes: kinds, and typed reads and writes.

A record is the message of the same name of roundhouse.admin.v1. Neither a token nor a sign-in code
can be rebuilt from it: of a token the id is kept, of a code its SHA-256.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import Message

from shared.pb.roundhouse.admin.v1.access_pb2 import SignInCode, Token, User
from shared.storage.errors import Conflict
from shared.storage.port import (
    Author,
    Condition,
    Delete,
    Expect,
    Index,
    Kind,
    Order,
    Position,
    Put,
    Query,
    Record,
    Store,
    Value,
)

USER: Final = "user"
TOKEN: Final = "token"
SIGN_IN_CODE: Final = "sign_in_code"

# Expired tokens stay this long in lists, for whoever wonders why a client stopped working.
KEEP_EXPIRED: Final = 7 * 86_400 * 10**9
# Records that one sweep removes at most, of each kind.
SWEEP_LIMIT: Final = 100


def _token_values(body: bytes) -> Mapping[str, Value]:
    token = Token.FromString(body)
    values: dict[str, Value] = {
        "subject": token.subject,
        "create_time": token.create_time.ToNanoseconds(),
        "expire_time": token.expire_time.ToNanoseconds(),
    }
    if token.HasField("revoke_time"):
        values["revoke_time"] = token.revoke_time.ToNanoseconds()
    return values


def _code_values(body: bytes) -> Mapping[str, Value]:
    return {"expire_time": SignInCode.FromString(body).expire_time.ToNanoseconds()}


def _document(message: type[Message]) -> Callable[[bytes], Mapping[str, object]]:
    return lambda body: json_format.MessageToDict(message.FromString(body), preserving_proto_field_name=True)


# Times are nanoseconds since 1970.
KINDS: Final[tuple[Kind, ...]] = (
    Kind(USER, document=_document(User)),
    Kind(
        TOKEN,
        indexes=(
            Index("subject", "text"),
            Index("create_time", "int"),
            Index("expire_time", "int"),
            Index("revoke_time", "int"),
        ),
        values=_token_values,
        document=_document(Token),
        composites=(("subject", "create_time"),),
    ),
    Kind(
        SIGN_IN_CODE,
        indexes=(Index("expire_time", "int"),),
        values=_code_values,
        document=_document(SignInCode),
    ),
)


@dataclass(frozen=True, slots=True)
class After:
    """Where a page of tokens ends: the next one starts behind it."""

    create_time: int
    name: str


class AccessStore:
    """The records of a Store that was opened with KINDS. Raises `shared.storage.errors` only."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def user(self, subject: str) -> User | None:
        record = await self.store.get(USER, subject)
        return None if record is None else User.FromString(record.body)

    async def token(self, token_id: str) -> Token | None:
        record = await self.store.get(TOKEN, token_id)
        return None if record is None else Token.FromString(record.body)

    async def add_token(self, token: Token, by: Author) -> None:
        await self.store.commit([_put_token(token)], by=by)

    async def revoke(self, token_id: str, at: int, by: Author) -> Token | None:
        """Mark a token as revoked at nanosecond `at`, unless it is already; None: there is none."""
        while (record := await self.store.get(TOKEN, token_id)) is not None:
            token = Token.FromString(record.body)
            if token.HasField("revoke_time"):
                return token
            token.revoke_time.FromNanoseconds(at)
            try:
                await self.store.commit([Put(TOKEN, token_id, _bytes(token), expect=record.revision)], by=by)
            except Conflict:
                continue  # a peer revoked or removed it meanwhile
            return token
        return None

    async def put_user(self, wanted: User, at: int, by: Author, check: Callable[[User | None], None]) -> User:
        """Create a user at nanosecond `at`, or change one whose create_time stays; answers what is
        stored. `check` sees what was stored before and may raise."""
        while True:
            record = await self.store.get(USER, wanted.subject)
            before = None if record is None else User.FromString(record.body)
            check(before)
            user = User(
                subject=wanted.subject,
                role=wanted.role,
                disabled=wanted.disabled,
                namespaces=sorted(set(wanted.namespaces)),
            )
            if before is None:
                user.create_time.FromNanoseconds(at)
            else:
                user.create_time.CopyFrom(before.create_time)
            expect = Expect.ABSENT if record is None else record.revision
            try:
                await self.store.commit([Put(USER, user.subject, _bytes(user), expect=expect)], by=by)
            except Conflict:
                continue  # a peer wrote meanwhile: check again what it made of it
            return user

    async def add_code(self, code: SignInCode, by: Author) -> None:
        put = Put(SIGN_IN_CODE, code.digest, _bytes(code), expect=Expect.ABSENT)
        await self.store.commit([put], by=by)

    async def code(self, digest: str) -> SignInCode | None:
        record = await self.store.get(SIGN_IN_CODE, digest)
        return None if record is None else SignInCode.FromString(record.body)

    async def redeem(self, digest: str, token: Token, by: Author) -> bool:
        """Use the code up for `token`, in one commit. False: a peer was first, nothing changed."""
        delete = Delete(SIGN_IN_CODE, digest, expect=Expect.PRESENT)
        try:
            await self.store.commit([delete, _put_token(token)], by=by)
        except Conflict:
            return False
        return True

    async def tokens(
        self, *, subject: str, active_at: int | None, after: After | None, limit: int
    ) -> list[Token]:
        """Newest first. `subject` "" is everyone's; with `active_at` (nanoseconds) only those that
        are neither revoked nor expired then."""
        where: list[Condition] = []
        if subject:
            where.append(Condition("subject", "=", subject))
        if active_at is not None:
            where.append(Condition("expire_time", ">", active_at))
            where.append(Condition("revoke_time", "=", None))
        query = Query(
            TOKEN,
            where=tuple(where),
            order=(Order("create_time", descending=True),),
            after=None if after is None else Position((after.create_time,), after.name),
            limit=limit,
        )
        return [Token.FromString(record.body) async for record in self.store.scan(query)]

    async def users(self, *, after: str | None, limit: int) -> list[User]:
        """In order of subject."""
        position = None if after is None else Position((), after)
        query = Query(USER, after=position, limit=limit)
        return [User.FromString(record.body) async for record in self.store.scan(query)]

    async def sweep(self, now: int, by: Author) -> int:
        """Remove sign-in codes that expired and tokens that did long ago, with their revocations;
        at most SWEEP_LIMIT of each. Answers how many went. Several processes may do this at once."""
        old = [
            *await self._expired(SIGN_IN_CODE, now),
            *await self._expired(TOKEN, now - KEEP_EXPIRED),
        ]
        if old:
            await self.store.commit(
                [Delete(record.kind, record.name, expect=Expect.ANY) for record in old], by=by
            )
        return len(old)

    async def _expired(self, kind: str, before: int) -> Sequence[Record]:
        query = Query(
            kind,
            where=(Condition("expire_time", "<=", before),),
            order=(Order("expire_time"),),
            limit=SWEEP_LIMIT,
        )
        return [record async for record in self.store.scan(query)]


def _put_token(token: Token) -> Put:
    return Put(TOKEN, token.id, _bytes(token), expect=Expect.ABSENT)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)

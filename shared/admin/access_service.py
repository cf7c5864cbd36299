"""roundhouse.admin.v1.AccessService: tokens, users, sign-in codes. Every process serves it."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from shared.admin.rate_limit import Bucket
from shared.auth.access import Access
from shared.auth.access_store import After
from shared.auth.permissions import PERMISSIONS, ROLE_NAMES, exceeds, lesser
from shared.auth.policy import authorize_grant
from shared.auth.tokens import MAX_TTL, ttl_fault
from shared.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Violation,
)
from shared.pb.roundhouse.admin.v1 import access_pb2 as pb
from shared.query import page_token
from shared.rpc.method import Call, Method, methods_of
from shared.storage.port import Author

SUBJECT_LENGTH: Final = 128
ID_LENGTH: Final = 128
NAMESPACE_LENGTH: Final = 253
MAX_NAMESPACES: Final = 1000
TOKEN_TTL: Final = timedelta(days=30)
SIGN_IN_TTL: Final = timedelta(hours=12)
CODE_TTL: Final = timedelta(minutes=10)
MAX_CODE_TTL: Final = timedelta(hours=1)
PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
# Wrong sign-in codes that one process answers: so many at once, then so many a second.
WRONG_CODES: Final = 20
WRONG_CODES_PER_SECOND: Final = 2.0

_CURSOR: Final = frozenset({"q", "t", "n"})
_WRONG_CODE: Final = "the sign-in code is not valid: it was used, has expired or was never issued"


SERVICE: Final = pb.DESCRIPTOR.services_by_name["AccessService"]


def methods(access: Access) -> list[Method]:
    """The service as a process registers it."""
    return methods_of(SERVICE, AccessService(access), PERMISSIONS)


class AccessService:
    """The handlers; permissions were checked before. Nobody hands out more than the own role."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._records = access.records
        self._wrong_codes = Bucket(WRONG_CODES_PER_SECOND, WRONG_CODES, access.clock)

    async def WhoAmI(self, request: pb.WhoAmIRequest, call: Call) -> pb.WhoAmIResponse:
        caller = call.identity
        answer = pb.WhoAmIResponse(
            subject=caller.subject,
            role=caller.role,
            permissions=sorted(caller.permissions),
            token_id=caller.token_id,
        )
        if caller.expires_at is not None:
            answer.expire_time.FromSeconds(int(caller.expires_at))
        return answer

    async def CreateToken(self, request: pb.CreateTokenRequest, call: Call) -> pb.CreateTokenResponse:
        ttl = _grant(request, TOKEN_TTL, MAX_TTL)
        authorize_grant(call.identity, request.role, call.method.permission)
        value, token = await self._access.issue(
            request.subject,
            request.role,
            ttl,
            creator=call.identity.subject,
            by=call.author("token:create"),
        )
        return pb.CreateTokenResponse(value=value, token=token)

    async def ListTokens(self, request: pb.ListTokensRequest, call: Call) -> pb.ListTokensResponse:
        if request.subject:
            _raise(_subject(request.subject, "subject"))
        size = _page_size(request.page_size)
        query = page_token.fingerprint("tokens", request.subject, str(request.only_active))
        tokens = await self._records.tokens(
            subject=request.subject,
            active_at=self._access.now_ns() if request.only_active else None,
            after=_after(request.page_token, query),
            limit=size + 1,
        )
        answer = pb.ListTokensResponse(tokens=tokens[:size])
        if len(tokens) > size:
            last = tokens[size - 1]
            answer.next_page_token = _token(query, last.create_time.ToNanoseconds(), last.id)
        return answer

    async def RevokeToken(self, request: pb.RevokeTokenRequest, call: Call) -> pb.Token:
        if not request.id:
            raise InvalidArgument.at("id", "is required: the id of the token, as ListTokens shows it")
        if len(request.id) > ID_LENGTH:
            raise InvalidArgument.at("id", f"has {len(request.id)} characters; ids have at most {ID_LENGTH}")
        token = await self._access.revoke(request.id, call.author("token:revoke"))
        if token is None:
            raise NotFound(f"there is no token {request.id!r}", kind="token", name=request.id)
        return token

    async def PutUser(self, request: pb.PutUserRequest, call: Call) -> pb.User:
        wanted = request.user
        _raise(
            _subject(wanted.subject, "user.subject")
            + _role(wanted.role, "user.role")
            + _namespaces(wanted.namespaces, "user.namespaces")
        )

        def check(before: pb.User | None) -> None:
            authorize_grant(call.identity, wanted.role, call.method.permission)
            if before is not None:
                authorize_grant(call.identity, before.role, call.method.permission)
            lowered = wanted.disabled or exceeds(call.identity.role, wanted.role)
            if wanted.subject == call.identity.subject and lowered:
                raise FailedPrecondition(
                    "you cannot disable yourself or lower your own role; another admin can",
                    kind="user",
                    name=wanted.subject,
                )

        user = await self._records.put_user(wanted, self._access.now_ns(), call.author("user:put"), check)
        self._access.forget_user(user.subject)
        return user

    async def ListUsers(self, request: pb.ListUsersRequest, call: Call) -> pb.ListUsersResponse:
        size = _page_size(request.page_size)
        query = page_token.fingerprint("users")
        after = _after(request.page_token, query)
        users = await self._records.users(after=None if after is None else after.name, limit=size + 1)
        answer = pb.ListUsersResponse(users=users[:size])
        if len(users) > size:
            answer.next_page_token = _token(query, 0, users[size - 1].subject)
        return answer

    async def CreateSignInCode(
        self, request: pb.CreateSignInCodeRequest, call: Call
    ) -> pb.CreateSignInCodeResponse:
        ttl = _grant(request, CODE_TTL, MAX_CODE_TTL)
        authorize_grant(call.identity, request.role, call.method.permission)
        code = secrets.token_urlsafe(24)  # 192 bits
        stored = pb.SignInCode(digest=_digest(code), subject=request.subject, role=request.role)
        stored.expire_time.FromNanoseconds(self._access.now_ns() + ttl // timedelta(microseconds=1) * 1000)
        await self._records.add_code(stored, call.author("sign_in_code:create"))
        await self._access.sweep()
        return pb.CreateSignInCodeResponse(code=code, expire_time=stored.expire_time)

    async def RedeemSignInCode(
        self, request: pb.RedeemSignInCodeRequest, call: Call
    ) -> pb.CreateTokenResponse:
        if not request.code:
            raise InvalidArgument.at("code", "is required")
        if wait := self._wrong_codes.wait():
            raise ResourceExhausted(f"too many wrong sign-in codes; try again in {math.ceil(wait)} s")
        try:
            return await self._redeem(request.code, call)
        except Unauthenticated:
            self._wrong_codes.take()
            raise

    async def _redeem(self, text: str, call: Call) -> pb.CreateTokenResponse:
        code = await self._records.code(_digest(text))
        if code is None or self._access.now_ns() >= code.expire_time.ToNanoseconds():
            raise Unauthenticated(_WRONG_CODE)
        user = await self._records.user(code.subject)
        if user is not None and user.disabled:
            raise Unauthenticated("the user of the sign-in code is disabled")
        role = code.role if user is None else lesser(code.role, user.role)
        value, token = self._access.prepare(code.subject, role, SIGN_IN_TTL, creator=code.subject)
        by = Author(code.subject, f"{call.transport}:sign_in_code:redeem", call.request_id)
        if not await self._records.redeem(code.digest, token, by):
            raise Unauthenticated(_WRONG_CODE)
        return pb.CreateTokenResponse(value=value, token=token)

    async def SignOut(self, request: pb.SignOutRequest, call: Call) -> pb.SignOutResponse:
        if not call.identity.token_id:
            raise FailedPrecondition("authentication is switched off: there is no token to revoke")
        await self._access.revoke(call.identity.token_id, call.author("token:sign_out"))
        return pb.SignOutResponse()


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _grant(
    request: pb.CreateTokenRequest | pb.CreateSignInCodeRequest, default: timedelta, longest: timedelta
) -> timedelta:
    """The time to live asked for. Raises InvalidArgument with all that is wrong with the request."""
    violations = _subject(request.subject, "subject") + _role(request.role, "role")
    ttl = default
    if request.HasField("ttl"):
        nanoseconds = _nanoseconds(request.ttl)
        if fault := ttl_fault(nanoseconds / 1e9, longest):
            violations.append(Violation("ttl", fault))
        else:
            ttl = timedelta(microseconds=nanoseconds // 1000)
    _raise(violations)
    return ttl


def _nanoseconds(ttl: Duration) -> int:
    """Whatever the fields hold: Duration's own conversion refuses what a client may well send."""
    return ttl.seconds * 10**9 + ttl.nanos


def _subject(subject: str, field: str) -> list[Violation]:
    return _text(subject, field, SUBJECT_LENGTH)


def _text(text: str, field: str, longest: int) -> list[Violation]:
    if not text:
        return [Violation(field, "must not be empty")]
    if len(text) > longest:
        return [Violation(field, f"has {len(text)} characters; at most {longest} are allowed")]
    if not text.isprintable() or any(character.isspace() for character in text):
        return [Violation(field, "must consist of printable characters without blanks")]
    return []


def _namespaces(names: Sequence[str], field: str) -> list[Violation]:
    """Names are the APIs' own; here they need to be such as can be shown."""
    if len(names) > MAX_NAMESPACES:
        return [Violation(field, f"has {len(names)} entries; at most {MAX_NAMESPACES} are allowed")]
    return [
        violation
        for n, name in enumerate(names)
        for violation in _text(name, f"{field}[{n}]", NAMESPACE_LENGTH)
    ]


def _role(role: str, field: str) -> list[Violation]:
    return [] if role in ROLE_NAMES else [Violation(field, f"must be one of {', '.join(ROLE_NAMES)}")]


def _raise(violations: list[Violation]) -> None:
    if violations:
        raise InvalidArgument.of(violations)


def _page_size(asked: int) -> int:
    if asked < 0:
        raise InvalidArgument.at("page_size", f"must be 0 (which is {PAGE_SIZE}) or more; got {asked}")
    return min(asked or PAGE_SIZE, MAX_PAGE_SIZE)


def _token(query: str, time: int, name: str) -> str:
    return page_token.encode({"q": query, "t": time, "n": name})


def _after(text: str, query: str) -> After | None:
    """Where the page before ended, as `_token` wrote it for the same query."""
    if not text:
        return None
    payload = page_token.decode(text, _CURSOR)
    time, name = payload["t"], payload["n"]
    if payload["q"] != query:
        raise InvalidArgument.at("page_token", "belongs to another request; start again without it")
    if type(time) is not int or not -(2**63) <= time < 2**63 or not isinstance(name, str):
        raise InvalidArgument.at("page_token", "is not a token of this server; start again without it")
    return After(time, name)

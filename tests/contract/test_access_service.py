"""AccessService over real gRPC: tokens, users, sign-in codes, and who may decide about them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc import StatusCode
from prometheus_client import CollectorRegistry

from shared.admin.access_service import WRONG_CODES, methods
from shared.auth.access import Access
from shared.auth.access_store import KINDS, SIGN_IN_CODE, TOKEN
from shared.auth.identity import Identity
from shared.auth.keys import KeyRing
from shared.auth.permissions import ROLES
from shared.errors import FailedPrecondition, PermissionDenied
from shared.pb.roundhouse.admin.v1 import access_pb2 as pb
from shared.pb.roundhouse.admin.v1.access_pb2_grpc import AccessServiceStub
from shared.rpc.client import CallFailed, Client
from shared.rpc.interceptors import Pipeline
from shared.rpc.method import Call
from shared.rpc.metrics import RpcMetrics
from shared.rpc.server import GrpcServer
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Query

NOW = 1_750_000_000.0
BY = Author("test")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """One process: its access, and a way to call it as anyone."""

    access: Access
    clock: Clock
    keys: Path
    tokens: dict[str, str]
    client: Client

    async def call(self, method: str, request: Message, who: str | None = "admin") -> Any:
        token = self.tokens.get(who or "", who or "")
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        return await self.client.call(AccessServiceStub, method, request, metadata=metadata)

    async def fails(
        self, method: str, request: Message, code: StatusCode, who: str | None = "admin"
    ) -> CallFailed:
        with pytest.raises(CallFailed) as caught:
            await self.call(method, request, who)
        assert caught.value.failure.code is code, caught.value
        return caught.value

    async def invalid(self, method: str, request: Message, *fields: str) -> None:
        """Refused, naming exactly these fields, with nothing written."""
        head = await self.access.records.store.head()
        error = await self.fails(method, request, StatusCode.INVALID_ARGUMENT)
        assert tuple(violation.field for violation in error.failure.violations) == fields
        assert all(violation.description for violation in error.failure.violations)
        assert await self.access.records.store.head() == head

    async def who(self, token: str) -> pb.WhoAmIResponse:
        return await self.call("WhoAmI", pb.WhoAmIRequest(), token)

    async def last(self) -> Author:
        """Who made the newest commit, but for housekeeping."""
        entries = await self.access.records.store.audit(limit=5)
        return next(entry.by for entry in entries if entry.by.action != "auth:token:sweep")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = Clock()
    store = MemoryStore(KINDS)
    await store.open()
    async with Access(store, KeyRing.open(tmp_path / "keys"), clock) as access:
        server = GrpcServer(
            Pipeline(access, RpcMetrics(CollectorRegistry())), [(m, None) for m in methods(access)]
        )
        port = server.listen("127.0.0.1:0")
        await server.start()
        tokens = {
            role: (await access.issue(f"{role}-1", role, timedelta(days=1), creator="test", by=BY))[0]
            for role in ROLES
        }
        async with Client(f"127.0.0.1:{port}") as client:
            yield House(access, clock, tmp_path / "keys", tokens, client)
        await server.stop(0)
    await store.close()


async def test_who_am_i(house: House) -> None:
    me = await house.call("WhoAmI", pb.WhoAmIRequest(), "operator")
    assert (me.subject, me.role) == ("operator-1", "operator")
    assert list(me.permissions) == sorted(ROLES["operator"])
    assert me.expire_time.ToSeconds() == int(NOW) + 86_400
    assert len(me.token_id) == 32


ADMIN_ONLY = [
    ("CreateToken", pb.CreateTokenRequest(subject="ann", role="viewer"), "tokens.create"),
    ("ListTokens", pb.ListTokensRequest(), "tokens.list"),
    ("RevokeToken", pb.RevokeTokenRequest(id="no such token"), "tokens.revoke"),
    ("PutUser", pb.PutUserRequest(), "users.put"),
    ("ListUsers", pb.ListUsersRequest(page_token="nonsense"), "users.list"),
    ("CreateSignInCode", pb.CreateSignInCodeRequest(), "signInCodes.create"),
]


@pytest.mark.parametrize("role", ["viewer", "operator"])
@pytest.mark.parametrize(("method", "request_", "permission"), ADMIN_ONLY)
async def test_too_small_a_role(
    house: House, role: str, method: str, request_: Message, permission: str
) -> None:
    """Before the request is even looked at: most of these are wrong or name what does not exist."""
    error = await house.fails(method, request_, StatusCode.PERMISSION_DENIED, role)
    assert error.failure.permission == permission
    assert permission in error.failure.message
    assert role in error.failure.message


@pytest.mark.parametrize("method", [row[0] for row in ADMIN_ONLY] + ["WhoAmI", "SignOut"])
async def test_without_a_token(house: House, method: str) -> None:
    request = getattr(pb, f"{method}Request")()
    error = await house.fails(method, request, StatusCode.UNAUTHENTICATED, who=None)
    assert error.failure.reason == "UNAUTHENTICATED"
    assert "authorization: Bearer" in error.failure.message


async def test_create_token(house: House) -> None:
    request = pb.CreateTokenRequest(subject="ann", role="operator", ttl=Duration(seconds=3600))
    made = await house.call("CreateToken", request)
    me = await house.who(made.value)
    assert (me.subject, me.role, me.token_id) == ("ann", "operator", made.token.id)
    assert made.token.creator == "admin-1"
    assert made.token.create_time.ToSeconds() == NOW
    assert made.token.expire_time.ToSeconds() == NOW + 3600
    assert (await house.last()).subject == "admin-1"
    assert (await house.last()).action == "grpc:token:create"


async def test_token_text_is_not_kept(house: House) -> None:
    made = await house.call("CreateToken", pb.CreateTokenRequest(subject="ann", role="viewer"))
    store = house.access.records.store
    kept = b"".join([record.body async for record in store.scan(Query(TOKEN))])
    assert made.token.id.encode() in kept
    assert made.value.rsplit(".", 1)[1].encode() not in kept


async def test_default_life_is_thirty_days(house: House) -> None:
    made = await house.call("CreateToken", pb.CreateTokenRequest(subject="ann", role="viewer"))
    assert made.token.expire_time.ToSeconds() - NOW == 30 * 86_400


async def test_token_ends(house: House) -> None:
    request = pb.CreateTokenRequest(subject="ann", role="viewer", ttl=Duration(seconds=1))
    made = await house.call("CreateToken", request)
    await house.who(made.value)
    house.clock.now += 1
    error = await house.fails("WhoAmI", pb.WhoAmIRequest(), StatusCode.UNAUTHENTICATED, made.value)
    assert "token is expired" in error.failure.message


GRANTS = ["CreateToken", "CreateSignInCode"]


@pytest.mark.parametrize("method", GRANTS)
async def test_malformed_grants(house: House, method: str) -> None:
    def request(subject: str = "ann", role: str = "viewer", **ttl: int) -> Message:
        made = getattr(pb, f"{method}Request")(subject=subject, role=role)
        if ttl:
            made.ttl.CopyFrom(Duration(**ttl))
        return made

    await house.invalid(method, request(subject="", role=""), "subject", "role")
    await house.invalid(method, request("a b", "root", seconds=-1), "subject", "role", "ttl")
    for subject in ("x" * 129, "tab\t", "new\nline", "nul\0", "soft\u00adhyphen", "blank\u2003", "\u202e"):
        await house.invalid(method, request(subject), "subject")
    for role in ("Admin", "admin ", "none", "anonymous", "\0", "jumpstarter.client", "jumpstarter.exporter"):
        await house.invalid(method, request(role=role), "role")
    longest = 400 * 86_400 if method == "CreateToken" else 3600
    for seconds in (0, -(2**63), 2**63 - 1, longest + 1):
        await house.invalid(method, request(seconds=seconds, nanos=5), "ttl")
    for nanos in (1, 999_999_999, -(2**31), 2**31 - 1):
        await house.invalid(method, request(seconds=-3, nanos=nanos), "ttl")
    await house.call(method, request("x" * 128, seconds=longest))
    await house.call(method, request("ünïcode:ns/name@example.org", seconds=1))


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("CreateToken", pb.CreateTokenRequest(subject="ann", role="admin")),
        ("CreateSignInCode", pb.CreateSignInCodeRequest(subject="ann", role="admin")),
        ("PutUser", pb.PutUserRequest(user=pb.User(subject="ann", role="admin"))),
        ("PutUser", pb.PutUserRequest(user=pb.User(subject="admin-2", role="viewer"))),
    ],
)
async def test_nobody_decides_above_the_own_role(house: House, name: str, request_: Message) -> None:
    """Even where a role below admin has the permission, which none has today: hence no socket."""
    await house.call("PutUser", pb.PutUserRequest(user=pb.User(subject="admin-2", role="admin")))
    method = next(method for method in methods(house.access) if method.name == name)
    head = await house.access.records.store.head()
    caller = Identity("olga", "operator", frozenset({method.permission}))
    with pytest.raises(PermissionDenied) as caught:
        await method.handler(request_, Call(method, "1", {}, "grpc", caller))
    assert caught.value.permission == method.permission
    assert await house.access.records.store.head() == head


async def test_nothing_to_sign_out_of_when_authentication_is_off(house: House) -> None:
    off = Access(house.access.records.store, KeyRing.open(house.keys), enabled=False)
    method = next(method for method in methods(off) if method.name == "SignOut")
    caller = await off.authenticate({})
    with pytest.raises(FailedPrecondition, match="switched off"):
        await method.handler(pb.SignOutRequest(), Call(method, "1", {}, "grpc", caller))


async def pages(house: House, size: int, **query: Any) -> list[list[str]]:
    found, token = [], ""
    while True:
        request = pb.ListTokensRequest(page_size=size, page_token=token, **query)
        page = await house.call("ListTokens", request)
        found.append([entry.id for entry in page.tokens])
        token = page.next_page_token
        if not token:
            return found


async def test_list_tokens(house: House) -> None:
    made = []
    for n in range(5):
        house.clock.now += n % 2  # some in the same second
        made.append(
            (await house.call("CreateToken", pb.CreateTokenRequest(subject="ann", role="viewer"))).token
        )
    expected = [token.id for token in sorted(made, key=lambda t: (-t.create_time.ToSeconds(), t.id))]
    assert await pages(house, 2, subject="ann") == [expected[:2], expected[2:4], expected[4:]]
    assert await pages(house, 5, subject="ann") == [expected]  # exactly full: no further page
    assert len((await pages(house, 0))[0]) == 5 + 3
    assert await pages(house, 3, subject="nobody") == [[]]


async def test_list_active_tokens(house: House) -> None:
    request = pb.CreateTokenRequest(subject="ann", role="viewer", ttl=Duration(seconds=5))
    short = (await house.call("CreateToken", request)).token.id
    request.ttl.seconds = 50
    revoked = (await house.call("CreateToken", request)).token.id
    good = (await house.call("CreateToken", request)).token.id
    await house.call("RevokeToken", pb.RevokeTokenRequest(id=revoked))
    house.clock.now += 5
    assert await pages(house, 9, subject="ann", only_active=True) == [[good]]
    assert set((await pages(house, 9, subject="ann"))[0]) == {short, revoked, good}


async def test_malformed_lists(house: House) -> None:
    for _ in range(3):
        await house.call("CreateToken", pb.CreateTokenRequest(subject="ann", role="viewer"))
    token = (await house.call("ListTokens", pb.ListTokensRequest(page_size=1))).next_page_token
    await house.invalid("ListTokens", pb.ListTokensRequest(page_size=-1), "page_size")
    await house.invalid("ListUsers", pb.ListUsersRequest(page_size=-(2**31)), "page_size")
    await house.invalid("ListTokens", pb.ListTokensRequest(subject="a b"), "subject")
    for bad in ("x", "!!", "e30", token[:-2], token + "A", "é", "A" * 20_000):
        await house.invalid("ListTokens", pb.ListTokensRequest(page_token=bad), "page_token")
        await house.invalid("ListUsers", pb.ListUsersRequest(page_token=bad), "page_token")
    # A token of another query is refused rather than misread.
    await house.invalid("ListTokens", pb.ListTokensRequest(page_token=token, subject="ann"), "page_token")
    await house.invalid("ListTokens", pb.ListTokensRequest(page_token=token, only_active=True), "page_token")
    await house.invalid("ListUsers", pb.ListUsersRequest(page_token=token), "page_token")
    assert len((await house.call("ListTokens", pb.ListTokensRequest(page_size=2**31 - 1))).tokens) == 6


async def test_revoke_token(house: House) -> None:
    made = await house.call("CreateToken", pb.CreateTokenRequest(subject="ann", role="viewer"))
    await house.who(made.value)
    house.clock.now += 7
    first = await house.call("RevokeToken", pb.RevokeTokenRequest(id=made.token.id))
    assert first.revoke_time.ToSeconds() == NOW + 7
    assert (await house.last()).action == "grpc:token:revoke"
    error = await house.fails("WhoAmI", pb.WhoAmIRequest(), StatusCode.UNAUTHENTICATED, made.value)
    assert "revoked" in error.failure.message
    house.clock.now += 1
    assert await house.call("RevokeToken", pb.RevokeTokenRequest(id=made.token.id)) == first


async def test_revoke_what_is_not_there(house: House) -> None:
    error = await house.fails("RevokeToken", pb.RevokeTokenRequest(id="unknown"), StatusCode.NOT_FOUND)
    assert (error.failure.resource_type, error.failure.resource_name) == ("token", "unknown")
    await house.invalid("RevokeToken", pb.RevokeTokenRequest(), "id")
    await house.invalid("RevokeToken", pb.RevokeTokenRequest(id="x" * 129), "id")


async def test_put_user(house: House) -> None:
    put = pb.PutUserRequest(user=pb.User(subject="ann", role="viewer"))
    put.user.create_time.FromSeconds(5)  # output only
    user = await house.call("PutUser", put)
    assert user.create_time.ToSeconds() == NOW
    assert (await house.last()).action == "grpc:user:put"
    house.clock.now += 9
    changed = await house.call("PutUser", pb.PutUserRequest(user=pb.User(subject="ann", role="operator")))
    assert changed == pb.User(subject="ann", role="operator", create_time=user.create_time)
    head = await house.access.records.store.head()
    assert await house.call("PutUser", pb.PutUserRequest(user=changed)) == changed
    assert await house.access.records.store.head() == head  # the same again writes nothing


async def test_disabled_user_is_out_at_once_and_back_again(house: House) -> None:
    made = await house.call("CreateToken", pb.CreateTokenRequest(subject="ann", role="viewer"))
    await house.who(made.value)
    user = pb.User(subject="ann", role="viewer", disabled=True)
    await house.call("PutUser", pb.PutUserRequest(user=user))
    error = await house.fails("WhoAmI", pb.WhoAmIRequest(), StatusCode.UNAUTHENTICATED, made.value)
    assert "disabled" in error.failure.message
    user.disabled = False
    await house.call("PutUser", pb.PutUserRequest(user=user))
    assert (await house.who(made.value)).subject == "ann"


async def test_malformed_users(house: House) -> None:
    await house.invalid("PutUser", pb.PutUserRequest(), "user.subject", "user.role")
    await house.invalid(
        "PutUser", pb.PutUserRequest(user=pb.User(subject="a\n", role="viewer")), "user.subject"
    )
    await house.invalid("PutUser", pb.PutUserRequest(user=pb.User(subject="a", role="x")), "user.role")


async def test_namespaces_of_a_user(house: House) -> None:
    wanted = pb.User(subject="ann", role="operator", namespaces=["team-b", "team-a", "team-b"])
    user = await house.call("PutUser", pb.PutUserRequest(user=wanted))
    assert list(user.namespaces) == ["team-a", "team-b"]
    assert list((await house.call("ListUsers", pb.ListUsersRequest())).users) == [user]
    for names, field in (
        (["ok", ""], "user.namespaces[1]"),
        (["a b"], "user.namespaces[0]"),
        (["x" * 254], "user.namespaces[0]"),
        (["ns"] * 1001, "user.namespaces"),
    ):
        wanted.namespaces[:] = names
        await house.invalid("PutUser", pb.PutUserRequest(user=wanted), field)


@pytest.mark.parametrize(
    "user",
    [
        pb.User(subject="admin-1", role="admin", disabled=True),
        pb.User(subject="admin-1", role="operator"),
    ],
)
async def test_nobody_locks_themselves_out(house: House, user: pb.User) -> None:
    error = await house.fails("PutUser", pb.PutUserRequest(user=user), StatusCode.FAILED_PRECONDITION)
    assert error.failure.resource_name == "admin-1"
    await house.call("PutUser", pb.PutUserRequest(user=pb.User(subject="admin-1", role="admin")))
    assert (await house.call("WhoAmI", pb.WhoAmIRequest())).role == "admin"


async def test_list_users(house: House) -> None:
    for subject in ("bob", "ann", "Zoe", "éva", "carl"):
        await house.call("PutUser", pb.PutUserRequest(user=pb.User(subject=subject, role="viewer")))
    found, token = [], ""
    while True:
        page = await house.call("ListUsers", pb.ListUsersRequest(page_size=2, page_token=token))
        found.append([user.subject for user in page.users])
        if not (token := page.next_page_token):
            break
    assert found == [["Zoe", "ann"], ["bob", "carl"], ["éva"]]


async def code(house: House, subject: str = "ann", role: str = "operator", **ttl: int) -> str:
    request = pb.CreateSignInCodeRequest(subject=subject, role=role)
    if ttl:
        request.ttl.CopyFrom(Duration(**ttl))
    return (await house.call("CreateSignInCode", request)).code


async def redeem(house: House, text: str) -> pb.CreateTokenResponse:
    return await house.call("RedeemSignInCode", pb.RedeemSignInCodeRequest(code=text), None)


async def test_sign_in_code_is_good_once(house: House) -> None:
    request = pb.CreateSignInCodeRequest(subject="ann", role="operator")
    made = await house.call("CreateSignInCode", request)
    assert made.expire_time.ToSeconds() == NOW + 600
    assert len(made.code) == 32
    answer = await redeem(house, made.code)
    assert answer.token.expire_time.ToSeconds() == NOW + 12 * 3600
    me = await house.who(answer.value)
    assert (me.subject, me.role) == ("ann", "operator")
    by = await house.last()
    assert (by.subject, by.action) == ("ann", "grpc:sign_in_code:redeem")
    error = await house.fails(
        "RedeemSignInCode",
        pb.RedeemSignInCodeRequest(code=made.code),
        StatusCode.UNAUTHENTICATED,
        None,
    )
    assert "not valid" in error.failure.message


async def test_code_itself_is_not_kept(house: House) -> None:
    text = await code(house)
    records = [record async for record in house.access.records.store.scan(Query(SIGN_IN_CODE))]
    assert [record.name for record in records] == [hashlib.sha256(text.encode()).hexdigest()]
    assert text.encode() not in records[0].body


async def test_of_many_at_once_one_gets_in(house: House) -> None:
    text = await code(house)
    answers = await asyncio.gather(*(redeem(house, text) for _ in range(8)), return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, pb.CreateTokenResponse)]
    lost = [answer for answer in answers if isinstance(answer, CallFailed)]
    assert (len(won), len(lost)) == (1, 7)
    assert {error.failure.code for error in lost} == {StatusCode.UNAUTHENTICATED}
    tokens = await house.call("ListTokens", pb.ListTokensRequest(subject="ann"))
    assert [token.id for token in tokens.tokens] == [won[0].token.id]


async def test_code_ends_and_is_swept(house: House) -> None:
    text = await code(house, seconds=60)
    house.clock.now += 60
    await house.fails(
        "RedeemSignInCode", pb.RedeemSignInCodeRequest(code=text), StatusCode.UNAUTHENTICATED, None
    )
    await code(house)
    store = house.access.records.store
    assert len([record async for record in store.scan(Query(SIGN_IN_CODE))]) == 1


async def test_code_of_a_disabled_or_lowered_user(house: House) -> None:
    text = await code(house, role="admin")
    user = pb.User(subject="ann", role="viewer", disabled=True)
    await house.call("PutUser", pb.PutUserRequest(user=user))
    await house.fails(
        "RedeemSignInCode", pb.RedeemSignInCodeRequest(code=text), StatusCode.UNAUTHENTICATED, None
    )
    user.disabled = False
    await house.call("PutUser", pb.PutUserRequest(user=user))
    assert (await redeem(house, text)).token.role == "viewer"


async def test_wrong_codes_are_limited(house: House) -> None:
    wrong = pb.RedeemSignInCodeRequest(code="x" * 5000)
    good = await code(house)
    for _ in range(WRONG_CODES):
        await house.fails("RedeemSignInCode", wrong, StatusCode.UNAUTHENTICATED, None)
    error = await house.fails("RedeemSignInCode", wrong, StatusCode.RESOURCE_EXHAUSTED, None)
    assert "try again in 1 s" in error.failure.message
    house.clock.now += 1
    assert (await redeem(house, good)).token.subject == "ann"


async def test_right_codes_are_not_limited(house: House) -> None:
    for n in range(WRONG_CODES + 3):
        assert (await redeem(house, await code(house, f"user-{n}"))).token.subject == f"user-{n}"


async def test_code_is_required(house: House) -> None:
    error = await house.fails(
        "RedeemSignInCode", pb.RedeemSignInCodeRequest(), StatusCode.INVALID_ARGUMENT, None
    )
    assert [violation.field for violation in error.failure.violations] == ["code"]


async def test_sign_out_revokes_the_token_of_the_call_alone(house: House) -> None:
    first, second = [await redeem(house, await code(house)) for _ in range(2)]
    await house.call("SignOut", pb.SignOutRequest(), first.value)
    by = await house.last()
    assert (by.subject, by.action) == ("ann", "grpc:token:sign_out")
    await house.fails("WhoAmI", pb.WhoAmIRequest(), StatusCode.UNAUTHENTICATED, first.value)
    assert (await house.who(second.value)).subject == "ann"

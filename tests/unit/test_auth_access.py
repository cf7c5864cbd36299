"""Authentication against the access store: what counts, what stops counting, and how soon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.auth.access import TRUST, Access
from shared.auth.access_store import KEEP_EXPIRED, KINDS, SIGN_IN_CODE, SWEEP_LIMIT, TOKEN, USER
from shared.auth.identity import Identity
from shared.auth.keys import KeyRing
from shared.auth.permissions import EVERYTHING, ROLES
from shared.errors import Unauthenticated
from shared.pb.roundhouse.admin.v1.access_pb2 import SignInCode, Token, User
from shared.storage.errors import StoreFull, StoreUnavailable
from shared.storage.memory import MemoryStore
from shared.storage.port import Author, Check, Commit, Delete, Put, Query, Record, Store

NOW = 1_750_000_000.0
HOUR = timedelta(hours=1)
BY = Author("test")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class CountingStore(MemoryStore):
    """Counts reads, and can be made to fail or to pause in the middle of one."""

    def __init__(self) -> None:
        super().__init__(KINDS)
        self.reads = 0
        self.failing = False
        self.full = False
        self.after_read: Callable[[], Any] | None = None

    async def get(self, kind: str, name: str, *, at: int | None = None) -> Record | None:
        self.reads += 1
        if self.failing:
            raise StoreUnavailable("the disk is on holiday")
        found = await super().get(kind, name, at=at)
        if self.after_read is not None:
            act, self.after_read = self.after_read, None
            await act()
        return found

    async def commit(
        self, changes: Sequence[Put | Delete], *, checks: Sequence[Check] = (), by: Author
    ) -> Commit:
        if self.full:
            raise StoreFull("no space left")
        return await super().commit(changes, checks=checks, by=by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store() -> AsyncIterator[CountingStore]:
    opened = CountingStore()
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing.open(tmp_path / "keys")


@pytest.fixture
async def access(store: CountingStore, keys: KeyRing, clock: Clock) -> AsyncIterator[Access]:
    async with Access(store, keys, clock) as started:
        yield started


async def token(access: Access, subject: str = "ann", role: str = "operator") -> tuple[dict[str, str], str]:
    """Metadata that bears a new token, and its id."""
    text, record = await access.issue(subject, role, HOUR, creator="test", by=BY)
    return {"authorization": f"Bearer {text}"}, record.id


async def put_user(
    store: Store, subject: str, role: str, disabled: bool = False, namespaces: tuple[str, ...] = ()
) -> None:
    user = User(subject=subject, role=role, disabled=disabled, namespaces=namespaces)
    await store.commit([Put(USER, subject, user.SerializeToString())], by=BY)


async def names(store: Store, kind: str) -> set[str]:
    return {record.name async for record in store.scan(Query(kind))}


async def refused(access: Access, metadata: dict[str, str]) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await access.authenticate(metadata)
    return caught.value.message


async def until_refused(access: Access, metadata: dict[str, str]) -> str:
    """Wait, a turn of the loop at a time, for what another process did to arrive."""
    async with asyncio.timeout(5):
        while True:
            try:
                await access.authenticate(metadata)
            except Unauthenticated as error:
                return error.message
            await asyncio.sleep(0)


async def test_identity_of_a_token(access: Access) -> None:
    metadata, token_id = await token(access, "ann", "operator")
    assert await access.authenticate(metadata) == Identity(
        subject="ann",
        role="operator",
        permissions=ROLES["operator"],
        token_id=token_id,
        expires_at=NOW + 3600,
        namespaces=frozenset(),
    )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "  bEaReR   "])
async def test_scheme_in_any_case(access: Access, scheme: str) -> None:
    metadata, _ = await token(access)
    text = metadata["authorization"].removeprefix("Bearer ")
    assert (await access.authenticate({"authorization": f"{scheme} {text} "})).subject == "ann"


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "no token: send 'authorization: Bearer <token>'"),
        ({"authorization": "  "}, "no token"),
        ({"authorization": "Basic YW5uOnNlY3JldA=="}, "must read 'Bearer <token>'"),
        ({"authorization": "Bearer"}, "must read 'Bearer <token>'"),
        ({"authorization": "eyJhbGciOiJIUzI1NiJ9"}, "must read 'Bearer <token>'"),
        ({"authorization": "Bearer one two"}, "malformed"),
        ({"authorization": "Bearer x"}, "malformed"),
        ({"authorization": "Bearer \udcff"}, "malformed"),
    ],
)
async def test_what_is_wrong_is_said(access: Access, metadata: dict[str, str], says: str) -> None:
    message = await refused(access, metadata)
    assert says in message
    assert "secret" not in message
    assert "YW5u" not in message


async def test_token_is_looked_up_once(access: Access, store: CountingStore) -> None:
    metadata, _ = await token(access)
    await access.authenticate(metadata)
    reads = store.reads
    for _ in range(10):
        await access.authenticate(metadata)
    assert store.reads == reads


async def test_remembered_token_expires(access: Access, clock: Clock) -> None:
    metadata, _ = await token(access)
    clock.now += 3590
    await access.authenticate(metadata)
    clock.now += 10
    assert "token is expired" in await refused(access, metadata)
    assert "token is expired" in await refused(access, metadata)  # and when it is looked up again


async def test_token_that_is_not_on_record(
    access: Access, store: CountingStore, keys: KeyRing, clock: Clock
) -> None:
    metadata, token_id = await token(access)
    clock.now += 10  # so old that no peer's commit can still be on its way
    await store.commit([Delete(TOKEN, token_id)], by=BY)
    assert "not on record" in await refused(access, metadata)


async def test_young_token_whose_record_is_on_its_way(access: Access, store: CountingStore) -> None:
    text, record = access.prepare("ann", "viewer", HOUR, creator="test")
    store.after_read = lambda: access.records.add_token(record, BY)
    assert (await access.authenticate({"authorization": f"Bearer {text}"})).subject == "ann"


async def test_revocation_counts_at_once_in_its_own_process(access: Access) -> None:
    metadata, token_id = await token(access)
    other, _ = await token(access)
    await access.authenticate(metadata)
    await access.authenticate(other)
    revoked = await access.revoke(token_id, BY)
    assert revoked is not None
    assert revoked.revoke_time.ToNanoseconds() == int(NOW) * 10**9
    assert "revoked" in await refused(access, metadata)
    assert (await access.authenticate(other)).subject == "ann"


async def test_revoking_again_changes_nothing(access: Access, store: CountingStore, clock: Clock) -> None:
    _, token_id = await token(access)
    first = await access.revoke(token_id, BY)
    head = await store.head()
    clock.now += 5
    assert await access.revoke(token_id, BY) == first
    assert await store.head() == head
    assert await access.revoke("unknown", BY) is None


async def test_revocation_by_a_peer(
    access: Access, store: CountingStore, keys: KeyRing, clock: Clock
) -> None:
    metadata, token_id = await token(access)
    await access.authenticate(metadata)
    async with Access(store, keys, clock) as peer:
        await peer.revoke(token_id, BY)
        assert "revoked" in await until_refused(access, metadata)


async def test_disabled_user(access: Access, store: CountingStore) -> None:
    metadata, _ = await token(access)
    await access.authenticate(metadata)
    await put_user(store, "ann", "operator", disabled=True)
    assert "disabled" in await until_refused(access, metadata)
    await put_user(store, "ann", "operator", disabled=False)
    assert (await access.authenticate(metadata)).role == "operator"


@pytest.mark.parametrize(
    ("of_token", "of_user", "effective"),
    [
        ("admin", "viewer", "viewer"),
        ("viewer", "admin", "viewer"),
        ("operator", "operator", "operator"),
        ("admin", "from a newer version", "from a newer version"),
    ],
)
async def test_role_is_the_lesser(
    access: Access, store: CountingStore, of_token: str, of_user: str, effective: str
) -> None:
    metadata, _ = await token(access, "ann", of_token)
    await put_user(store, "ann", of_user)
    identity = await access.authenticate(metadata)
    assert identity.role == effective
    assert identity.permissions == ROLES.get(effective, frozenset())


@pytest.mark.parametrize(
    ("role", "stored", "expected"),
    [
        ("operator", (), frozenset()),
        ("operator", ("a", "b"), frozenset({"a", "b"})),
        ("viewer", ("a", "*"), None),
        ("admin", ("a",), None),
    ],
)
async def test_namespaces_are_those_of_the_user(
    access: Access,
    store: CountingStore,
    role: str,
    stored: tuple[str, ...],
    expected: frozenset[str] | None,
) -> None:
    metadata, _ = await token(access, "ann", role)
    await put_user(store, "ann", role, namespaces=stored)
    assert (await access.authenticate(metadata)).namespaces == expected
    assert (await access.identity_of("ann")).namespaces == expected


async def test_admin_token_of_a_lowered_user_is_bound_to_namespaces(
    access: Access, store: CountingStore
) -> None:
    metadata, _ = await token(access, "ann", "admin")
    assert (await access.authenticate(metadata)).namespaces is None
    await put_user(store, "bob", "operator", namespaces=("a",))
    bobs, _ = await token(access, "bob", "admin")
    assert (await access.authenticate(bobs)).namespaces == {"a"}


async def test_identity_of_a_user_who_is_spoken_for(access: Access, store: CountingStore) -> None:
    await put_user(store, "ann", "operator", namespaces=("a",))
    assert await access.identity_of("ann") == Identity(
        "ann", "operator", ROLES["operator"], namespaces=frozenset({"a"})
    )
    await put_user(store, "ann", "operator", disabled=True)
    for subject in ("ann", "nobody", ""):
        with pytest.raises(Unauthenticated, match="disabled" if subject == "ann" else "unknown"):
            await access.identity_of(subject)


async def test_lowered_role_reaches_remembered_tokens_of_that_user_only(
    access: Access, store: CountingStore
) -> None:
    anns, _ = await token(access, "ann", "admin")
    bobs, _ = await token(access, "bob", "admin")
    await access.authenticate(anns)
    await access.authenticate(bobs)
    await put_user(store, "ann", "viewer")
    async with asyncio.timeout(5):
        while True:
            if (await access.authenticate(anns)).role == "viewer":
                break
            await asyncio.sleep(0)
    assert (await access.authenticate(bobs)).role == "admin"


async def test_look_up_that_a_revocation_overtakes_is_not_remembered(
    access: Access, store: CountingStore
) -> None:
    metadata, token_id = await token(access)
    store.after_read = lambda: access.revoke(token_id, BY)
    # The record was read before the revocation, so this call still passes; the next one does not.
    await access.authenticate(metadata)
    assert "revoked" in await refused(access, metadata)


async def test_nothing_is_trusted_for_long_without_the_store(
    access: Access, store: CountingStore, clock: Clock
) -> None:
    metadata, _ = await token(access)
    await access.authenticate(metadata)
    store.failing = True
    clock.now += TRUST - 1
    await access.authenticate(metadata)
    clock.now += 1
    with pytest.raises(StoreUnavailable):
        await access.authenticate(metadata)
    store.failing = False
    assert (await access.authenticate(metadata)).subject == "ann"


async def test_compaction_under_a_follower(access: Access, store: CountingStore, clock: Clock) -> None:
    metadata, token_id = await token(access)
    await access.authenticate(metadata)
    # The follower gets no turn between these, so its place in the log is gone when it reads on.
    await store.commit([Put(TOKEN, token_id, Token(id=token_id).SerializeToString())], by=BY)
    await store.commit([Delete(TOKEN, token_id)], by=BY)
    await store.compact(await store.head())
    clock.now += 10  # no longer waits for a young token's record
    assert "not on record" in await until_refused(access, metadata)
    fresh, fresh_id = await token(access)
    await access.authenticate(fresh)
    await access.records.revoke(fresh_id, 1, BY)  # it follows on
    assert "revoked" in await until_refused(access, fresh)


async def test_memory_is_bounded(store: CountingStore, keys: KeyRing, clock: Clock) -> None:
    async with Access(store, keys, clock, cache_size=2) as access:
        held = [(await token(access))[0] for _ in range(3)]
        for metadata in held:
            await access.authenticate(metadata)
        reads = store.reads
        await access.authenticate(held[1])
        await access.authenticate(held[2])
        assert store.reads == reads
        await access.authenticate(held[0])
        assert store.reads > reads


async def test_forged_tokens_are_not_remembered_and_not_looked_up(
    access: Access, store: CountingStore
) -> None:
    metadata, _ = await token(access)
    head, payload, signature = metadata["authorization"].split(".")
    reads = store.reads
    for _ in range(5):
        await refused(access, {"authorization": f"{head}.{payload}.{signature[::-1]}"})
    assert store.reads == reads


async def test_switched_off_lets_everyone_do_everything_and_says_so(
    store: CountingStore, keys: KeyRing, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with Access(store, keys, clock, enabled=False) as access:
            for metadata in ({}, {"authorization": "Bearer nonsense"}):
                identity = await access.authenticate(metadata)
                assert identity.subject == "anonymous"
                assert identity.permissions == EVERYTHING >= ROLES["admin"]
                assert identity.expires_at is None
    assert [record.message for record in caplog.records if "SWITCHED OFF" in record.message] == [
        "AUTHENTICATION IS SWITCHED OFF: whoever reaches this process may do everything; "
        "set ROUNDHOUSE_AUTH=true to ask for tokens"
    ]


async def test_start_sweeps_what_expired(store: CountingStore, keys: KeyRing, clock: Clock) -> None:
    now = int(NOW) * 10**9
    kept, gone = Token(id="kept", subject="ann"), Token(id="gone", subject="ann")
    kept.expire_time.FromNanoseconds(now - KEEP_EXPIRED + 10**9)
    gone.expire_time.FromNanoseconds(now - KEEP_EXPIRED)
    gone.revoke_time.FromNanoseconds(5)
    fresh, old = SignInCode(digest="fresh"), SignInCode(digest="old")
    fresh.expire_time.FromNanoseconds(now + 1)
    old.expire_time.FromNanoseconds(now)
    await store.commit(
        [
            *(Put(TOKEN, record.id, record.SerializeToString()) for record in (kept, gone)),
            *(Put(SIGN_IN_CODE, record.digest, record.SerializeToString()) for record in (fresh, old)),
        ],
        by=BY,
    )
    async with Access(store, keys, clock) as access:
        assert await names(store, TOKEN) == {"kept"}
        assert await names(store, SIGN_IN_CODE) == {"fresh"}
        assert (await store.audit(limit=1))[0].by.action == "auth:token:sweep"
        assert await access.sweep() == 0


async def test_one_sweep_is_bounded_work(store: CountingStore, keys: KeyRing, clock: Clock) -> None:
    old = [SignInCode(digest=f"{n:04}") for n in range(SWEEP_LIMIT + 5)]
    await store.commit([Put(SIGN_IN_CODE, code.digest, code.SerializeToString()) for code in old], by=BY)
    access = Access(store, keys, clock)
    assert await access.sweep() == SWEEP_LIMIT
    assert await access.sweep() == 5


async def test_full_disk_stops_housekeeping_only(store: CountingStore, keys: KeyRing, clock: Clock) -> None:
    metadata, _ = await token(Access(store, keys, clock))
    code = SignInCode(digest="old")
    await store.commit([Put(SIGN_IN_CODE, code.digest, code.SerializeToString())], by=BY)
    store.full = True
    async with Access(store, keys, clock) as access:
        assert (await access.authenticate(metadata)).subject == "ann"
        assert await access.sweep() == 0
        store.full = False
        assert await access.sweep() == 1


async def test_close_ends_the_follower(store: CountingStore, keys: KeyRing, clock: Clock) -> None:
    before = asyncio.all_tasks()
    access = Access(store, keys, clock)
    await access.start()
    assert asyncio.all_tasks() - before
    await access.close()
    assert asyncio.all_tasks() - before == set()
    await access.close()


async def test_tokens_of_one_key_ring_only(access: Access, store: CountingStore, tmp_path: Path) -> None:
    stranger = Access(store, KeyRing.open(tmp_path / "stranger"), access.clock)
    metadata, _ = await token(stranger)  # even on record here
    assert "signature" in await refused(access, metadata)

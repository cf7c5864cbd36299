"""RouterService over real sockets: frames arrive in order and whole, both ways; calls end as agreed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest

from services.jumpstarter.api import router_tokens
from services.jumpstarter.api.router_tokens import RouterTokens
from shared.auth.keys import KeyRing
from shared.auth.tokens import Tokens
from shared.pb.jumpstarter.v1 import router_pb2 as pb
from tests.contract.router_yard import ALONE, GOAWAY, Yard, bearer, data, end, opened, read
from tests.patience import PATIENCE

FRAMES = 10_000


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(tmp_path) as found:
        yield found


def frames(seed: int) -> list[pb.StreamRequest]:
    """Mostly small, some empty, some of a file transfer's size, of all types."""
    draw = random.Random(seed)
    found = []
    for number in range(FRAMES):
        size = draw.choice((0, draw.randrange(80), draw.randrange(80), draw.randrange(4_000)))
        if draw.random() < 0.004:
            size = draw.randrange(65_537)
        payload = number.to_bytes(4) + draw.randbytes(size) if size else b""
        kind = draw.choice((pb.FRAME_TYPE_DATA,) * 9 + (pb.FRAME_TYPE_PING,))
        found.append(pb.StreamRequest(payload=payload, frame_type=kind))
    return found


async def send(call: Any, sent: list[pb.StreamRequest]) -> None:
    for frame in sent:
        await call.write(frame)
    await call.write(GOAWAY)
    await call.done_writing()


async def receive(call: Any) -> list[bytes]:
    return [frame.SerializeToString() async for frame in call]


async def test_frames_arrive_in_order_and_whole_both_ways(yard: Yard) -> None:
    token, there, back = yard.token("s"), frames(1), frames(2)
    one, other = yard.call(token), yard.call(token, yard.exporter)
    async with asyncio.timeout(60):
        _, _, at_other, at_one = await asyncio.gather(
            send(one, there), send(other, back), receive(other), receive(one)
        )
    goaway = GOAWAY.SerializeToString()
    assert at_other == [*(frame.SerializeToString() for frame in there), goaway]
    assert at_one == [*(frame.SerializeToString() for frame in back), goaway]
    assert [await one.code(), await other.code()] == [grpc.StatusCode.OK] * 2


async def test_what_the_first_caller_sends_early_is_not_lost(yard: Yard) -> None:
    token = yard.token("s")
    first = yard.call(token)
    await first.write(data(b"early"))
    await first.write(GOAWAY)
    await first.done_writing()
    await yard.waiting(1)
    second = yard.call(token, yard.exporter)
    assert (await read(second)).payload == b"early"
    assert (await read(second)).frame_type == pb.FRAME_TYPE_GOAWAY
    await second.done_writing()
    assert [await end(first), await end(second)] == [(grpc.StatusCode.OK, "")] * 2


async def test_one_direction_goes_on_when_the_other_has_ended(yard: Yard) -> None:
    one, other = await yard.pair("s")
    await one.write(GOAWAY)
    await one.done_writing()
    assert (await read(other)).frame_type == pb.FRAME_TYPE_GOAWAY
    for number in range(100):
        await other.write(data(b"late %d" % number))
        assert (await read(one)).payload == b"late %d" % number
    assert not one.done() and not other.done()
    await other.done_writing()
    assert [await end(one), await end(other)] == [(grpc.StatusCode.OK, "")] * 2
    await yard.empty()


async def test_streams_do_not_mix(yard: Yard) -> None:
    pairs = await asyncio.gather(*(yard.pair(f"s{number}") for number in range(20)))
    for number, (one, other) in enumerate(pairs):
        await one.write(data(b"to %d" % number))
        await other.write(data(b"from %d" % number))
    for number, (one, other) in enumerate(pairs):
        assert (await read(other)).payload == b"to %d" % number
        assert (await read(one)).payload == b"from %d" % number


async def test_a_slow_reader_slows_its_writer_and_nothing_piles_up(yard: Yard) -> None:
    """The windows of HTTP/2 are all that is between them."""
    one, other = await yard.pair("s")
    frame = data(bytes(65_536))
    sent = 0

    async def write() -> None:
        nonlocal sent
        while sent < 1_600:
            await one.write(frame)
            sent += 1
        await one.done_writing()

    writer = asyncio.create_task(write())
    try:
        # It stands still once everything between them is full.
        seen = -1
        while seen != sent:
            seen = sent
            await asyncio.wait({writer}, timeout=0.5)
        assert not writer.done() and sent * 65_536 < 16 << 20
        await other.done_writing()
        received = most = 0
        while await read(other) is not grpc.aio.EOF:
            received += 1
            most = max(most, sent - received)
        assert received == sent == 1_600
        assert most * 65_536 < 16 << 20
    finally:
        writer.cancel()


@pytest.mark.parametrize("exporter", [False, True])
async def test_when_one_is_cancelled_the_other_ends(yard: Yard, exporter: bool) -> None:
    one, other = await yard.pair("s")
    gone, left = (other, one) if exporter else (one, other)
    gone.cancel()
    assert await end(left) == (grpc.StatusCode.UNAVAILABLE, "the other side of the stream is gone")
    await yard.empty()


async def test_when_one_vanishes_the_other_ends(yard: Yard) -> None:
    token = yard.token("s")
    async with grpc.aio.insecure_channel(yard.target, options=ALONE) as channel:
        gone = yard.call(token, channel)
        await gone.write(data(b"hello"))
        left = yard.call(token, yard.exporter)
        assert (await read(left)).payload == b"hello"
    assert (await end(left))[0] is grpc.StatusCode.UNAVAILABLE
    await yard.empty()


async def test_when_the_writer_of_a_slow_reader_vanishes_the_reader_ends(yard: Yard) -> None:
    one, other = await yard.pair("s")
    with pytest.raises(TimeoutError):
        while True:
            async with asyncio.timeout(0.5):
                await one.write(data(bytes(65_536)))
    one.cancel()
    assert (await end(other))[0] is grpc.StatusCode.UNAVAILABLE
    await yard.empty()


async def test_a_third_caller_is_refused(yard: Yard) -> None:
    one, other = await yard.pair("s")
    for _ in range(2):
        code, text = await end(yard.call(yard.token("s")))
        assert code is grpc.StatusCode.FAILED_PRECONDITION and "dial again" in text
    await one.write(data(b"still here"))
    assert (await read(other)).payload == b"still here"
    for call in (one, other):
        await call.done_writing()
    assert [await end(one), await end(other)] == [(grpc.StatusCode.OK, "")] * 2
    assert (await end(yard.call(yard.token("s"))))[0] is grpc.StatusCode.FAILED_PRECONDITION


async def test_used_tokens_are_forgotten_once_they_are_expired(yard: Yard) -> None:
    for number in range(5):
        await yard.pair(f"old{number}")
    assert len(yard.router._spent) == 5
    yard.clock.advance(router_tokens.LIFETIME.total_seconds() + 1)
    await yard.pair("new")
    assert list(yard.router._spent) == ["new"]


async def test_a_caller_who_gave_up_waiting_is_forgotten(yard: Yard) -> None:
    gone = yard.call(yard.token("s"))
    await gone.write(data(b"from one who left"))
    await yard.waiting(1)
    gone.cancel()
    await yard.empty()
    await yard.pair("s")


async def test_a_caller_waits_until_its_token_expires(yard: Yard) -> None:
    yard.clock.now -= yard.clock.now % 1_000_000_000
    token = yard.token("s")
    yard.clock.advance(router_tokens.LIFETIME.total_seconds() - 0.3)
    code, text = await end(yard.call(token))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED, text
    await yard.empty()


async def test_callers_end_with_unavailable_when_the_process_stops(yard: Yard) -> None:
    one, other = await yard.pair("s")
    alone = yard.call(yard.token("alone"))
    await yard.waiting(1)
    await yard.router.stop()
    for call in (one, other, alone, yard.call(yard.token("new"))):
        assert await end(call) == (grpc.StatusCode.UNAVAILABLE, "the process is stopping")
    await yard.empty()


# -- tokens


async def refused(yard: Yard, *metadata: tuple[str, str]) -> str:
    """Why, with UNAUTHENTICATED."""
    stub = yard.client.stream_stream(
        "/jumpstarter.v1.RouterService/Stream", request_serializer=pb.StreamRequest.SerializeToString
    )
    code, text = await end(stub(metadata=metadata))
    assert code is grpc.StatusCode.UNAUTHENTICATED, (code, text)
    return text


def forged(yard: Yard, **claims: Any) -> str:
    """A token of ours with other claims; None leaves one out."""
    key = yard.keys.newest()
    good = jwt.decode(yard.token("s"), options={"verify_signature": False})
    kept = {name: value for name, value in {**good, **claims}.items() if value is not None}
    return jwt.encode(kept, router_tokens._secret(key), algorithm="HS256", headers={"kid": key.kid})


async def test_a_forged_token_that_says_the_right_things_is_good(yard: Yard) -> None:
    """Which shows that the others are refused for what they say."""
    token = forged(yard)
    one, other = yard.call(token), yard.call(token, yard.exporter)
    await one.write(data(b"x"))
    assert (await read(other)).payload == b"x"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["https://jumpstarter.dev/other"]},
        {"iss": "https://jumpstarter.dev/other"},
        {"sub": None},
        {"sub": ""},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 0},
    ],
    ids=str,
)
async def test_claims_must_be_right(yard: Yard, claims: dict[str, Any]) -> None:
    assert "router token" in await refused(yard, *bearer(forged(yard, **claims)))


async def test_an_expired_token_is_refused_and_says_so(yard: Yard) -> None:
    token = yard.token("s")
    yard.clock.advance(router_tokens.LIFETIME.total_seconds())
    assert await refused(yard, *bearer(token)) == "the router token is expired; dial again"


@pytest.mark.parametrize("text", ["", "nonsense", "a.b.c", "x" * 5000, "{}", "e30.e30.e30"])
async def test_what_is_no_token_is_refused(yard: Yard, text: str) -> None:
    await refused(yard, *bearer(text))


async def test_authorization_is_one_bearer_token(yard: Yard) -> None:
    good = ("authorization", f"Bearer {yard.token('s')}")
    assert "several" in await refused(yard, good, good)
    for wrong in ((), (("authorization", "Basic x"),), (("authorization", yard.token("s")),)):
        assert "Bearer" in await refused(yard, *wrong)
    call = yard.call(yard.token("s"))
    lower = yard.client.stream_stream("/jumpstarter.v1.RouterService/Stream")(
        metadata=(("authorization", f"bearer {yard.token('s')}"),)
    )
    await call.write(data(b"x"))
    assert await read(lower) == data(b"x").SerializeToString()


async def test_a_caller_s_token_is_no_router_token_and_the_other_way_round(yard: Yard) -> None:
    caller, _ = Tokens(yard.keys).issue("client:lab:alice:1", "admin", timedelta(hours=1))
    assert "signature" in await refused(yard, *bearer(caller))
    with pytest.raises(Exception, match="signature of the bearer token is wrong"):
        Tokens(yard.keys).verify(yard.token("s"))


async def test_a_token_of_another_installation_is_refused(yard: Yard, tmp_path: Path) -> None:
    other = RouterTokens(KeyRing.open(tmp_path / "other"), yard.clock)
    assert "signature" in await refused(yard, *bearer(other.issue("s", yard.clock())))


async def test_processes_agree_on_tokens_and_keys_may_be_rotated(yard: Yard, tmp_path: Path) -> None:
    peer = RouterTokens(KeyRing.open(tmp_path / "keys"), yard.clock)
    assert peer.issue("s", 5) == yard.tokens.issue("s", 5) != yard.tokens.issue("s", 10**10)
    old = yard.token("s")
    yard.keys.rotate()
    one, other = yard.call(old), yard.call(yard.token("s"), yard.exporter)
    async with asyncio.timeout(PATIENCE):
        await one.write(data(b"x"))
        assert (await read(other)).payload == b"x"
    claims = jwt.decode(old, options={"verify_signature": False})
    assert claims["iss"] == "https://jumpstarter.dev/stream"
    assert claims["aud"] == ["https://jumpstarter.dev/router"]
    assert claims["exp"] - claims["iat"] == 1800 and claims["nbf"] == claims["iat"]
    assert claims["sub"] == claims["jti"] == "s"

"""What a method can ask of the pipeline: raw requests, an authenticator of its own, who repeats what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from shared.auth.identity import Identity
from shared.errors import Unauthenticated
from shared.pb.jumpstarter.v1 import router_pb2
from shared.rpc.interceptors import Pipeline
from shared.rpc.method import PUBLIC, Authenticator, Call, Metadata, MetadataDict, Method
from shared.rpc.metrics import RpcMetrics
from shared.rpc.server import GrpcServer

PERMISSION = "frames.pass"


class Door:
    """Lets those in who send its word."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def authenticate(self, metadata: Metadata) -> Identity:
        if metadata.get("word") != self.word or "word" in metadata.repeated:
            raise Unauthenticated("say the word, once")
        return Identity(self.word, "friend", frozenset({PERMISSION}))


def method(handler: Any, permission: str = PERMISSION, own: Authenticator | None = None) -> Method:
    return Method(
        service="test.Frames",
        name="Pass",
        request=router_pb2.StreamRequest,
        response=router_pb2.StreamResponse,
        handler=handler,
        permission=permission,
        client_streaming=True,
        server_streaming=True,
        raw=True,
        authenticator=own,
    )


@asynccontextmanager
async def served(found: Method, **limits: Any) -> AsyncIterator[Any]:
    """The method's multicallable, bytes in and out, of a server whose own word is "house"."""
    pipeline = Pipeline(Door("house"), RpcMetrics(CollectorRegistry()), **limits)
    server = GrpcServer(pipeline, [(found, None)])
    port = server.listen("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.stream_stream(found.path)
    finally:
        await server.stop(0)


async def answers(call: Any, *requests: bytes) -> list[bytes]:
    for request in requests:
        await call.write(request)
    await call.done_writing()
    return [answer async for answer in call]


async def echo(requests: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def test_a_raw_method_gets_bytes_that_nobody_parsed() -> None:
    sent = [b"", b"\xff\xff no message", router_pb2.StreamRequest(payload=b"x").SerializeToString()]
    async with served(method(echo, PUBLIC)) as pass_on:
        assert await answers(pass_on(), *sent) == sent


async def who(requests: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
    yield call.identity.subject.encode()


async def test_a_method_can_have_an_authenticator_of_its_own() -> None:
    async with served(method(who, own=Door("lab"))) as pass_on:
        assert await answers(pass_on(metadata=(("word", "lab"),))) == [b"lab"]
        for metadata in ((("word", "house"),), (("word", "lab"), ("word", "lab"))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answers(pass_on(metadata=metadata))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_others_ask_the_server_s() -> None:
    async with served(method(who)) as pass_on:
        assert await answers(pass_on(metadata=(("word", "house"),))) == [b"house"]


async def test_a_public_stream_may_still_grow_too_old() -> None:
    async with served(method(echo, PUBLIC), max_stream_age=0.05) as pass_on:
        call = pass_on()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def repeated(requests: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
    yield ",".join(sorted(call.metadata.repeated)).encode()
    yield call.metadata["twice"].encode()


async def test_names_that_were_sent_more_than_once_are_known() -> None:
    async with served(method(repeated, PUBLIC)) as pass_on:
        metadata = (("twice", "first"), ("once", "x"), ("twice", "second"), ("thrice", "1"), ("thrice", "2"))
        assert await answers(pass_on(metadata=metadata)) == [b"thrice,twice", b"first"]


def test_metadata_can_be_made_of_values() -> None:
    found = MetadataDict({"a": "1"}, ["b"])
    assert (found["a"], found.get("b"), found.repeated) == ("1", None, {"b"})
    assert MetadataDict().repeated == frozenset()

"""Apply with the revision of a dry run: what was shown is what is written, or nothing is."""

from __future__ import annotations

import asyncio
import json

import grpc

from shared.pb.roundhouse.admin.v1 import admin_pb2 as pb
from tests.contract.pipelines_yard import Yard

ABORTED = grpc.StatusCode.ABORTED


def request(*names: str, **fields: object) -> pb.ApplyRequest:
    manifest = json.dumps({"experiments": [{"display_name": name} for name in names]})
    return pb.ApplyRequest(manifest=manifest, **fields)


async def test_what_a_dry_run_saw_can_be_asked_for(yard: Yard) -> None:
    await yard.call(yard.admin.Apply, request("before"))
    seen = await yard.call(yard.admin.Apply, request("one", dry_run=True))
    assert seen.revision == await yard.store.head()
    done = await yard.call(yard.admin.Apply, request("one", revision=seen.revision))
    assert done.revision == seen.revision + 1


async def test_a_write_in_between_of_the_same_kind_fails_it_and_writes_nothing(yard: Yard) -> None:
    await yard.call(yard.admin.Apply, request("before"))
    seen = await yard.call(yard.admin.Apply, request("one", dry_run=True))
    other = await yard.call(yard.admin.Apply, request("other"))
    failure = await yard.fails(yard.admin.Apply, request("one", revision=seen.revision), ABORTED)
    assert "nothing was written" in failure.message
    assert await yard.store.head() == other.revision


async def test_of_many_at_the_same_revision_one_is_written(yard: Yard) -> None:
    await yard.call(yard.admin.Apply, request("before"))
    head = await yard.store.head()

    async def apply(name: str) -> bool:
        try:
            await yard.call(yard.admin.Apply, request(name, revision=head))
        except grpc.RpcError as error:
            assert error.code() is ABORTED
            return False
        return True

    done = await asyncio.gather(*(apply(f"n{number}") for number in range(12)))
    assert done.count(True) == 1
    assert await yard.store.head() == head + 1


async def test_one_that_changes_nothing_needs_no_revision(yard: Yard) -> None:
    first = await yard.call(yard.admin.Apply, request("one"))
    await yard.call(yard.admin.Apply, request("other"))
    same = await yard.call(yard.admin.Apply, request("one", revision=first.revision))
    assert same.unchanged == 1 and same.revision == await yard.store.head()
    await yard.fails(yard.admin.Apply, request("x", revision=-1), grpc.StatusCode.INVALID_ARGUMENT)

"""Whatever a client asks of ClientService, the answer is one of the contract's codes and what is stored
stays consistent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from tests.contract.jumpstarter_yard import Caller, Lab, opened

ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
PARENT = "namespaces/lab-1"
Strategy = st.SearchStrategy[Any]


def mostly(good: list[Any], odd: Strategy) -> Strategy:
    """Few requests would get far if each of their fields were odd."""
    return st.integers(0, 9).flatmap(lambda number: odd if number == 0 else st.sampled_from(good))


seconds = st.sampled_from([0, 1, -1, 60, 10**9, 2 * 10**9, 253_402_300_799, 2**63 - 1, -(2**63)])
nanos = st.sampled_from([0, 0, 1, -1, 999_999_999, 2**31 - 1])
odd_selectors = st.sampled_from(["a>0", "a=1,a=2", "a in ()", "<none>", "\0", "ä"])
parents = mostly([PARENT], st.sampled_from(["namespaces/lab-2", "namespaces", ""]))
ids = mostly(list("abcdefghijkl"), st.sampled_from(["", "A", "x/y"]))
leases = ids.map(lambda id: f"{PARENT}/leases/{id}")
texts = mostly(
    ["a=1", "a==1,!b", "a!=3,a!=2", "a in (1,)", "", "a"],
    odd_selectors | st.text("ab=!<>(), in1", max_size=8),
)
durations = mostly(
    [Duration(seconds=60), Duration(nanos=1)], st.builds(Duration, seconds=seconds, nanos=nanos)
)
instants = mostly(
    [None, None, None, Timestamp(seconds=2 * 10**9), Timestamp(seconds=2 * 10**9 + 60)],
    st.builds(Timestamp, seconds=seconds, nanos=nanos),
)
odd_entries = st.dictionaries(
    st.sampled_from(["b/c", "", "ä", "k" * 40]), st.sampled_from(["", "-", "v" * 70])
)
maps = mostly([{}, {"a": "1", "b": ""}], odd_entries)
clients = mostly(
    [None, None, f"{PARENT}/clients/bob", f"{PARENT}/clients/alice"],
    st.sampled_from([f"{PARENT}/clients/x", "namespaces/x/clients/bob", "", "x"]),
)
bodies = st.builds(
    pb.Lease,
    name=leases,
    selector=texts,
    duration=durations,
    begin_time=instants,
    end_time=instants,
    client=clients,
    exporter_name=mostly([None, "", "bench"], st.sampled_from(["none", "N"])),
    tags=maps,
    context=maps,
    allow_disabled=st.booleans(),
)
fields = st.sampled_from(["duration", "begin_time", "end_time", "client"])
masks = mostly([[], [], ["duration"]], st.lists(fields, max_size=3) | st.just(["tags"]))
pages: dict[str, Strategy] = {
    "parent": parents,
    "page_size": mostly([0, 1, 2], st.sampled_from([-1, 2**31 - 1])),
    "page_token": mostly([""], st.sampled_from(["x", "eyJ2IjoxfQ"])),
    "filter": texts,
}
calls = st.one_of(
    st.builds(pb.CreateLeaseRequest, parent=parents, lease_id=ids, lease=bodies),
    st.builds(
        pb.UpdateLeaseRequest, lease=bodies, update_mask=masks.map(lambda paths: FieldMask(paths=paths))
    ),
    st.builds(pb.GetLeaseRequest, name=leases),
    st.builds(pb.DeleteLeaseRequest, name=leases),
    st.builds(pb.ListLeasesRequest, tag_filter=texts, only_active=st.none() | st.booleans(), **pages),
    st.builds(pb.ListExportersRequest, show_hidden_labels=st.booleans(), **pages),
    st.builds(pb.GetExporterRequest, name=mostly([f"{PARENT}/exporters/bench"], leases)),
)


async def test_codes_and_consistency(tmp_path: Path, scale: Callable[[int, int], int]) -> None:
    """Requests are drawn in a thread, so that one server and one loop serve all of them."""
    loop = asyncio.get_running_loop()
    seen: Counter[tuple[str, grpc.StatusCode]] = Counter()
    async with opened(tmp_path) as yard:
        lab = await yard.lab()
        callers = [lab.alice, await lab.client("bob")]
        await lab.exporter("bench", a="1")
        for id in "abcdef":
            await lab.create("a=1", id=id)

        @settings(max_examples=scale(300, 2000), deadline=None, derandomize=True)
        @given(who=st.sampled_from(callers), request=calls)
        def check(who: Caller, request: Message) -> None:
            asked = asyncio.run_coroutine_threadsafe(called(lab, who, request), loop)
            code = asked.result(timeout=20)
            seen[type(request).__name__, code] += 1
            assert code in ALLOWED

        await asyncio.to_thread(check)
        listing = pb.ListLeasesRequest(parent=lab.parent, only_active=False)
        for found in (await yard.call("ListLeases", listing, lab.alice.metadata)).leases:
            consistent(found)
    # Without these the requests are not what they are meant to be.
    assert {code for _, code in seen} == ALLOWED
    assert seen["CreateLeaseRequest", grpc.StatusCode.OK] and seen["UpdateLeaseRequest", grpc.StatusCode.OK]


async def called(lab: Lab, who: Caller, request: Any) -> grpc.StatusCode:
    method = type(request).__name__.removesuffix("Request")
    try:
        answer = await lab.yard.call(method, request, who.metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    if isinstance(answer, pb.Lease):
        consistent(answer)
    return grpc.StatusCode.OK


def consistent(found: pb.Lease) -> None:
    assert found.duration.ToNanoseconds() > 0
    if found.HasField("begin_time") and found.HasField("end_time"):
        span = found.end_time.ToNanoseconds() - found.begin_time.ToNanoseconds()
        assert span == found.duration.ToNanoseconds()
    assert found.client.startswith(f"{PARENT}/clients/")
    assert found.HasField("exporter") == found.HasField("effective_begin_time")
    if found.HasField("effective_duration"):
        assert found.effective_duration.ToNanoseconds() >= 0

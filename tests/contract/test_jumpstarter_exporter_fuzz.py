"""Whatever is sent to ControllerService and LabService, and by whom, the answer is a code that says whose
mistake it was, and the service goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from services.jumpstarter.api import controller_service, lab_service
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from tests.contract.jumpstarter_callers import AVAILABLE, LEASE_READY, Desk, Who, metadata
from tests.contract.jumpstarter_yard import opened
from tests.patience import PATIENCE

ALLOWED = {
    StatusCode.OK,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.PERMISSION_DENIED,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.UNAVAILABLE,  # nobody listens
    StatusCode.RESOURCE_EXHAUSTED,  # a message that is too large
    StatusCode.DEADLINE_EXCEEDED,  # a stream that was read for long enough
}
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for service in (controller_service.SERVICE, lab_service.SERVICE)
    for method in service.methods
    if not method.client_streaming
}
OF_CLIENTS = ("Dial", "GetLease", "RequestLease", "ListLeases", "ReleaseLease")
PARENT = "namespaces/lab-1"
Strategy = st.SearchStrategy[Any]

ODD_TEXTS = st.sampled_from(
    ["", "\0", "ä", "A", "a/b", "../x", "x" * 300, "a in (", "%", "-", "In", "1", "a=1", "eyJ2IjoxfQ",
     "namespaces/x/clients/y", "jumpstarter.dev/a", "jumpstarter.dev/" + "k" * 64, f"{PARENT}/leases/one"]
)  # fmt: skip
# Few requests would get far if each of their fields were odd.
FITTING: dict[str, list[Any]] = {
    "lease_name": ["one", "two"],
    "name": ["one", "two", f"{PARENT}/exporters/bench", f"{PARENT}/clients/alice"],
    "parent": [PARENT],
    "exporter": ["", f"{PARENT}/exporters/bench"],
    "client": ["", f"{PARENT}/clients/alice"],
    "key": ["board", "site"],
    "operator": ["In", "NotIn", "Exists", "DoesNotExist"],
    "values": ["rpi", "x"],
    "filter": ["", "board=rpi", "!site"],
    "tag_filter": ["", "!ci"],
    "order_by": ["", "name desc"],
    "page_token": [""],
    "page_size": [0, 2],
    "seconds": [3600],
    "nanos": [0],
    "match_labels": [{}, {"board": "rpi"}],
    "labels": [{}, {"jumpstarter.dev/model": "four"}],
}
NUMBERS: dict[int, list[int]] = {
    FieldDescriptor.CPPTYPE_INT32: [0, 1, -1, 7, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_INT64: [0, 1, -1, 60, 2**62, -(2**63)],
    FieldDescriptor.CPPTYPE_ENUM: [0, 1, 2, 4, 7, 8, -1, 2**31 - 1],
    FieldDescriptor.CPPTYPE_BOOL: [False, True],
}


def messages(descriptor: Descriptor) -> Strategy:
    """Of that type; what nobody knows a fitting value for is set or not."""
    entries = {field.name: values(field) for field in descriptor.fields}
    known = {name: entries.pop(name) for name in FITTING if name in entries}
    factory: Any = GetMessageClass(descriptor)
    return st.fixed_dictionaries(known, optional=entries).map(lambda given: factory(**given))


def values(field: FieldDescriptor) -> Strategy:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        odd: Strategy = st.dictionaries(ODD_TEXTS, ODD_TEXTS, max_size=3)
    elif field.message_type is not None:
        odd = messages(field.message_type)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        odd = ODD_TEXTS
    else:
        odd = st.sampled_from(NUMBERS[field.cpp_type])
    found = odd
    if field.name in FITTING:
        fitting = st.sampled_from(FITTING[field.name])
        found = st.integers(0, 9).flatmap(lambda number: odd if number == 0 else fitting)
    plural = field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry)
    return st.lists(found, max_size=3) if plural else found


BODIES = {
    path: messages(method.input_type).map(lambda message: message.SerializeToString())
    for path, method in METHODS.items()
}


@st.composite
def calls(draw: Callable[[Strategy], Any]) -> tuple[str, bytes, str]:
    """A method, what is sent, and who calls: rarely somebody whom it is not for."""
    path = draw(st.sampled_from(sorted(METHODS)))
    service, _, name = path[1:].rpartition("/")
    fitting = "staff" if service.endswith("LabService") else "client" if name in OF_CLIENTS else "exporter"
    rare = draw(st.integers(0, 19))
    body = draw(st.binary(max_size=12) if rare == 0 else BODIES[path])
    return path, body, draw(st.sampled_from(["client", "exporter", "staff"])) if rare == 1 else fitting


async def test_codes(
    tmp_path: Path, scale: Callable[[int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are drawn in a thread, so that one server and one loop serve all of them."""
    monkeypatch.setattr(controller_service, "DIAL_PATIENCE", 0.05)
    loop = asyncio.get_running_loop()
    seen: Counter[tuple[str, StatusCode]] = Counter()
    async with opened(tmp_path) as yard:
        desk = Desk(await yard.lab())
        bench = await desk.exporter("bench", board="rpi")
        await desk.lab.create("board=rpi", id="one")
        await desk.lab.create("board=rpi", id="two")
        await desk.report(bench, LEASE_READY)
        callers: dict[str, Who] = {"client": desk.alice, "exporter": bench, "staff": desk.admin}

        async def called(path: str, body: bytes, who: Who) -> StatusCode:
            sent = metadata(who)
            try:
                if METHODS[path].server_streaming:
                    async for _ in yard.channel.unary_stream(path, None, None)(
                        body, metadata=sent, timeout=0.05
                    ):
                        pass
                else:
                    await yard.channel.unary_unary(path, None, None)(body, metadata=sent, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return StatusCode.OK

        @settings(max_examples=scale(600, 6000), deadline=None, derandomize=True)
        @given(call=calls())
        def check(call: tuple[str, bytes, str]) -> None:
            path, body, who = call
            code = asyncio.run_coroutine_threadsafe(called(path, body, callers[who]), loop).result(timeout=30)
            seen[path.rpartition("/")[2], code] += 1
            assert code in ALLOWED

        await asyncio.to_thread(check)
        # It goes on: exporters are leased, told of it, and freed.
        await desk.call(desk.controller.Register, pb.RegisterRequest(), bench)
        await desk.report(bench, AVAILABLE, release_lease=True)
        stream = desk.status(bench)
        while (told := await stream.next()).leased:
            await desk.call(desk.controller.ReleaseLease, pb.ReleaseLeaseRequest(name=told.lease_name), bench)
        made = await desk.lab.create("board=rpi")
        assert made.exporter == bench.name
        assert (await stream.next()).lease_name == made.name.rpartition("/")[2]
        stream.cancel()
    # Without these the requests are not what they are meant to be.
    fine = {name for name, code in seen if code in (StatusCode.OK, StatusCode.DEADLINE_EXCEEDED)}
    assert fine >= {path.rpartition("/")[2] for path in METHODS} - {"Dial", "Listen"}
    assert seen["Dial", StatusCode.FAILED_PRECONDITION] and seen["Listen", StatusCode.PERMISSION_DENIED]

"""CreateLease, UpdateLease and DeleteLease over gRPC: the contract's sections 2.4 and 2.5."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio
from grpc import StatusCode

from shared.pb.jumpstarter.client.v1 import client_pb2 as pb
from tests.contract.jumpstarter_yard import HOUR, Lab, Yard, conditions, ended, lease, opened, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jumpstarter-leases")]
INVALID = StatusCode.INVALID_ARGUMENT
DENIED = StatusCode.PERMISSION_DENIED
NOT_FOUND = StatusCode.NOT_FOUND
PRECONDITION = StatusCode.FAILED_PRECONDITION
SECOND = 1_000_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["memory", "sqlite"])
async def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard"), request.param, jumpstarter_max_tags="3") as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def lab(yard: Yard) -> Lab:
    """With a free exporter `bench`, which is board=rpi."""
    found = await yard.lab()
    await found.exporter("bench", board="rpi")
    return found


# -- creating


async def test_a_target_is_needed(lab: Lab) -> None:
    for wanted in (None, pb.Lease(), lease(exporter_name="", duration=60), lease(tags={"a": "b"})):
        request = pb.CreateLeaseRequest(parent=lab.parent, lease=wanted)
        await lab.fails(INVALID, "CreateLease", request, "one of selector or exporter_name is required")
    assert (await lab.create("board=rpi", exporter_name="", id="a")).selector == "board=rpi"


async def test_what_is_checked_first(lab: Lab) -> None:
    """Target, tags, parent, who calls, and then the rest."""
    nobody = {"authorization": lab.alice.metadata["authorization"]}
    wrong = pb.CreateLeaseRequest(parent="x", lease_id="!", lease=lease(tags={"/": ""}))
    for metadata, said in ((nobody, "lease.selector"), (nobody, "lease.tags['/']"), (nobody, "parent")):
        await lab.yard.fails(INVALID, "CreateLease", wrong, metadata, said)
        if said == "lease.selector":
            wrong.lease.selector = "a in"
        else:
            wrong.lease.tags.clear()
    wrong.parent = "namespaces/elsewhere"
    await lab.yard.fails(INVALID, "CreateLease", wrong, nobody, "jumpstarter-kind")
    await lab.fails(DENIED, "CreateLease", wrong, "namespace mismatch")
    wrong.parent = lab.parent
    await lab.fails(INVALID, "CreateLease", wrong, "lease_id")
    wrong.lease_id = ""
    await lab.fails(INVALID, "CreateLease", wrong, "lease.selector", "at position 4")
    wrong.lease.selector = "a"
    await lab.fails(INVALID, "CreateLease", wrong, "lease.duration", "duration is required")


async def test_tags(lab: Lab) -> None:
    fine = {"ci": "run-1", "B_c.d": "", "k" * 63: "v" * 63}
    assert dict((await lab.create("board=rpi", tags=fine)).tags) == fine
    for key, value in (("a/b", ""), ("jumpstarter.dev/x", ""), ("metadata.jumpstarter.dev/x", "1"), ("", ""),
                       ("-a", ""), ("k" * 64, ""), ("a", "v" * 64), ("a", "b c"), ("a", "ä")):  # fmt: skip
        request = lab.creation("board=rpi", tags={key: value})
        await lab.fails(INVALID, "CreateLease", request, f"lease.tags[{key!r}]")
    many = {str(number): "" for number in range(4)}
    await lab.fails(INVALID, "CreateLease", lab.creation("a", tags=many), "lease.tags", "at most 3")


async def test_context(lab: Lab) -> None:
    fine = {"k" * 32: "v" * 64, "any/key": "any text: ä", **{str(number): "" for number in range(6)}}
    assert dict((await lab.create("board=rpi", context=fine)).context) == fine
    for wrong, said in (
        ({str(number): "" for number in range(9)}, "at most 8"),
        ({"k" * 33: ""}, "1 to 32"),
        ({"": ""}, "1 to 32"),
        ({"k": "v" * 65}, "at most 64"),
    ):
        await lab.fails(INVALID, "CreateLease", lab.creation("a", context=wrong), "lease.context", said)


async def test_names(lab: Lab) -> None:
    assert (await lab.create("board=rpi", id="my-lease.1")).name == lab.lease_name("my-lease.1")
    unnamed = (await lab.create("board=rpi")).name.rpartition("/")[2]
    assert UUID(unnamed).version == 7 and str(UUID(unnamed)) == unnamed
    assert abs((UUID(unnamed).int >> 80) - lab.yard.clock() // 1_000_000) < 2000
    request = lab.creation("board=rpi", id="my-lease.1")
    failure = await lab.fails(StatusCode.ALREADY_EXISTS, "CreateLease", request)
    assert failure.resource_name == lab.lease_name("my-lease.1")
    for id in ("Nope", "-a", "a/b", "a" * 254):
        await lab.fails(INVALID, "CreateLease", lab.creation("a", id=id), "lease_id")
    await lab.delete("my-lease.1")
    await lab.fails(StatusCode.ALREADY_EXISTS, "CreateLease", request)
    other = await lab.yard.lab()
    assert (await other.create("a", id="my-lease.1")).name == other.lease_name("my-lease.1")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("board==rpi", "board=rpi"),
        (" board = rpi , !a ", "!a,board=rpi"),
        ("board!=x,board!=y,board!=x", "board notin (x,y)"),
        ("board in (z, rpi),board", "board,board in (rpi,z)"),
    ],
)
async def test_the_selector_comes_back_in_canonical_form(lab: Lab, text: str, canonical: str) -> None:
    made = await lab.create(text, id="a")
    assert made.selector == (await lab.get("a")).selector == ",".join(sorted(canonical.split(","), key=_key))


def _key(requirement: str) -> str:
    return requirement.lstrip("!")


async def test_a_lease_by_name_alone_has_no_selector(lab: Lab) -> None:
    made = await lab.create(exporter_name="bench", id="a")
    assert (made.selector, made.exporter_name) == ("<none>", "bench")
    assert made.exporter == f"{lab.parent}/exporters/bench"
    both = await lab.create("board=rpi", exporter_name="bench")
    assert (both.selector, both.exporter_name) == ("board=rpi", "bench")


@pytest.mark.parametrize("text", ["a>1", "a<1", "a=1,a=2", "a in ()", "a=b,", "<none>"])
async def test_what_no_lease_may_select(lab: Lab, text: str) -> None:
    await lab.fails(INVALID, "CreateLease", lab.creation(text), "lease.selector")


async def test_a_missing_exporter_is_no_error(lab: Lab) -> None:
    await lab.create(exporter_name="none", id="a")
    assert conditions(await lab.until_ended("a")) == ["Unsatisfiable=True/ExporterNotFound"]
    await lab.create("board=none", id="b")
    assert conditions(await lab.until_ended("b")) == ["Unsatisfiable=True/NoAccess"]
    await lab.create("  ", id="c")
    assert conditions(await lab.until_ended("c")) == ["Invalid=True/InvalidSelector"]


async def test_only_the_wish_is_taken_from_the_request(lab: Lab) -> None:
    forged = lease(
        name="x", selector="board=rpi", duration=60, client="me", exporter="mine",
        effective_begin_time=lease(begin_time=1).begin_time, deprecated_labels={"a": "b"},
    )  # fmt: skip
    forged.conditions.add(type="Ready", status="True")
    request = pb.CreateLeaseRequest(parent=lab.parent, lease_id="a", lease=forged)
    made = await lab.yard.call("CreateLease", request, lab.alice.metadata)
    assert (made.name, made.client) == (lab.lease_name("a"), lab.alice.name)
    assert made.exporter == f"{lab.parent}/exporters/bench"
    assert not made.deprecated_labels and len(made.conditions) == 1
    assert made.effective_begin_time.seconds > 1


# -- times


async def test_times(lab: Lab) -> None:
    now = lab.yard.clock()
    begin, end = now + 100 * SECOND, now + 400 * SECOND
    for given, said in (
        ({"duration": 300}, (300, None, None)),
        ({"duration": 300, "begin_time": begin}, (300, begin, None)),
        ({"duration": None, "begin_time": begin, "end_time": end}, (300, begin, end)),
        ({"duration": 300, "end_time": end}, (300, begin, end)),
        ({"duration": 300, "begin_time": begin, "end_time": end}, (300, begin, end)),
        ({"duration": 0.000000001}, (0.000000001, None, None)),
        ({"duration": 315_576_000_000}, (315_576_000_000, None, None)),
    ):
        made = await lab.create(exporter_name="bench", **given)  # type: ignore[arg-type]
        assert times(made) == said, given


async def test_wrong_times(lab: Lab) -> None:
    now = lab.yard.clock()
    for given, said in (
        ({"duration": None}, "duration is required"),
        ({"duration": None, "begin_time": now}, "duration is required"),
        ({"duration": None, "end_time": now}, "duration is required"),
        ({"duration": 0}, "duration must be positive"),
        ({"duration": -5}, "duration must be positive"),
        ({"duration": None, "begin_time": now, "end_time": now}, "duration must be positive"),
        ({"duration": 60, "begin_time": now, "end_time": now + SECOND}, "duration conflicts with"),
    ):
        failure = await lab.fails(INVALID, "CreateLease", lab.creation("a", **given), said)  # type: ignore[arg-type]
        assert failure.violations[0].field.startswith("lease."), given


def times(found: pb.Lease) -> tuple[float, int | None, int | None]:
    begin, end = (
        getattr(found, field).ToNanoseconds() if found.HasField(field) else None  # type: ignore[arg-type]
        for field in ("begin_time", "end_time")
    )
    return found.duration.ToNanoseconds() / SECOND, begin, end


async def test_a_lease_for_later_waits(lab: Lab) -> None:
    begin = lab.yard.clock() + 100 * SECOND
    made = await lab.create("board=rpi", id="a", begin_time=begin, duration=50)
    assert conditions(made) == [] and not made.HasField("exporter")
    now = await lab.create("board=rpi", id="b", duration=60)
    assert now.exporter, "it holds nothing until then"


# -- updating


async def test_the_owner_alone_may_update_and_delete(lab: Lab) -> None:
    bob = await lab.client("bob")
    await lab.create("board=rpi", id="a")
    request = lab.changed("a", duration=60)
    await lab.fails(DENIED, "UpdateLease", request, "permission denied", who=bob)
    heist = lab.changed("a", client=bob.name)
    await lab.fails(DENIED, "UpdateLease", heist, "permission denied", who=bob)
    gone = pb.DeleteLeaseRequest(name=lab.lease_name("a"))
    await lab.fails(DENIED, "DeleteLease", gone, "permission denied", who=bob)
    assert times(await lab.get("a")) == (HOUR, None, None)
    for method, request_ in (("UpdateLease", lab.changed("z", duration=1)), ("DeleteLease", None)):
        missing = request_ or pb.DeleteLeaseRequest(name=lab.lease_name("z"))
        await lab.fails(NOT_FOUND, method, missing, "leases/z")


async def test_presence_or_mask(lab: Lab) -> None:
    later = lab.yard.clock() + 10**13
    await lab.create("board=rpi", id="a", begin_time=later)
    assert times(await lab.update("a", duration=60)) == (60, later, None), "no mask: what is set"
    assert times(await lab.update("a", "duration", duration=70)) == (70, later, None)
    found = await lab.update("a", "duration", duration=80, begin_time=1, client="ignored")
    assert times(found) == (80, later, None), "only what the mask names"
    assert times(await lab.update("a", selector="x", tags={"a": "b"})) == (80, later, None)
    assert (found.selector, dict(found.tags)) == ("board=rpi", {}), "the rest is immutable"
    assert times(await lab.update("a")) == (80, later, None), "nothing at all is fine"
    assert times(await lab.update("a", "begin_time")) == (80, None, None), "named and unset: unset"


@pytest.mark.parametrize(
    "path", ["selector", "exporter_name", "tags", "conditions", "*", "", "duration.seconds"]
)
async def test_other_masks(lab: Lab, path: str) -> None:
    await lab.create("board=rpi", id="a")
    request = lab.changed("a", "duration", path, duration=60)
    await lab.fails(
        INVALID, "UpdateLease", request, "update_mask", "use duration, begin_time, end_time, client"
    )
    assert times(await lab.get("a"))[0] == HOUR


async def test_a_duration_is_the_total_and_takes_effect_at_once(lab: Lab) -> None:
    await lab.create("board=rpi", id="a", duration=100)
    await lab.yard.advance(50)
    assert conditions(await lab.update("a", duration=200)) == ["Ready=True/Ready"]
    await lab.yard.advance(100)
    assert conditions(await lab.get("a")) == ["Ready=True/Ready"]
    assert conditions(await lab.update("a", duration=149)) == ["Ready=False/Expired"], "shorter than elapsed"
    assert (await lab.stored("bench")).lease == ""


async def test_a_lease_that_has_its_exporter_keeps_its_begin(lab: Lab) -> None:
    begin = lab.yard.clock() - 10 * SECOND
    await lab.create("board=rpi", id="a", begin_time=begin, duration=100)
    request = lab.changed("a", begin_time=begin + 1)
    await lab.fails(
        PRECONDITION, "UpdateLease", request, "cannot update BeginTime: lease has already started"
    )
    assert times(await lab.update("a", begin_time=begin, duration=90)) == (90, begin, None), (
        "the same is fine"
    )
    early = lab.changed("a", end_time=begin + 100 * SECOND, duration=50)
    await lab.fails(PRECONDITION, "UpdateLease", early, "cannot update BeginTime")
    assert times(await lab.update("a", end_time=begin + 60 * SECOND)) == (60, begin, begin + 60 * SECOND)


async def test_the_end_of_a_lease_that_began_when_it_got_its_exporter(lab: Lab) -> None:
    made = await lab.create("board=rpi", id="a", duration=100)
    began = made.effective_begin_time.ToNanoseconds()
    assert times(await lab.update("a", end_time=began + 60 * SECOND)) == (60, None, began + 60 * SECOND)
    assert times(await lab.update("a", duration=80)) == (80, None, began + 80 * SECOND)
    request = lab.changed("a", duration=80, end_time=began + 90 * SECOND)
    await lab.fails(PRECONDITION, "UpdateLease", request, "cannot update BeginTime")
    assert times(await lab.update("a", "end_time")) == (80, None, None)


async def test_changes_are_merged_into_what_is_stored(lab: Lab) -> None:
    begin = lab.yard.clock() + 10**13
    end = begin + 100 * SECOND
    await lab.create("board=rpi", id="a", begin_time=begin, end_time=end, duration=None)
    for given, said in (
        ({"end_time": end + 20 * SECOND}, (120, begin, end + 20 * SECOND)),
        ({"begin_time": begin + 20 * SECOND}, (100, begin + 20 * SECOND, end + 20 * SECOND)),
        ({"duration": 50}, (50, begin + 20 * SECOND, begin + 70 * SECOND)),
        ({"begin_time": begin, "duration": 30}, (30, begin, begin + 30 * SECOND)),
        ({"end_time": end, "duration": 40}, (40, begin + 60 * SECOND, end)),
        ({"begin_time": begin, "end_time": end, "duration": 100}, (100, begin, end)),
    ):
        assert times(await lab.update("a", **given)) == said, given  # type: ignore[arg-type]
    for given, said_ in (
        ({"begin_time": end}, "duration must be positive"),
        ({"duration": 0}, "duration must be positive"),
        ({"begin_time": begin, "end_time": end, "duration": 99}, "duration conflicts"),
    ):
        await lab.fails(INVALID, "UpdateLease", lab.changed("a", **given), said_)  # type: ignore[arg-type]
    assert times(await lab.get("a")) == (100, begin, end)


async def test_a_transfer(lab: Lab) -> None:
    bob = await lab.client("bob")
    await lab.create("board=rpi", id="a")
    found = await lab.update("a", "client", client=bob.name)
    assert found.client == bob.name
    await lab.fails(DENIED, "UpdateLease", lab.changed("a", duration=60), "permission denied")
    both = await lab.update("a", who=bob, client=lab.alice.name, duration=70)
    assert (both.client, times(both)[0]) == (lab.alice.name, 70)


async def test_transfers_that_cannot_be(lab: Lab) -> None:
    bob = await lab.client("bob")
    await lab.create("board=rpi", id="held")
    await lab.create("board=rpi", id="waits")
    to_bob = {"client": bob.name}
    await lab.fails(PRECONDITION, "UpdateLease", lab.changed("waits", **to_bob), "has no exporter yet")
    stranger = lab.changed("held", client="namespaces/elsewhere/clients/bob")
    await lab.fails(INVALID, "UpdateLease", stranger, "lease.client", "another namespace")
    nobody = lab.changed("held", client=f"{lab.parent}/clients/nobody")
    failure = await lab.fails(NOT_FOUND, "UpdateLease", nobody)
    assert failure.resource_name == f"{lab.parent}/clients/nobody"
    for name in ("bob", "", f"{lab.parent}/exporters/bob"):
        await lab.fails(INVALID, "UpdateLease", lab.changed("held", client=name), "lease.client")
    await lab.fails(INVALID, "UpdateLease", lab.changed("held", "client"), "lease.client")
    await lab.delete("held")
    await lab.fails(PRECONDITION, "UpdateLease", lab.changed("held", **to_bob), "has ended")
    assert (await lab.get("held")).client == lab.alice.name


async def test_an_ended_lease_keeps_its_times(lab: Lab) -> None:
    await lab.create("board=rpi", id="a")
    await lab.delete("a")
    for given in ({"duration": 60}, {"end_time": 10**18}, {"begin_time": 10**18}):
        await lab.fails(PRECONDITION, "UpdateLease", lab.changed("a", **given), "has ended")  # type: ignore[arg-type]
    assert times(await lab.get("a")) == (HOUR, None, None)


# -- deleting


async def test_deleting_releases(lab: Lab) -> None:
    await lab.create("board=rpi", id="a")
    await lab.delete("a")
    found = await lab.get("a")
    assert conditions(found) == ["Ready=False/Released"]
    assert found.exporter and found.HasField("effective_end_time"), "it stays readable"
    assert (await lab.stored("bench")).lease == ""
    request = pb.DeleteLeaseRequest(name=lab.lease_name("a"))
    await lab.fails(PRECONDITION, "DeleteLease", request, "released already")
    assert (await lab.create("board=rpi", id="b")).exporter, "the exporter is free again"


async def test_deleting_one_that_waits(lab: Lab) -> None:
    await lab.create("board=rpi", id="a")
    assert conditions(await lab.create("board=rpi", id="b")) == ["Pending=True/NotAvailable"]
    await lab.delete("b")
    assert conditions(await lab.get("b"))[-1] == "Ready=False/Released"


async def test_deleting_an_expired_lease_once_changes_nothing(lab: Lab) -> None:
    await lab.create("board=rpi", id="a", duration=10)
    await lab.yard.advance(11)
    before = await lab.until_ended("a")
    assert conditions(before) == ["Ready=False/Expired"]
    await lab.delete("a")
    assert await lab.get("a") == before
    request = pb.DeleteLeaseRequest(name=lab.lease_name("a"))
    await lab.fails(PRECONDITION, "DeleteLease", request, "released already")


# -- what the command line counts on (section 10)


async def test_ready_is_the_last_condition_of_a_lease_that_waited(lab: Lab) -> None:
    await lab.create("board=rpi", id="a")
    waiting = await lab.create("board=rpi", id="b")
    assert conditions(waiting) == ["Pending=True/NotAvailable"] and not ended(waiting)
    await lab.delete("a")
    found = await until(lambda: lab.get("b"), lambda found: found.HasField("exporter"))
    assert conditions(found) == ["Pending=True/NotAvailable", "Ready=True/Ready"]
    assert found.HasField("duration")

"""Who calls the jumpstarter service, sentence by sentence of the contract's section 4."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
import pytest_asyncio
import yaml
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from services.jumpstarter.api.caller import client_id
from shared.pb.jumpstarter.client.v1 import client_pb2
from shared.pb.jumpstarter.v1 import jumpstarter_pb2 as pb
from shared.pb.roundhouse.admin.v1 import access_pb2
from shared.pb.roundhouse.lab.v1 import lab_pb2, lab_service_pb2
from shared.rpc import interceptors
from tests.contract.jumpstarter_callers import Desk, metadata
from tests.contract.jumpstarter_yard import Caller, Yard, opened

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("jumpstarter-auth")]
INVALID = StatusCode.INVALID_ARGUMENT
UNAUTHENTICATED = StatusCode.UNAUTHENTICATED
DENIED = StatusCode.PERMISSION_DENIED
NOT_FOUND = StatusCode.NOT_FOUND
DAY = 86_400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def desk(yard: Yard) -> Desk:
    return Desk(await yard.lab())


def listing(desk: Desk) -> client_pb2.ListExportersRequest:
    return client_pb2.ListExportersRequest(parent=desk.lab.parent)


Sent = tuple[tuple[str, str], ...]


def without(name: str) -> Callable[[Sent], Sent]:
    return lambda sent: tuple(pair for pair in sent if pair[0] != name)


def replaced(name: str, value: str) -> Callable[[Sent], Sent]:
    return lambda sent: tuple((key, value if key == name else old) for key, old in sent)


def twice(name: str) -> Callable[[Sent], Sent]:
    return lambda sent: (*sent, *(pair for pair in sent if pair[0] == name))


WORDS = ("kind", "namespace", "name")
TABLE = [
    (without("authorization"), UNAUTHENTICATED, ["authorization"]),
    (twice("authorization"), INVALID, ["authorization", "once"]),
    (replaced("authorization", "Basic YWxhZGRpbg=="), INVALID, ["authorization", "Bearer"]),
    (replaced("authorization", "Bearer"), UNAUTHENTICATED, ["Bearer"]),
    (replaced("authorization", "Bearer nonsense"), UNAUTHENTICATED, ["malformed"]),
    *((without(f"jumpstarter-{word}"), INVALID, [f"jumpstarter-{word}"]) for word in WORDS),
    *((twice(f"jumpstarter-{word}"), INVALID, [f"jumpstarter-{word}", "once"]) for word in WORDS),
    *((replaced(f"jumpstarter-{word}", ""), INVALID, [f"jumpstarter-{word}"]) for word in WORDS),
    (replaced("jumpstarter-kind", "Robot"), INVALID, ["object kind mismatch", "jumpstarter-kind"]),
    (replaced("jumpstarter-kind", "client"), INVALID, ["object kind mismatch"]),
    (replaced("jumpstarter-name", "nobody"), DENIED, ["which is not the"]),
    (replaced("jumpstarter-name", "b a d"), DENIED, ["which is not the"]),
    (replaced("jumpstarter-namespace", "elsewhere"), DENIED, ["which is not the"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "words"), TABLE)
async def test_the_table_for_clients(
    desk: Desk, change: Callable[[Sent], Sent], code: StatusCode, words: list[str]
) -> None:
    sent = change(metadata(desk.alice))
    await desk.fails(desk.client.ListExporters, listing(desk), code, sent, *words)
    await desk.fails(desk.controller.ListLeases, pb.ListLeasesRequest(), code, sent, *words)


@pytest.mark.parametrize(("change", "code", "words"), TABLE)
async def test_the_table_for_exporters(
    desk: Desk, change: Callable[[Sent], Sent], code: StatusCode, words: list[str]
) -> None:
    bench = await desk.exporter("bench")
    sent = change(metadata(bench))
    await desk.fails(desk.controller.Register, pb.RegisterRequest(), code, sent, *words)
    failure = await desk.stream(desk.controller.Status, pb.StatusRequest(), sent).failure()
    assert failure.code is code


async def test_the_scheme_is_read_in_any_case(desk: Desk) -> None:
    for scheme in ("bearer", "BEARER"):
        sent = {**desk.alice.metadata, "authorization": f"{scheme} {desk.alice.token}"}
        await desk.call(desk.client.ListExporters, listing(desk), sent)


# -- kinds


def of_exporters(desk: Desk) -> list[tuple[Any, Any]]:
    return [
        (desk.controller.Register, pb.RegisterRequest()),
        (desk.controller.Unregister, pb.UnregisterRequest()),
        (desk.controller.ReportStatus, pb.ReportStatusRequest()),
        (desk.controller.GetServiceEndpoints, pb.GetServiceEndpointsRequest()),
    ]


def of_clients(desk: Desk) -> list[tuple[Any, Any]]:
    return [
        (desk.client.ListExporters, listing(desk)),
        (desk.client.CreateLease, client_pb2.CreateLeaseRequest(parent=desk.lab.parent)),
        (desk.client.DeleteLease, client_pb2.DeleteLeaseRequest(name=desk.lab.lease_name("x"))),
        (desk.client.RotateToken, client_pb2.RotateTokenRequest(parent=desk.lab.parent)),
        (desk.controller.Dial, pb.DialRequest(lease_name="x")),
        (desk.controller.GetLease, pb.GetLeaseRequest(name="x")),
        (desk.controller.RequestLease, pb.RequestLeaseRequest()),
        (desk.controller.ListLeases, pb.ListLeasesRequest()),
    ]


async def test_a_call_is_for_callers_of_its_kind(desk: Desk) -> None:
    bench = await desk.exporter("bench")
    for method, request in of_exporters(desk):
        await desk.fails(method, request, INVALID, desk.alice, "object kind mismatch")
    for method, request in of_clients(desk):
        await desk.fails(method, request, INVALID, bench, "object kind mismatch")
    failure = await desk.status(desk.alice).failure()
    assert (failure.code, "object kind mismatch" in failure.message) == (INVALID, True)


async def test_a_token_is_of_its_kind_whatever_the_metadata_says(desk: Desk) -> None:
    bench = await desk.exporter("bench")
    as_client = {**bench.metadata, "jumpstarter-kind": "Client"}
    as_exporter = {**desk.alice.metadata, "jumpstarter-kind": "Exporter"}
    for method, request in of_clients(desk):
        await desk.fails(method, request, DENIED, as_client)
    for method, request in of_exporters(desk):
        await desk.fails(method, request, DENIED, as_exporter)
    # Of both kinds: decided by the subject.
    release = pb.ReleaseLeaseRequest(name="x")
    await desk.fails(desk.controller.ReleaseLease, release, INVALID, as_client, "object kind mismatch")
    await desk.fails(desk.controller.ReleaseLease, release, INVALID, as_exporter, "object kind mismatch")
    await desk.fails(desk.controller.ReleaseLease, release, NOT_FOUND, bench)
    await desk.fails(desk.controller.ReleaseLease, release, NOT_FOUND, desk.alice)


async def test_another_object_of_the_same_namespace_is_another_caller(desk: Desk) -> None:
    bob = await desk.lab.client("bob")
    sent = {**desk.alice.metadata, "authorization": f"Bearer {bob.token}"}
    failure = await desk.fails(desk.client.ListExporters, listing(desk), DENIED, sent, bob.name)
    assert "permission denied" not in failure.message.lower()


async def test_another_namespace_is_not_touched(desk: Desk) -> None:
    other = await desk.yard.lab()
    await desk.fails(desk.client.ListExporters, listing(desk), DENIED, other.alice, "namespace mismatch")


# -- tokens


async def test_a_token_is_of_one_object_and_not_of_its_successor(desk: Desk) -> None:
    bob = await desk.lab.client("bob")
    await desk.call(desk.client.ListExporters, listing(desk), bob)
    await desk.remove(bob)
    await desk.fails(desk.client.ListExporters, listing(desk), DENIED, bob, "does not exist")
    again = await desk.lab.client("bob")
    await desk.fails(desk.client.ListExporters, listing(desk), DENIED, bob, "made anew")
    await desk.call(desk.client.ListExporters, listing(desk), again)


async def test_an_exporter_that_is_gone_is_nobody(desk: Desk) -> None:
    bench = await desk.exporter("bench")
    stream = desk.status(bench)
    assert not (await stream.next()).leased
    await desk.remove(bench)
    failure = await stream.failure()
    assert (failure.code, "was removed" in failure.message) == (DENIED, True)
    await desk.fails(desk.controller.Register, pb.RegisterRequest(), DENIED, bench, "does not exist")


async def test_an_issued_token_is_on_record_and_lasts_a_year(desk: Desk) -> None:
    answer = await desk.issued(desk.alice.name)
    claims = jwt.decode(answer.token, options={"verify_signature": False})
    stored = lab_pb2.Client.FromString((await desk.yard.store.get("client", desk.alice.name)).body)
    assert claims["sub"] == f"client:{desk.lab.namespace}:alice:{stored.uid}"
    assert claims["role"] == "jumpstarter.client"
    assert claims["exp"] == answer.expire_time.seconds
    assert 0 <= claims["exp"] - claims["iat"] - 365 * DAY <= 1
    request = access_pb2.ListTokensRequest(subject=claims["sub"])
    tokens = (await desk.call(desk.access.ListTokens, request, desk.admin)).tokens
    (record,) = [token for token in tokens if token.id == claims["jti"]]
    assert (record.role, record.creator) == ("jumpstarter.client", "admin")
    sent = {**desk.alice.metadata, "authorization": f"Bearer {answer.token}"}
    await desk.call(desk.client.ListExporters, listing(desk), sent)


async def test_rotation_makes_another_token_and_ends_none(desk: Desk) -> None:
    request = client_pb2.RotateTokenRequest(parent=desk.lab.parent)
    answers = [await desk.call(desk.client.RotateToken, request, desk.alice) for _ in range(3)]
    texts = {answer.token for answer in answers} | {desk.alice.token}
    assert len(texts) == 4
    for text in texts:
        sent = {**desk.alice.metadata, "authorization": f"Bearer {text}"}
        await desk.call(desk.client.ListExporters, listing(desk), sent)
    claims = [jwt.decode(answer.token, options={"verify_signature": False}) for answer in answers]
    assert len({claim["jti"] for claim in claims}) == 3
    assert [claim["exp"] for claim in claims] == [answer.expiry.seconds for answer in answers]
    assert claims[0]["exp"] - claims[0]["iat"] >= 365 * DAY


async def test_an_admin_revokes_one_token_of_several(desk: Desk) -> None:
    answer = await desk.issued(desk.alice.name)
    token_id = jwt.decode(answer.token, options={"verify_signature": False})["jti"]
    sent = {**desk.alice.metadata, "authorization": f"Bearer {answer.token}"}
    await desk.call(desk.client.ListExporters, listing(desk), sent)
    await desk.call(desk.access.RevokeToken, access_pb2.RevokeTokenRequest(id=token_id), desk.admin)
    await desk.fails(desk.client.ListExporters, listing(desk), UNAUTHENTICATED, sent, "revoked")
    await desk.call(desk.client.ListExporters, listing(desk), desk.alice)


async def test_an_exporter_whose_token_is_revoked_is_gone_soon_though_nobody_says_anything(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "_QUIET", 0.05)
    bench = await desk.exporter("bench", board="rpi")
    stream = desk.status(bench)
    await stream.next()
    token_id = jwt.decode(bench.token, options={"verify_signature": False})["jti"]
    await desk.call(desk.access.RevokeToken, access_pb2.RevokeTokenRequest(id=token_id), desk.admin)
    assert (await stream.failure()).code is UNAUTHENTICATED


async def test_a_disabled_subject_calls_no_more(desk: Desk) -> None:
    claims = jwt.decode(desk.alice.token, options={"verify_signature": False})
    user = access_pb2.User(subject=claims["sub"], role="admin", disabled=False)
    await desk.call(desk.access.PutUser, access_pb2.PutUserRequest(user=user), desk.admin)
    # A stored user's greater role makes it no more than a client.
    await desk.call(desk.client.ListExporters, listing(desk), desk.alice)
    queue = lab_service_pb2.ListQueueRequest(parent=desk.lab.parent)
    await desk.fails(desk.operators.ListQueue, queue, DENIED, desk.alice)
    user.disabled = True
    await desk.call(desk.access.PutUser, access_pb2.PutUserRequest(user=user), desk.admin)
    await desk.fails(desk.client.ListExporters, listing(desk), UNAUTHENTICATED, desk.alice, "disabled")


async def test_nobody_is_given_a_role_of_clients_or_exporters(desk: Desk) -> None:
    for role in ("jumpstarter.client", "jumpstarter.exporter"):
        create = access_pb2.CreateTokenRequest(subject="client:lab:x:1", role=role)
        await desk.fails(desk.access.CreateToken, create, INVALID, desk.admin, "role")
        put = access_pb2.PutUserRequest(user=access_pb2.User(subject="x", role=role))
        await desk.fails(desk.access.PutUser, put, INVALID, desk.admin, "user.role")


async def test_a_subject_alone_makes_no_client(desk: Desk) -> None:
    """An admin may name any subject, but the role decides who calls."""
    subject = jwt.decode(desk.alice.token, options={"verify_signature": False})["sub"]
    request = access_pb2.CreateTokenRequest(subject=subject, role="viewer")
    token = (await desk.call(desk.access.CreateToken, request, desk.admin)).value
    sent = {**desk.alice.metadata, "authorization": f"Bearer {token}"}
    create = client_pb2.CreateLeaseRequest(parent=desk.lab.parent)
    await desk.fails(desk.client.CreateLease, create, DENIED, sent, "'viewer'")


async def test_an_expired_token_says_so_in_the_words_that_jmp_reads(tmp_path: Any) -> None:
    async with opened(tmp_path) as yard:
        desk = Desk(await yard.lab())
        answer = await desk.issued(desk.alice.name, ttl=Duration(seconds=DAY))
        old = Caller("Client", desk.lab.namespace, "alice", answer.token)
        await desk.call(desk.client.ListExporters, listing(desk), old)
        yard.clock.now += (DAY + 1) * 10**9
        await desk.fails(desk.client.ListExporters, listing(desk), UNAUTHENTICATED, old, "token is expired")
        failure = await desk.fails(
            desk.controller.Dial, pb.DialRequest(lease_name="x"), UNAUTHENTICATED, old, "token is expired"
        )
        assert failure.message.count("expired") == 1


# -- IssueToken


async def test_the_file_for_jmp(desk: Desk) -> None:
    await desk.lab.exporter("bench", free=False)
    tls = desk.yard.service.running.environment.tls
    assert tls is not None
    for name, kind in ((desk.alice.name, "Client"), (f"{desk.lab.parent}/exporters/bench", "Exporter")):
        answer = await desk.issued(name)
        found = yaml.safe_load(answer.config)
        rest = {"drivers": {"allow": [], "unsafe": True}} if kind == "Client" else {"export": {}}
        authority = base64.b64encode(answer.authority.encode()).decode()
        assert found == {
            "apiVersion": "jumpstarter.dev/v1alpha1",
            "kind": f"{kind}Config",
            "metadata": {"namespace": desk.lab.namespace, "name": name.rpartition("/")[2]},
            "endpoint": tls.endpoint,
            "token": answer.token,
            "tls": {"ca": authority, "insecure": False},
            **rest,
        }
        assert answer.endpoint == tls.endpoint
        assert answer.authority.startswith("-----BEGIN CERTIFICATE-----")
    assert "MockPower" in answer.config


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("", INVALID, "name"),
        ("alice", INVALID, "namespaces/{namespace}/clients/{client}"),
        ("namespaces/{ns}/leases/x", INVALID, "name"),
        ("namespaces/{ns}/clients/x/y", INVALID, "4 are expected"),
        ("namespaces/{ns}/clients/", INVALID, "DNS-1123"),
        ("namespaces/{ns}/clients/UPPER", INVALID, "DNS-1123"),
        ("namespaces/{ns}/exporters/nobody", NOT_FOUND, "'exporters'"),
        ("namespaces/{ns}/clients/nobody", NOT_FOUND, "'clients'"),
    ],
)
async def test_a_token_is_issued_for_what_is_stored(
    desk: Desk, name: str, code: StatusCode, said: str
) -> None:
    request = lab_service_pb2.IssueTokenRequest(name=name.replace("{ns}", desk.lab.namespace))
    await desk.fails(desk.operators.IssueToken, request, code, desk.admin, said)


@pytest.mark.parametrize(
    "ttl",
    [
        Duration(),
        Duration(seconds=-5),
        Duration(seconds=401 * DAY),
        Duration(seconds=2**63 - 1),
        Duration(nanos=-(2**31)),
    ],
)
async def test_a_token_lasts_a_time_that_makes_sense(desk: Desk, ttl: Duration) -> None:
    request = lab_service_pb2.IssueTokenRequest(name=desk.alice.name, ttl=ttl)
    await desk.fails(desk.operators.IssueToken, request, INVALID, desk.admin, "ttl")


async def test_tokens_are_issued_by_operators_in_their_namespaces(desk: Desk) -> None:
    request = lab_service_pb2.IssueTokenRequest(name=desk.alice.name)
    issue = desk.operators.IssueToken
    await desk.fails(issue, request, DENIED, desk.yard.staff("viewer"), "tokens.issue")
    await desk.fails(issue, request, DENIED, desk.alice)
    stranger = await desk.user("stranger", "operator", "elsewhere")
    await desk.fails(issue, request, DENIED, stranger, "--add-namespace")
    local = await desk.user("local", "operator", desk.lab.namespace)
    assert (await desk.issued(desk.alice.name, local)).token


# -- staff


async def leased_by(desk: Desk, who: Any, id: str) -> str:
    """The owner of a lease that `who` asks for."""
    wanted = client_pb2.Lease(selector="board=none", duration=Duration(seconds=60))
    request = client_pb2.CreateLeaseRequest(parent=desk.lab.parent, lease_id=id, lease=wanted)
    return (await desk.call(desk.client.CreateLease, request, who)).client


async def test_staff_acts_as_a_client_called_like_the_user(desk: Desk) -> None:
    await desk.lab.exporter("offline", free=False, board="none")
    ann = await desk.user("ann", "operator", desk.lab.namespace)
    name = f"{desk.lab.parent}/clients/ann"
    assert await leased_by(desk, ann, "one") == name
    stored = lab_pb2.Client.FromString((await desk.yard.store.get("client", name)).body)
    assert (stored.namespace, stored.labels) == (desk.lab.namespace, {})
    assert stored.uid
    assert await leased_by(desk, ann, "two") == name
    again = lab_pb2.Client.FromString((await desk.yard.store.get("client", name)).body)
    assert again == stored
    request = pb.ListLeasesRequest()
    sent = {**ann, "jumpstarter-namespace": desk.lab.namespace}
    assert list((await desk.call(desk.controller.ListLeases, request, sent)).names) == ["one", "two"]


async def test_staff_acts_as_the_client_it_names(desk: Desk) -> None:
    ann = await desk.user("ann", "operator", desk.lab.namespace)
    sent = {**ann, "jumpstarter-name": "alice", "jumpstarter-kind": "Client"}
    assert await leased_by(desk, sent, "one") == desk.alice.name
    sent = {**ann, "jumpstarter-name": "new-one", "jumpstarter-namespace": desk.lab.namespace}
    assert await leased_by(desk, sent, "two") == f"{desk.lab.parent}/clients/new-one"


async def test_a_reading_call_of_staff_writes_nothing(desk: Desk) -> None:
    vic = await desk.user("vic", "viewer", desk.lab.namespace)
    await leased_by(desk, desk.alice, "one")
    head = await desk.head()
    await desk.call(desk.client.ListExporters, listing(desk), vic)
    get = client_pb2.GetLeaseRequest(name=desk.lab.lease_name("one"))
    assert (await desk.call(desk.client.GetLease, get, vic)).client == desk.alice.name
    sent = {**vic, "jumpstarter-namespace": desk.lab.namespace}
    assert not (await desk.call(desk.controller.ListLeases, pb.ListLeasesRequest(), sent)).names
    own = pb.GetLeaseRequest(name="one")
    await desk.fails(desk.controller.GetLease, own, DENIED, sent, "permission denied")
    assert await desk.head() == head


async def test_viewers_of_the_staff_only_read(desk: Desk) -> None:
    vic = await desk.user("vic", "viewer", desk.lab.namespace)
    head = await desk.head()
    create = client_pb2.CreateLeaseRequest(parent=desk.lab.parent)
    await desk.fails(desk.client.CreateLease, create, DENIED, vic, "leases.create")
    rotate = client_pb2.RotateTokenRequest(parent=desk.lab.parent)
    await desk.fails(desk.client.RotateToken, rotate, DENIED, vic, "tokens.rotate")
    await desk.fails(desk.controller.Dial, pb.DialRequest(lease_name="x"), DENIED, vic, "leases.dial")
    assert await desk.head() == head


async def test_staff_keeps_to_its_namespaces(desk: Desk) -> None:
    nobody = await desk.person("nobody", "operator")
    said = f"roundhouse user put nobody --add-namespace {desk.lab.namespace}"
    await desk.fails(desk.client.ListExporters, listing(desk), DENIED, nobody, said)
    # Without a namespace of the request or the metadata it is the default one.
    await desk.fails(desk.controller.ListLeases, pb.ListLeasesRequest(), DENIED, nobody, "'default'")
    ann = await desk.user("ann", "operator", "default")
    assert not (await desk.call(desk.controller.ListLeases, pb.ListLeasesRequest(), ann)).names
    sent = {**ann, "jumpstarter-namespace": desk.lab.namespace}
    await desk.fails(desk.controller.ListLeases, pb.ListLeasesRequest(), DENIED, sent, desk.lab.namespace)
    everywhere = await desk.user("eve", "viewer", "*")
    await desk.call(desk.client.ListExporters, listing(desk), everywhere)
    await desk.call(desk.client.ListExporters, listing(desk), desk.admin)


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("jumpstarter-name", "Not_A_Name", "DNS-1123"),
        ("jumpstarter-name", "a/b", "DNS-1123"),
        ("jumpstarter-kind", "Exporter", "object kind mismatch"),
    ],
)
async def test_metadata_of_staff_must_make_sense(desk: Desk, header: str, value: str, said: str) -> None:
    sent = {**desk.admin, header: value}
    await desk.fails(desk.client.ListExporters, listing(desk), INVALID, sent, header, said)
    repeated = (*metadata(desk.admin), ("jumpstarter-name", "a"), ("jumpstarter-name", "b"))
    await desk.fails(desk.client.ListExporters, listing(desk), INVALID, repeated, "jumpstarter-name")
    sent = {**desk.admin, "jumpstarter-namespace": "elsewhere"}
    await desk.fails(desk.client.ListExporters, listing(desk), DENIED, sent, "namespace mismatch")


async def test_staff_is_no_exporter(desk: Desk) -> None:
    bench = await desk.exporter("bench")
    sent = {**bench.metadata, **desk.admin}
    for method, request in of_exporters(desk):
        await desk.fails(method, request, DENIED, sent)
        await desk.fails(method, request, DENIED, desk.admin)
    # What clients may do as well it may do as one of those.
    release = pb.ReleaseLeaseRequest(name="x")
    await desk.fails(desk.controller.ReleaseLease, release, DENIED, sent, "is no exporter")
    as_client = {**desk.alice.metadata, **desk.admin}
    await desk.fails(desk.controller.ReleaseLease, release, NOT_FOUND, as_client)


@pytest.mark.parametrize(
    "user", ["Ann", "ann@example.org", "ann example", "-ann", "ANN", "ü", "a" * 128, "@"]
)
async def test_a_user_whose_name_is_no_id_has_a_client_all_the_same(desk: Desk, user: str) -> None:
    who = await desk.person(user, "admin")
    owner = await leased_by(desk, who, "one")
    assert owner == f"{desk.lab.parent}/clients/{client_id(user)}"


# -- REST


async def test_over_rest_a_token_is_enough(desk: Desk) -> None:
    who = {"Authorization": f"Bearer {desk.alice.token}"}
    body = {"selector": "board=none", "duration": "60s"}
    answer = await desk.yard.rest("POST", f"/v1/{desk.lab.parent}/leases", body, who=who)
    assert answer.ok["client"] == desk.alice.name
    bob = await desk.lab.client("bob")
    release = f"/v1/{answer.ok['name']}"
    (await desk.yard.rest("DELETE", release, who={"Authorization": f"Bearer {bob.token}"})).is_error(
        403, DENIED
    )
    assert (await desk.yard.rest("DELETE", release, who=who)).ok == {}


async def test_over_rest_metadata_must_not_contradict_the_token(desk: Desk) -> None:
    path = f"/v1/{desk.lab.parent}/exporters"
    who = {"Authorization": f"Bearer {desk.alice.token}"}
    right = await desk.yard.rest("GET", path, who={**who, "Jumpstarter-Name": "alice"})
    assert right.ok["exporters"] == []
    wrong = await desk.yard.rest("GET", path, who={**who, "Jumpstarter-Name": "bob"})
    wrong.is_error(403, DENIED, "which is not the")
    kind = await desk.yard.rest("GET", path, who={**who, "Jumpstarter-Kind": "Exporter"})
    kind.is_error(400, INVALID, "object kind mismatch")
    other = await desk.yard.rest("GET", "/v1/namespaces/elsewhere/exporters", who=who)
    other.is_error(403, DENIED, "namespace mismatch")
    basic = await desk.yard.rest("GET", path, who={"Authorization": "Basic YWxhZGRpbg=="})
    basic.is_error(400, INVALID, "Bearer")
    (await desk.yard.rest("GET", path, who={})).is_error(401, UNAUTHENTICATED)


async def test_over_rest_an_exporter_is_no_client(desk: Desk) -> None:
    bench = await desk.exporter("bench")
    who = {"Authorization": f"Bearer {bench.token}"}
    answer = await desk.yard.rest("GET", f"/v1/{desk.lab.parent}/exporters", who=who)
    answer.is_error(400, INVALID, "object kind mismatch")


async def test_over_rest_staff_acts_as_a_client_too(desk: Desk) -> None:
    ann = await desk.user("ann", "operator", desk.lab.namespace)
    body = {"selector": "board=none", "duration": "60s"}
    path = f"/v1/{desk.lab.parent}/leases"
    answer = await desk.yard.rest("POST", path, body, who=ann)
    assert answer.ok["client"] == f"{desk.lab.parent}/clients/ann"
    answer = await desk.yard.rest("POST", path, body, who={**ann, "Jumpstarter-Name": "alice"})
    assert answer.ok["client"] == desk.alice.name


# -- authentication switched off


async def test_without_authentication_a_call_is_whose_metadata_it_carries(tmp_path: Any) -> None:
    async with opened(tmp_path, auth=False) as yard:
        desk = Desk(await yard.lab())
        bench = await desk.exporter("bench", board="rpi")
        unproved = {key: value for key, value in bench.metadata.items() if key != "authorization"}
        answer = await desk.call(desk.controller.Register, pb.RegisterRequest(), unproved)
        assert answer.uuid == (await desk.lab.stored("bench")).uid
        await desk.fails(
            desk.controller.Register,
            pb.RegisterRequest(),
            INVALID,
            {},
            "jumpstarter-kind",
            "jumpstarter-name",
        )
        missing = {**unproved, "jumpstarter-name": "nobody"}
        await desk.fails(desk.controller.Register, pb.RegisterRequest(), DENIED, missing, "does not exist")
        kind = {**unproved, "jumpstarter-kind": "Client"}
        await desk.fails(desk.controller.Register, pb.RegisterRequest(), INVALID, kind, "kind mismatch")
        new = {"jumpstarter-kind": "Client", "jumpstarter-name": "carl"}
        assert await leased_by(desk, new, "one") == f"{desk.lab.parent}/clients/carl"
        assert await leased_by(desk, {}, "two") == f"{desk.lab.parent}/clients/anonymous"

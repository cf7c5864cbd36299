"""Malformed requests to jobs end in the right code, name the field, and leave everything as it was."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yarl
from google.protobuf.message import Message

from services.jobs.api import rest
from shared.pb.peloton.api.v1alpha.job.stateless.svc import stateless_svc_pb2 as pb
from shared.rpc.client import failure_of
from shared.rpc.status import HTTP
from tests.contract.bad_input import Rest
from tests.contract.bad_input_jobs import GRPC, INVALID, JOB, REST, UNIMPLEMENTED, Grpc
from tests.contract.jobs_yard import Job, Yard, opened, until
from tests.patience import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("bad-input-jobs")]
WRONG_VERB = 405


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with opened(tmp_path_factory.mktemp("yard"), "sqlite") as found:
        request = pb.CreateJobRequest(spec=found.spec(count=1, name="the job"))
        request.job_id.value = JOB
        await found.call("CreateJob", request)
        await Job(found, JOB, "1-1-1").until_over()
        await until(idle(found), lambda still: still)
        yield found


def idle(yard: Yard) -> Any:
    async def answer() -> bool:
        return yard.controller.idle

    return answer


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def unharmed(yard: Yard, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """After each case nothing has crashed, nothing was written, and the service serves."""
    caplog.set_level(logging.ERROR)
    before = await yard.store.head()
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (await Job(yard, JOB, "").status()).version.value == "1-1-1"
    assert await yard.store.head() == before


def path_of(yard: Yard, name: str) -> tuple[str, bool]:
    """The full path of a method, and whether it streams."""
    methods = (method for api in yard.service.running.apis for method in api.methods)
    found = next(method for method in methods if method.name == name)
    return found.path, found.server_streaming


@pytest.mark.parametrize("case", GRPC, ids=lambda case: case.name[:80])
async def test_over_grpc(yard: Yard, case: Grpc) -> None:
    data = case.request.SerializeToString() if isinstance(case.request, Message) else case.request
    path, streams = path_of(yard, case.method)
    call = (yard.channel.unary_stream if streams else yard.channel.unary_unary)(path)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answer = call(data, metadata=tuple(yard.who().items()), timeout=PATIENCE)
        await (answer.read() if streams else answer)
    failure = failure_of(caught.value)
    assert failure.code is case.code, failure
    if case.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return  # the library answers, before anything of ours has seen the call
    assert failure.message and len(failure.message) < 2000
    assert failure.reason
    fields = {violation.field for violation in failure.violations}
    if case.code is UNIMPLEMENTED:
        # Names the paths, and what cannot do it.
        assert case.field in failure.message and "not supported" in failure.message
    else:
        assert case.field in fields if case.field else not fields, failure


@pytest.mark.parametrize("case", REST, ids=lambda case: case.name)
async def test_over_rest(yard: Yard, case: Rest) -> None:
    headers = {"Authorization": yard.who()["authorization"], **case.headers}
    url = yarl.URL(yard.service.url + case.target, encoded=True)
    async with yard.http.request(case.verb, url, data=case.data or None, headers=headers) as answer:
        body: dict[str, Any] = json.loads(await answer.read())
    expected = WRONG_VERB if case.code is UNIMPLEMENTED else HTTP[case.code]
    assert (answer.status, body["code"]) == (expected, case.code.value[0]), body
    assert body["message"] and len(body["message"]) < 2000
    assert answer.headers["Content-Type"].startswith("application/json")
    assert case.field in body["message"]
    if case.code is INVALID:
        violations = next(item for item in body["details"] if "fieldViolations" in item)["fieldViolations"]
        assert any(case.field in violation["field"] for violation in violations), violations


async def test_everything_that_is_wrong_is_said_at_once(yard: Yard) -> None:
    request = pb.CreateJobRequest(spec=yard.spec(sla={"revocable": True}))
    container = request.spec.default_spec.containers[0]
    container.resource.cpu_limit = -1
    container.ports.add(value=80)
    request.spec.instance_spec[1].controller = True
    request.spec.instance_spec[1].containers.add().resource.gpu_limit = -1
    failure = await yard.fails(INVALID, "CreateJob", request)
    assert {violation.field for violation in failure.violations} == {
        "spec.sla.revocable",
        "spec.default_spec.containers[0].resource.cpu_limit",
        "spec.default_spec.containers[0].ports[0].name",
        "spec.instance_spec[1].controller",
        "spec.instance_spec[1].containers[0].resource.gpu_limit",
        "spec.instance_spec[1].containers[0].ports[0].name",
    }


async def test_no_method_and_no_route_is_left_out(yard: Yard) -> None:
    # The last one is the internal API, which all services have.
    methods = [
        method for api in yard.service.running.apis for method in api.methods if "admin" not in method.path
    ]
    assert {method.name for method in methods} - {case.method for case in GRPC} == set()
    rules = [
        rule
        for table in (rest.JOBS, rest.PODS, rest.LOGS, rest.WATCHES, rest.POOLS)
        for rules in table.values()
        for rule in rules
    ]
    called = [(case.verb, case.target.partition("?")[0]) for case in REST]
    for rule in rules:
        pattern = re.sub(r"\\{[^}]*\\}", "[^/:]+", re.escape(rule.path))
        assert any(verb == rule.verb and re.fullmatch(pattern, path) for verb, path in called), rule


async def test_the_table_is_worth_its_name() -> None:
    names = Counter([*(("grpc", case.name) for case in GRPC), *(("rest", case.name) for case in REST)])
    assert len(names) >= 250 and not [name for name, count in names.items() if count > 1]

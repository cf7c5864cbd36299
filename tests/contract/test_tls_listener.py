"""The gRPC port that speaks TLS whatever the settings, as real exporters and clients use it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from shared.service.certificates import CertificateFault, ensure
from shared.service.service import Assembly, Environment, Service
from shared.service.testing import TestService, started
from tests.contract.router_yard import bearer
from tests.patience import PATIENCE

SERVING = health_pb2.HealthCheckResponse.SERVING
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def assemble(environment: Environment, found: Sequence[object]) -> Assembly:
    assert environment.tls is not None and environment.tls.port
    return Assembly(apis=[])


# Nothing but what every process serves; the name is that of a service with the port.
SERVICE = Service("jumpstarter", lambda *_: [], assemble)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[TestService]:
    async with started(SERVICE, tmp_path) as found:
        yield found


async def check(target: str, credentials: grpc.ChannelCredentials) -> int:
    async with grpc.aio.secure_channel(target, credentials) as channel:
        answer = await HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    return answer.status


@asynccontextmanager
async def connected(
    service: TestService, *protocols: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TLS connection that believes whatever it is shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.running.tls_port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_clients_that_trust_the_authority_connect(service: TestService, host: str) -> None:
    target = f"{host}:{service.running.tls_port}"
    authority = (service.running.config.data / "tls" / "ca.pem").read_bytes()
    assert await check(target, grpc.ssl_channel_credentials(authority)) == SERVING


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_clients_that_trust_what_they_are_shown_connect(service: TestService, host: str) -> None:
    """`tls.insecure: true`: a connection without ALPN that fetches the chain and closes, then a channel
    that trusts it (jumpstarter contract, section 8)."""
    async with connected(service) as (_, writer):
        chain = writer.get_extra_info("ssl_object")._sslobj.get_unverified_chain()
    roots = "".join(certificate.public_bytes() for certificate in chain).encode()
    target = f"{host}:{service.running.tls_port}"
    assert await check(target, grpc.ssl_channel_credentials(roots)) == SERVING


async def test_others_do_not_connect(service: TestService, tmp_path: Path) -> None:
    other = ensure(tmp_path / "other", [])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(service.tls_target, grpc.ssl_channel_credentials(other.authority))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_both_ports_serve_the_same(service: TestService) -> None:
    request, metadata = admin_pb2.ListKindsRequest(), bearer(service.tokens["admin"])
    async with (
        grpc.aio.insecure_channel(service.target) as plain,
        grpc.aio.secure_channel(service.tls_target, service.tls) as secret,
    ):
        answers = [
            await AdminServiceStub(channel).ListKinds(request, metadata=metadata)
            for channel in (plain, secret)
        ]
    assert answers[0] == answers[1]


async def test_ports_and_endpoint(service: TestService) -> None:
    running = service.running
    assert running.ports == {"grpc": running.grpc_port, "http": running.http_port, "tls": running.tls_port}
    assert running.environment.tls is not None
    assert running.environment.tls.endpoint == f"127.0.0.1:{running.tls_port}"


async def test_an_endpoint_of_its_own_is_told_and_certified(tmp_path: Path) -> None:
    async with started(SERVICE, tmp_path, jumpstarter_endpoint="lab.example:8722") as service:
        found = service.running.environment.tls
        assert found is not None and found.endpoint == "lab.example:8722"
        options = (("grpc.ssl_target_name_override", "lab.example"),)
        async with grpc.aio.secure_channel(service.tls_target, service.tls, options=options) as channel:
            await HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)


async def test_a_certificate_of_the_settings_is_shown(tmp_path: Path) -> None:
    own = ensure(tmp_path / "own", [])
    files = {"tls_cert": "server.pem", "tls_key": "server.key", "tls_ca": "ca.pem"}
    settings = {name: str(tmp_path / "own" / file) for name, file in files.items()}
    async with started(SERVICE, tmp_path / "data", **settings) as service:
        trust = grpc.ssl_channel_credentials(own.authority)
        assert await check(service.tls_target, trust) == SERVING
        assert await check(service.target, trust) == SERVING
        assert not (tmp_path / "data" / "tls").exists()


async def test_a_renewed_certificate_is_shown_without_a_restart(service: TestService) -> None:
    assert service.running.environment.tls is not None
    source = service.running.environment.tls.certificates
    before = source.current
    ensure(service.running.config.data / "tls", ["new.example"])
    assert await check(service.tls_target, service.tls) == SERVING
    assert source.current == before
    source._look_at = 0.0
    async with connected(service) as (_, writer):
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert b"new.example" in shown
    assert source.current != before and source.current.authority == before.authority


async def test_other_services_have_no_such_port(tmp_path: Path) -> None:
    async def nothing(environment: Environment, found: Sequence[object]) -> Assembly:
        assert environment.tls is None
        return Assembly(apis=[])

    async with started(Service("meta", lambda *_: [], nothing), tmp_path) as service:
        assert service.running.ports.keys() == {"grpc", "http"}
        assert not (tmp_path / "tls").exists()


async def test_a_taken_port_or_a_broken_file_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, pytest.raises(OSError, match="is taken"):
        async with started(SERVICE, tmp_path, jumpstarter_tls_port=str(holder.getsockname()[1])):
            pass
    (tmp_path / "tls" / "server.key").write_bytes(b"broken")
    with pytest.raises(CertificateFault, match=r"server\.key"):
        async with started(SERVICE, tmp_path):
            pass


async def test_connections_that_close_at_once_are_no_errors(
    service: TestService, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        async with connected(service):
            pass
        _, writer = await asyncio.open_connection("127.0.0.1", service.running.tls_port)
        writer.close()
    assert await check(service.tls_target, service.tls) == SERVING
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert capfd.readouterr().err == ""


def frame(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Of HTTP/2, for the connection."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + bytes(4) + payload


async def test_pings_without_calls_are_tolerated(service: TestService) -> None:
    """Real exporters ping every 20 s, and a server that counts pings cuts them off at the third or
    fourth. Here they come without a pause."""
    ping, settings, goaway, ack = 6, 4, 7, 1
    async with asyncio.timeout(PATIENCE), connected(service, "h2") as (reader, writer):
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings))
        answered = []
        for number in range(60):
            writer.write(frame(ping, number.to_bytes(8)))
            while len(answered) <= number:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                assert head[3] != goaway, payload
                if (head[3], head[4]) == (ping, ack):
                    answered.append(int.from_bytes(payload))
                elif head[3] == settings and head[4] != ack:
                    writer.write(frame(settings, flags=ack))
    assert answered == list(range(60))

"""A service as a process: how it starts, refuses to start, stops, and survives being killed."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.pb.backend.api.v2beta1 import experiment_pb2 as pb
from shared.pb.backend.api.v2beta1.experiment_pb2_grpc import ExperimentServiceStub
from shared.pb.roundhouse.admin.v1 import admin_pb2
from shared.pb.roundhouse.admin.v1.admin_pb2_grpc import AdminServiceStub
from tests.process import ROOT, Process, environment, started, token


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


async def test_sigterm_ends_watches_with_unavailable_and_the_process_with_0(tmp_path: Path) -> None:
    async with started("pipelines", tmp_path) as service:
        metadata = bearer(await token(tmp_path))
        async with grpc.aio.insecure_channel(service.target) as channel:
            watch = AdminServiceStub(channel).Watch(
                admin_pb2.WatchRequest(kind="experiment"), metadata=metadata
            )
            first = await watch.read()
            assert first.is_current
            service.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async with asyncio.timeout(10):
                    await watch.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        async with asyncio.timeout(10):
            assert await service.process.wait() == 0
        assert any(json.loads(line)["event"] == "stopped" for line in service.log.read_text().splitlines())


async def test_a_second_process_does_not_share_the_ports(tmp_path: Path) -> None:
    async with started("pipelines", tmp_path) as service:
        second = await asyncio.to_thread(
            run, environment(tmp_path, grpc_port=str(service.grpc), http_port="0")
        )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{service.grpc}" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("base_port", "eight"), ("stop_grace", "5 parsecs"), ("no_such", "1"), ("auth", "maybe")],
)
async def test_a_wrong_setting_stops_the_start_and_is_named(tmp_path: Path, name: str, value: str) -> None:
    ended = await asyncio.to_thread(run, environment(tmp_path, **{name: value}))
    assert ended.returncode != 0
    assert f"ROUNDHOUSE_{name.upper()}" in ended.stderr
    assert "Traceback" not in ended.stderr


def run(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.pipelines"],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_tls_on_both_ports(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    async with started("pipelines", tmp_path, tls_cert=str(certificate), tls_key=str(key)) as service:
        metadata = bearer(await token(tmp_path))
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{service.grpc}", credentials) as channel:
            found = await ExperimentServiceStub(channel).ListExperiments(
                pb.ListExperimentsRequest(), metadata=metadata
            )
        assert [e.display_name for e in found.experiments] == ["Default"]
        trust = ssl.create_default_context(cafile=str(certificate))
        async with aiohttp.ClientSession() as session:
            url = f"https://localhost:{service.http}/apis/v1beta1/experiments"
            async with session.get(url, ssl=trust, headers=dict(metadata)) as answer:
                assert (await answer.json())["total_size"] == 1


async def test_no_acknowledged_write_is_lost_to_kill_9(
    tmp_path: Path, scale: Callable[[int, int], int]
) -> None:
    """Creates and archives from 8 callers; the process is killed in their midst, again and again."""
    acknowledged: dict[str, int] = {}
    for round_ in range(scale(4, 40)):
        async with started("pipelines", tmp_path) as service:
            metadata = bearer(await token(tmp_path))
            await check(service, metadata, acknowledged)
            writers = [
                asyncio.create_task(write(service, metadata, f"{round_}-{caller}", acknowledged))
                for caller in range(8)
            ]
            before = len(acknowledged)
            enough = before + random.Random(round_).randint(20, 120)
            async with asyncio.timeout(30):
                while len(acknowledged) < enough:
                    await asyncio.wait(writers, timeout=0.005)
            await service.end(signal.SIGKILL)
            await asyncio.gather(*writers)
    async with started("pipelines", tmp_path) as service:
        await check(service, bearer(await token(tmp_path)), acknowledged)


async def write(service: Process, metadata: object, prefix: str, acknowledged: dict[str, int]) -> None:
    """Create and archive until the process is gone."""
    async with grpc.aio.insecure_channel(service.target) as channel:
        stub = ExperimentServiceStub(channel)
        for number in range(100_000):
            try:
                name = f"{prefix}-{number}"
                wanted = pb.Experiment(display_name=name)
                made = await stub.CreateExperiment(
                    pb.CreateExperimentRequest(experiment=wanted), metadata=metadata
                )
                acknowledged[made.experiment_id] = pb.Experiment.AVAILABLE
                request = pb.ArchiveExperimentRequest(experiment_id=made.experiment_id)
                await stub.ArchiveExperiment(request, metadata=metadata)
                acknowledged[made.experiment_id] = pb.Experiment.ARCHIVED
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
                return


async def check(service: Process, metadata: object, acknowledged: dict[str, int]) -> None:
    """Everything acknowledged is there, at least in the state that was acknowledged last."""
    async with grpc.aio.insecure_channel(service.target) as channel:
        stub = ExperimentServiceStub(channel)
        found: dict[str, int] = {}
        page_token = ""
        while True:
            request = pb.ListExperimentsRequest(page_size=200, page_token=page_token)
            page = await stub.ListExperiments(request, metadata=metadata)
            found.update({e.experiment_id: e.storage_state for e in page.experiments})
            page_token = page.next_page_token
            if not page_token:
                break
    assert len(found) == page.total_size
    wrong = {i: state for i, state in acknowledged.items() if found.get(i, 0) < state}
    assert not wrong


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.pem", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths

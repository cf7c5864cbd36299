"""`doctor`: what is wrong with the installation, the data folder and the running services."""

from __future__ import annotations

import asyncio
import importlib
import re
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.cli import failures, lock, ports, suite
from shared.cli.access import Access
from shared.cli.readiness import Prober
from shared.cli.suite import Program
from shared.cli.yard import Yard, run, where
from shared.pb.roundhouse.admin.v1 import access_pb2
from shared.rpc.client import CallFailed, Client

ROOT: Final = Path(__file__).resolve().parents[2]
_SOON: Final = timedelta(days=14)
_DISK_BYTES: Final = 500 * 1024 * 1024
_SKEW_SECONDS: Final = 5.0
_PIN: Final = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+)(?P<marker>\s*;.*)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """`bad` ends the command with exit code 1; `note` is worth a look."""

    state: Literal["ok", "note", "bad"]
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.subject:<14} {self.text}"


@click.command("doctor")
@where
def doctor(yard: Yard) -> None:
    """Check the installation and the running services; exit code 1 when something is wrong."""
    found = run(_examine(yard))
    bad = sum(1 for finding in found if finding.state == "bad")
    click.echo("all is well" if not bad else f"{bad} of {len(found)} checks failed")
    if bad:
        raise SystemExit(1)


async def _examine(yard: Yard) -> list[Finding]:
    found: list[Finding] = []
    for finding in (*_python(), *_stubs(), *_folder(yard), *_tls(yard)):
        found.append(finding)
        click.echo(finding)
    async for finding in _processes(yard):
        found.append(finding)
        click.echo(finding)
    return found


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "python", f"{version} in {sys.prefix}")
    wrong = list(_pins())
    if wrong:
        yield Finding("bad", "requirements", f"{', '.join(wrong[:5])}; run `make setup`")
    else:
        yield Finding("ok", "requirements", "as pinned")


def _pins() -> Iterator[str]:
    """The pinned requirements that are missing or of another version."""
    path = ROOT / "requirements.txt"
    for line in path.read_text().splitlines() if path.is_file() else ():
        match = _PIN.match(line)
        if match is None or match["marker"]:
            continue
        try:
            version = metadata.version(match["name"])
        except metadata.PackageNotFoundError:
            yield f"{match['name']} is missing"
            continue
        if version != match["version"]:
            yield f"{match['name']} is {version}, not {match['version']}"


def _stubs() -> Iterator[Finding]:
    generate = importlib.import_module("shared.protos.generate")
    stamp: Path = generate.STAMP
    if stamp.exists() and stamp.read_text() == generate.digest():
        yield Finding("ok", "stubs", "current")
    else:
        yield Finding("bad", "stubs", "older than the protos; run `make setup`")


def _folder(yard: Yard) -> Iterator[Finding]:
    data = yard.config.data.absolute()
    if not data.is_dir():
        yield Finding("note", "data", f"{data} is not there yet; the first `make run-all` makes it")
        return
    private = [path for path in (yard.token_file, *data.glob("keys/*")) if path.is_file()]
    # A mounted secret may be readable for its group.
    open_ = [str(path) for path in private if path.stat().st_mode & 0o027]
    if open_:
        yield Finding("bad", "data", f"others may read {', '.join(open_)}; chmod 600")
    free = shutil.disk_usage(data).free
    if free < _DISK_BYTES:
        yield Finding("bad", "data", f"{free >> 20} MiB free on the disk of {data}")
    if not open_ and free >= _DISK_BYTES:
        yield Finding("ok", "data", f"{data}, {free >> 30} GiB free")


def _tls(yard: Yard) -> Iterator[Finding]:
    config = yard.config
    if not config.tls_cert and not config.tls_ca:
        yield Finding("ok", "tls", "off")
        return
    try:
        if config.tls_cert:
            yield _certificate(Path(config.tls_cert), Path(config.tls_key))
        if config.tls_ca:
            ssl.create_default_context(cafile=config.tls_ca)
            yield Finding("ok", "tls", f"authority {config.tls_ca}")
    except (OSError, ValueError) as error:
        yield Finding("bad", "tls", " ".join(str(error).split()))


def _certificate(cert_file: Path, key_file: Path) -> Finding:
    certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    key = load_pem_private_key(key_file.read_bytes(), password=None)
    end = certificate.not_valid_after_utc
    if certificate.public_key() != key.public_key():
        return Finding("bad", "tls", f"{key_file} is not the key of {cert_file}")
    if end < datetime.now(UTC):
        return Finding("bad", "tls", f"{cert_file} expired at {end:%Y-%m-%d %H:%M}Z")
    state: Literal["ok", "note"] = "note" if end - datetime.now(UTC) < _SOON else "ok"
    return Finding(state, "tls", f"{cert_file} until {end:%Y-%m-%d}")


async def _processes(yard: Yard) -> AsyncIterator[Finding]:
    note = await asyncio.to_thread(lock.read, yard.config.data / "run")
    programs = suite.programs(yard.config)
    running = [program for program in programs if await _serves(yard, program)]
    if note is None and not running:
        yield Finding("note", "up", "not running; start it with `make run-all`")
    elif note is not None:
        elsewhere = yard.elsewhere()
        state: Literal["ok", "bad"] = "bad" if elsewhere else "ok"
        yield Finding(state, "up", f"pid {note.pid}, {note.url}" + (f"; {elsewhere}" if elsewhere else ""))
    async with Prober(tls_ca=yard.config.tls_ca) as prober:
        for program in programs:
            if program not in running:
                yield _not_running(yard, program, expected=note is not None and not yard.elsewhere())
                continue
            yield await _ready(yard, program, prober)
            if not program.is_console:
                yield await _health(yard, program)
        if running:
            yield await _clock(suite.base_url(yard.config, running[0].name), prober)
    services = [program.name for program in running if not program.is_console]
    if services and yard.config.auth:
        yield await _token(yard, services[0])


async def _serves(yard: Yard, program: Program) -> bool:
    """Whether anything listens on the process's HTTP port."""
    return await asyncio.to_thread(
        ports.is_taken, yard.config.host, yard.config.counted_ports(program.name)[1]
    )


def _not_running(yard: Yard, program: Program, *, expected: bool) -> Finding:
    for port in dict.fromkeys(yard.config.counted_ports(program.name)):
        if ports.is_taken(yard.config.host, port):
            return Finding("bad", program.name, f"port {port} is taken by {ports.holder(port)}")
    if expected:
        return Finding("bad", program.name, "does not run")
    return Finding("ok", program.name, "does not run; its ports are free")


async def _ready(yard: Yard, program: Program, prober: Prober) -> Finding:
    port = yard.config.counted_ports(program.name)[1]
    why = await prober.problem(suite.base_url(yard.config, program.name))
    if not why:
        return Finding("ok", program.name, f"ready on port {port}")
    return Finding("bad", program.name, f"port {port} ({ports.holder(port)}): {why}")


async def _health(yard: Yard, program: Program) -> Finding:
    request = health_pb2.HealthCheckRequest()
    try:
        async with Client(yard.targets()[program.name], tls_ca=yard.config.tls_ca) as client:
            answer = await client.call(health_pb2_grpc.HealthStub, "Check", request, timeout=3)
    except CallFailed as error:
        return Finding("bad", program.name, failures.line(error.failure, target=error.target))
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    good = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Finding("ok" if good else "bad", program.name, f"gRPC health {state} at {client.target}")


async def _clock(url: str, prober: Prober) -> Finding:
    skew = await prober.skew(url)
    if skew is None:
        return Finding("note", "clock", f"{url} does not tell its time")
    if abs(skew) > _SKEW_SECONDS:
        return Finding(
            "bad", "clock", f"{url} differs from this machine by {skew:.0f} s; tokens may not work"
        )
    return Finding("ok", "clock", "agrees with the services")


async def _token(yard: Yard, service: str) -> Finding:
    try:
        async with yard.client(service) as client:
            me = await client.call(Access, "WhoAmI", access_pb2.WhoAmIRequest())
    except CallFailed as error:
        return Finding(
            "bad", "token", f"{yard.token_file}: {failures.line(error.failure, target=error.target)}"
        )
    except click.ClickException as error:
        return Finding("bad", "token", error.message)
    end = me.expire_time.ToDatetime(tzinfo=UTC)
    soon = me.HasField("expire_time") and end - datetime.now(UTC) < _SOON
    until = f", until {end:%Y-%m-%d}" if me.HasField("expire_time") else ""
    return Finding("note" if soon else "ok", "token", f"{me.subject}, {me.role}{until}")

"""A service in this process, on free ports, over memory: for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from shared.service.config import Config
from shared.service.runner import Running, running
from shared.service.service import Service
from shared.storage.port import Author

_BY = Author("test", "test:token:create")


@dataclass(frozen=True)
class TestService:
    """`tokens` maps each role to a bearer token."""

    __test__ = False

    running: Running
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.running.http_port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.running.grpc_port}"

    @property
    def tls_target(self) -> str:
        """Over TLS, of services that have that port; `tls` opens it."""
        return f"127.0.0.1:{self.running.tls_port}"

    @property
    def tls(self) -> grpc.ChannelCredentials:
        """Trust in what the TLS port shows."""
        found = self.running.environment.tls
        assert found is not None, f"{self.running.service.name} has no TLS port"
        return grpc.ssl_channel_credentials(found.certificates.current.authority)


@asynccontextmanager
async def started(service: Service, data: Path, **settings: Any) -> AsyncIterator[TestService]:
    """`service` with a memory store unless `settings` say otherwise; `store`, `access`, `clock` and
    `new_id` replace what the runner would make."""
    injected = {key: settings.pop(key) for key in ("store", "access", "clock", "new_id") if key in settings}
    if isinstance(injected.get("store"), str):
        settings["store"] = injected.pop("store")
    config = Config.load(
        {}, **{"data": data, "store": "memory", "grpc_port": "0", "http_port": "0", **settings}
    )
    async with running(service, config, **injected) as found:
        tokens = {}
        for role in ("viewer", "operator", "admin"):
            text, _ = await found.environment.access.issue(
                role, role, timedelta(hours=1), creator="test", by=_BY
            )
            tokens[role] = text
        yield TestService(found, tokens)

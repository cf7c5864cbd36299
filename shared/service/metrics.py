"""What /metrics shows. Every process has a registry of its own; docs/operating.md lists the names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest

from shared.rpc.metrics import RpcMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The numbers that every service keeps, and a registry for its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.rpc = RpcMetrics(self.registry)
        self.revision = Gauge("roundhouse_store_revision", "Newest revision.", registry=self.registry)
        self.floor = Gauge("roundhouse_store_floor", "Oldest readable revision.", registry=self.registry)

    def text(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)

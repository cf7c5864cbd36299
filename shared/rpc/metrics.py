"""What the pipeline counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class RpcMetrics:
    """Names and labels are documented in docs/operating.md."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "roundhouse_rpc_calls",
            "Calls that ended, by method, transport and gRPC code.",
            ["service", "method", "transport", "code"],
            registry=registry,
        )
        self.seconds = Histogram(
            "roundhouse_rpc_seconds",
            "How long unary calls took.",
            ["service", "method", "transport"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.streams = Gauge("roundhouse_rpc_streams", "Streams being served.", registry=registry)
        self.messages = Counter(
            "roundhouse_rpc_stream_messages",
            "Messages sent on streams.",
            ["service", "method", "transport"],
            registry=registry,
        )

"""What the pipeline counts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from grpc import StatusCode
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.rpc.method import Method

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# (service, method, transport)
_Key = tuple[str, str, str]


class RpcMetrics(Collector):
    """Names and labels are documented in docs/operating.md.

    Every call counts here, on one event loop: plain integers, which become metrics when they are
    scraped, cost a tenth of prometheus_client's locked values.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls: dict[_Key, dict[StatusCode, int]] = {}
        self._took: dict[_Key, tuple[list[int], list[float]]] = {}
        self._messages: dict[_Key, list[int]] = {}
        registry.register(self)
        self.streams = Gauge("roundhouse_rpc_streams", "Streams being served.", registry=registry)

    def sent(self, method: Method, transport: str) -> list[int]:
        """Holds one number, how many messages streams of the method have sent: add to it."""
        return self._messages.setdefault((method.service, method.name, transport), [0])

    def answered(self, method: Method, transport: str, code: StatusCode, seconds: float) -> None:
        """A unary call ended, and took so long."""
        key = (method.service, method.name, transport)
        found = self._took.get(key)
        if found is None:
            found = self._took[key] = [0] * (len(_BUCKETS) + 1), [0.0]
        counts, total = found
        counts[bisect_left(_BUCKETS, seconds)] += 1
        total[0] += seconds
        self._count(key, code)

    def ended(self, method: Method, transport: str, code: StatusCode) -> None:
        """A stream ended."""
        self._count((method.service, method.name, transport), code)

    def _count(self, key: _Key, code: StatusCode) -> None:
        ends = self._calls.setdefault(key, {})
        ends[code] = ends.get(code, 0) + 1

    def collect(self) -> Iterable[Metric]:
        calls = CounterMetricFamily(
            "roundhouse_rpc_calls",
            "Calls that ended, by method, transport and gRPC code.",
            labels=["service", "method", "transport", "code"],
        )
        for key, ends in self._calls.items():
            for code, count in ends.items():
                calls.add_metric([*key, code.name], count)
        seconds = HistogramMetricFamily(
            "roundhouse_rpc_seconds",
            "How long unary calls took.",
            labels=["service", "method", "transport"],
        )
        bounds = [*map(str, map(float, _BUCKETS)), "+Inf"]
        for key, (counts, total) in self._took.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            seconds.add_metric([*key], buckets=buckets, sum_value=total[0])
        messages = CounterMetricFamily(
            "roundhouse_rpc_stream_messages",
            "Messages sent on streams.",
            labels=["service", "method", "transport"],
        )
        for key, cell in self._messages.items():
            messages.add_metric([*key], cell[0])
        return calls, seconds, messages

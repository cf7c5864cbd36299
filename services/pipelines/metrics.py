"""The numbers that upstream's dashboards know, under upstream's names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_VERBS: Final = ("create", "get", "list", "delete", "archive", "unarchive")


class ExperimentMetrics(Collector):
    """Counts of requests and of experiments. The library ends the name of every counter in `_total`,
    which upstream's do not: so they go out without a type."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = dict.fromkeys(_VERBS, 0)
        self.count = Gauge("experiment_server_run_count", "Number of experiments.", registry=registry)
        registry.register(self)

    def requested(self, verb: str) -> None:
        self._requests[verb] += 1

    def collect(self) -> Iterable[Metric]:
        for verb, count in self._requests.items():
            name = f"experiment_server_{verb}_requests"
            metric = Metric(name, f"Requests to {verb} experiments.", "unknown")
            metric.add_sample(name, {}, count)
            yield metric

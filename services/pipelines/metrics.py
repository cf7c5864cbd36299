"""The numbers that upstream's dashboards know, under upstream's names."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

_VERBS: Final = ("create", "get", "list", "delete", "archive", "unarchive")


class ExperimentMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = {
            verb: Counter(
                f"experiment_server_{verb}_requests", f"Requests to {verb} experiments.", registry=registry
            )
            for verb in _VERBS
        }
        self.count = Gauge("experiment_server_run_count", "Number of experiments.", registry=registry)

    def requested(self, verb: str) -> None:
        self._requests[verb].inc()

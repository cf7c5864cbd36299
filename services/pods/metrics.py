"""The numbers of feeds and exports; docs/operating.md lists them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.pods.feed import Outcome


class FeedMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.pods = Gauge("roundhouse_pods", "Stored pods.", registry=registry)
        self._fed = Counter(
            "roundhouse_pods_fed",
            "Fed pods, by RPC and what became of them.",
            ["rpc", "result"],
            registry=registry,
        )
        self.exported = Counter(
            "roundhouse_pods_exported",
            "Pods that exports sent, by transport.",
            ["transport"],
            registry=registry,
        )
        self.jobs_lag = Gauge(
            "roundhouse_pods_jobs_lag_seconds",
            "Since when the copy of the jobs service's pods is not what that has; 0 while it is.",
            registry=registry,
        )

    def fed(self, rpc: str, outcome: Outcome) -> None:
        for result in ("stored", "unchanged", "removed", "refused"):
            self._fed.labels(rpc, result).inc(getattr(outcome, result))

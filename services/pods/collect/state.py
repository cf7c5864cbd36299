"""How the feed of a cluster fares, for those who ask a collector."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.errors import Unavailable
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as pb

FEED: Final = "feed"
RESULTS: Final = ("stored", "unchanged", "removed", "refused")


class State:
    """Of the cluster `name`. It is told of parts by name: the paths that are listed and watched, and
    FEED, which works once all is listed, stored and followed."""

    def __init__(self, name: str) -> None:
        self.name = name
        # How often feeding began, with all that the cluster has.
        self.starts = 0
        # When its server was last heard of, in seconds since 1970; 0: not yet.
        self.heard = 0.0
        self.fed: Counter[str] = Counter()
        self._wrong = {FEED: "not all is listed yet"}

    def hears(self, part: str) -> None:
        """The cluster's server serves it."""
        self.heard = time.time()
        self._wrong.pop(part, None)

    def follows(self) -> None:
        self.starts += 1
        self._wrong.pop(FEED, None)

    def fails(self, part: str, why: str) -> None:
        self._wrong[part] = why

    def feeds(self, result: pb.PushResult | pb.SyncResult, before: pb.PushResult | None = None) -> None:
        """`before`: the last result of the same stream, whose results count from its start on."""
        for name in RESULTS:
            self.fed[name] += getattr(result, name) - getattr(before, name, 0)

    @property
    def well(self) -> bool:
        return not self._wrong

    async def check(self) -> None:
        """Raises Unavailable that says what is wrong."""
        if self._wrong:
            raise Unavailable("; ".join(f"{part}: {why}" for part, why in sorted(self._wrong.items())))


class States(Collector):
    """As metrics; docs/operating.md lists them."""

    def __init__(self, states: Collection[State]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        following = GaugeMetricFamily(
            "roundhouse_collector_following",
            "1 while all of a cluster is fed and followed.",
            labels=["cluster"],
        )
        heard = GaugeMetricFamily(
            "roundhouse_collector_heard_timestamp_seconds",
            "When a cluster's server was last heard of.",
            labels=["cluster"],
        )
        starts = CounterMetricFamily(
            "roundhouse_collector_starts",
            "How often feeding a cluster began, with all that it has.",
            labels=["cluster"],
        )
        fed = CounterMetricFamily(
            "roundhouse_collector_fed",
            "Pods that were fed, by what became of them.",
            labels=["cluster", "result"],
        )
        for state in self._states:
            following.add_metric([state.name], float(state.well))
            starts.add_metric([state.name], state.starts)
            if state.heard:
                heard.add_metric([state.name], state.heard)
            for result in RESULTS:
                fed.add_metric([state.name, result], state.fed[result])
        return [following, heard, starts, fed]

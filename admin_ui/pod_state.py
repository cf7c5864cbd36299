"""Lists of pods, and of what they belong to, as their address says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from admin_ui.list_state import ForwardQuery

CLUSTERS: Final = "clusters"
NAMESPACES: Final = "namespaces"
DEPLOYMENTS: Final = "deployments"
PODS: Final = "pods"
SOURCES: Final = "sources"
# From the whole to its parts; sources stand beside that.
LEVELS: Final = (CLUSTERS, NAMESPACES, DEPLOYMENTS, PODS, SOURCES)


@dataclass(frozen=True, slots=True)
class PodState(ForwardQuery):
    """`filter` is a query in the search language, which an address may call `query` as the export does;
    `by` is what the rows are."""

    by: str = CLUSTERS

    @classmethod
    def given(cls, query: Mapping[str, str]) -> dict[str, Any]:
        by = query.get("by", CLUSTERS)
        named = {"filter": query.get("query", ""), **query}
        return {**ForwardQuery.given(named), "by": by if by in LEVELS else CLUSTERS}

    def level(self, by: str) -> str:
        """The query string of the same pods as rows of another sort."""
        return self.query(by=by, order_by="" if by != self.by else self.order_by)

    def to(self, filter: str, by: str) -> str:
        return self.query(filter=filter, by=by, order_by="")

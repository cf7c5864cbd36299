"""What services write without anybody's doing, in the audit trail."""

from __future__ import annotations

from typing import Final

# Service -> actions: each step of each pod, and the copy of it; how each exporter is. In a busy minute
# these are thousands, among which nobody would find what people did.
STEPS: Final[dict[str, tuple[str, ...]]] = {
    "jumpstarter": ("grpc:exporter:report_status",),
    "jobs": ("controller:job:reconcile",),
    "pods": ("pods-service:jobs:follow",),
}

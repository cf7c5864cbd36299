"""What is read of a Kubernetes cluster, and under which paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Resource:
    """`paths`: of all its objects in all namespaces, the newest version of the API first."""

    kind: str
    paths: tuple[str, ...]

    @property
    def plural(self) -> str:
        return self.paths[0].rpartition("/")[2]

    @property
    def group(self) -> str:
        """Empty for the core group."""
        parts = self.paths[0].split("/")
        return parts[2] if parts[1] == "apis" else ""


def _apps(kind: str) -> Resource:
    return Resource(kind, (f"/apis/apps/v1/{kind.lower()}s",))


POD: Final = Resource("Pod", ("/api/v1/pods",))
NAMESPACE: Final = Resource("Namespace", ("/api/v1/namespaces",))
# What a pod may belong to (pods contract, section 7). Of a chain the top-most counts.
OWNERS: Final = (
    _apps("Deployment"),
    _apps("ReplicaSet"),
    _apps("DaemonSet"),
    _apps("StatefulSet"),
    Resource("ReplicationController", ("/api/v1/replicationcontrollers",)),
    Resource("Job", ("/apis/batch/v1/jobs",)),
    Resource("CronJob", ("/apis/batch/v1/cronjobs", "/apis/batch/v1beta1/cronjobs")),
)
ALL: Final = (NAMESPACE, *OWNERS, POD)
# In which the cluster's id lies: the uid of this namespace, which nobody can delete.
SYSTEM: Final = "/api/v1/namespaces/kube-system"

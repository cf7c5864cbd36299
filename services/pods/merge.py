"""What becomes of a pod that is known already when it is fed again (pods contract, section 7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shared.pb.storage.pod_pb2 import ContainerInstance, Pod

# Instances that a bucket keeps, the newest.
KEPT: Final = 10


def merged(sent: Pod, stored: Pod | None) -> Pod:
    """`sent` with its ended instances among the terminated ones, which come from `stored`; those that
    were sent count only where nothing is stored. An instance that is there already is not added again,
    so feeding the same once more changes nothing."""
    found = Pod()
    found.CopyFrom(sent)
    if stored is not None:
        del found.terminated_instances[:]
        found.terminated_instances.extend(stored.terminated_instances)
    ended = [instance for instance in sent.live_instances if instance.HasField("finished")]
    if ended:
        del found.live_instances[:]
        found.live_instances.extend(i for i in sent.live_instances if not i.HasField("finished"))
        _terminate(found, ended)
    return found


def _terminate(pod: Pod, ended: Iterable[ContainerInstance]) -> None:
    """Each to the end of its container's bucket."""
    buckets = {
        bucket.instances[0].container_name: bucket for bucket in pod.terminated_instances if bucket.instances
    }
    for instance in ended:
        bucket = buckets.get(instance.container_name)
        if bucket is None:
            bucket = buckets[instance.container_name] = pod.terminated_instances.add()
        if instance not in bucket.instances:
            bucket.instances.append(instance)
            del bucket.instances[:-KEPT]

"""Instance ranges: half-open, `from` up to but without `to` (jobs contract, section 10, quirk 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import InstanceIDRange


def compressed(instances: Iterable[int]) -> list[InstanceIDRange]:
    """The fewest ranges that hold exactly `instances`, ascending."""
    found: list[InstanceIDRange] = []
    begin = end = None
    for instance in sorted(set(instances)):
        if instance == end:
            end = instance + 1
            continue
        if begin is not None and end is not None:
            found.append(of(begin, end))
        begin, end = instance, instance + 1
    if begin is not None and end is not None:
        found.append(of(begin, end))
    return found


def of(begin: int, end: int) -> InstanceIDRange:
    return InstanceIDRange(**{"from": begin, "to": end})


def bounds(range_: InstanceIDRange) -> tuple[int, int]:
    return getattr(range_, "from"), range_.to


def instances(ranges: Iterable[InstanceIDRange]) -> Iterator[int]:
    """All in them, in their order."""
    for entry in ranges:
        yield from range(*bounds(entry))


def within(ranges: Iterable[InstanceIDRange], count: int) -> list[int]:
    """Those in the ranges that are less than `count`, once each, ascending; without any: all."""
    found: set[int] = set()
    for entry in ranges:
        begin, end = bounds(entry)
        found.update(range(min(begin, count), min(end, count)))
    return sorted(found) if found else list(range(count))

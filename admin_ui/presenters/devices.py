"""The devices that an exporter reports, as a tree of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

# Labels that say what a device is, not how it is chosen.
_NAME: Final = "jumpstarter.dev/name"
_CLIENT: Final = "jumpstarter.dev/client"


@dataclass(frozen=True, slots=True)
class Device:
    """`depth` 0 is at the top of the tree."""

    name: str
    depth: int
    driver: str
    description: str
    labels: tuple[tuple[str, str], ...]
    methods: tuple[tuple[str, str], ...]


def tree(found: Sequence[Any]) -> list[Device]:
    """The tree of an exporter's devices, each below its parent. A parent that is not there, or that is
    below its own child, counts as none."""
    known = {report.uuid: report for report in found}
    children: dict[str, list[Any]] = {}
    for report in found:
        parent = report.parent_uuid if report.parent_uuid in known else ""
        children.setdefault(parent, []).append(report)
    told: list[Device] = []
    seen: set[str] = set()

    def walk(parent: str, depth: int) -> None:
        for report in sorted(children.get(parent, ()), key=_device_name):
            if report.uuid not in seen:
                seen.add(report.uuid)
                told.append(_device(report, depth))
                walk(report.uuid, depth + 1)

    walk("", 0)
    for report in found:
        if report.uuid not in seen:
            seen.add(report.uuid)
            told.append(_device(report, 0))
            walk(report.uuid, 1)
    return told


def _device_name(report: Any) -> str:
    return report.labels.get(_NAME, "") or report.uuid


def _device(report: Any, depth: int) -> Device:
    return Device(
        name=report.labels.get(_NAME, "") or ("exporter" if not depth else report.uuid[:8]),
        depth=depth,
        driver=report.labels.get(_CLIENT, ""),
        description=report.description,
        labels=tuple(
            (key, value) for key, value in sorted(report.labels.items()) if key not in (_NAME, _CLIENT)
        ),
        methods=tuple(sorted(report.methods_description.items())),
    )

"""Which exporters the simulated lab has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Device:
    """`hook`: seconds that it takes to get ready for a lease, and to clean up after one. A device
    that does not `run` is known to the lab, but nobody has switched it on."""

    id: str
    labels: dict[str, str] = field(hash=False)
    hook: float = 1.0
    enabled: bool = True
    runs: bool = True


def _device(id: str, board: str, arch: str, site: str, **more: object) -> Device:
    labels = {"board": board, "arch": arch, "site": site, "simulated": "true"}
    return Device(id, labels, **more)  # type: ignore[arg-type]  # Device's own fields


FLEET: Final = (
    _device("rpi4-1", "rpi4", "arm64", "berlin"),
    _device("rpi4-2", "rpi4", "arm64", "berlin"),
    _device("rpi4-3", "rpi4", "arm64", "boston"),
    _device("rpi5-1", "rpi5", "arm64", "boston"),
    _device("imx8-1", "imx8", "arm64", "berlin", hook=3.0),
    _device("imx8-2", "imx8", "arm64", "berlin", hook=3.0),
    _device("j784s4-1", "j784s4", "arm64", "boston", hook=5.0),
    _device("orin-1", "orin", "arm64", "boston", hook=3.0),
    _device("riscv-1", "visionfive2", "riscv64", "berlin"),
    _device("nuc-1", "nuc", "amd64", "boston"),
    _device("nuc-2", "nuc", "amd64", "boston"),
    _device("qemu-1", "qemu", "amd64", "berlin", hook=0.2),
    _device("nuc-3", "nuc", "amd64", "berlin", enabled=False),
    _device("rpi5-2", "rpi5", "arm64", "berlin", runs=False),
)


def manifest(namespace: str) -> str:
    """What provisions them: JSON, which is YAML too."""
    import json

    exporters = [
        {
            "name": f"namespaces/{namespace}/exporters/{device.id}",
            "labels": device.labels,
            # Somebody may have enabled or disabled one since: only the odd one out is owned here.
            **({} if device.enabled else {"enabled": False}),
        }
        for device in FLEET
    ]
    return json.dumps({"exporters": exporters})

"""The files that jmp reads: ClientConfig and ExporterConfig (jumpstarter contract, section 8)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

import yaml

from services.jumpstarter.api.tokens import EXPORTER, Subject

_API_VERSION: Final = "jumpstarter.dev/v1alpha1"
# What an exporter offers is known to whoever connects its devices, and to nobody here.
_EXPORT: Final = """\
# What it exports: of each device a name, the type of its driver and its settings. For example, with
# the package jumpstarter-driver-power:
#   power: {type: jumpstarter_driver_power.driver.MockPower}
export: {}
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`address` is the host:port to call; `authority` the PEM of who signed its certificate, empty
    when that is one of those the system trusts."""

    address: str
    authority: str


def text(subject: Subject, token: str, endpoint: Endpoint) -> str:
    """The YAML for the client or exporter that `token` stands for."""
    content: dict[str, Any] = {
        "apiVersion": _API_VERSION,
        "kind": f"{subject.kind}Config",
        "metadata": {"namespace": subject.namespace, "name": subject.id},
        "endpoint": endpoint.address,
        "token": token,
        "tls": {"ca": base64.b64encode(endpoint.authority.encode()).decode(), "insecure": False},
    }
    if subject.kind == EXPORTER:
        return _dumped(content) + _EXPORT
    return _dumped({**content, "drivers": {"allow": [], "unsafe": True}})


def _dumped(content: dict[str, Any]) -> str:
    # One line a value: people paste tokens and certificates.
    return yaml.safe_dump(content, sort_keys=False, width=1 << 30)

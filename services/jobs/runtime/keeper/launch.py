"""From a description to a process: ports, environment, limits and the exec itself."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_TEMPLATE: Final = re.compile(r"\{\{\s*port\.([A-Za-z0-9_.-]+)\s*\}\}")
_TRIES: Final = 64


class LaunchFailed(Exception):
    """It could not be started; says why."""


@dataclass(frozen=True)
class Launched:
    process: subprocess.Popen[bytes]
    ports: dict[str, int]


class Ports:
    """Free ports of this host, each given out once at a time."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def allot(self, wanted: list[dict[str, Any]]) -> dict[str, int]:
        """Name -> port. Raises LaunchFailed, and has taken none then."""
        found: dict[str, int] = {}
        try:
            for port in wanted:
                found[port["name"]] = self._static(port["value"]) if port["value"] else self._dynamic()
        except LaunchFailed:
            self.free(found)
            raise
        return found

    def free(self, ports: Mapping[str, int]) -> None:
        self._taken.difference_update(ports.values())

    def _static(self, port: int) -> int:
        if port in self._taken or not _bindable(port):
            raise LaunchFailed(f"port {port} is taken")
        self._taken.add(port)
        return port

    def _dynamic(self) -> int:
        for _ in range(_TRIES):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in self._taken:
                self._taken.add(port)
                return port
        raise LaunchFailed("there is no free port")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def filled(text: str, ports: Mapping[str, int]) -> str:
    """With the ports in place of `{{port.name}}`."""
    return _TEMPLATE.sub(lambda match: str(ports.get(match[1], match[0])), text)


def environment(wanted: Mapping[str, Any], ports: Mapping[str, int]) -> dict[str, str]:
    found = {"PATH": os.environ.get("PATH", os.defpath), "LANG": os.environ.get("LANG", "C.UTF-8")}
    found |= {name: filled(value, ports) for name, value in wanted["environment"].items()}
    for port in wanted["ports"]:
        if port["variable"]:
            found[port["variable"]] = str(ports[port["name"]])
    return found


def launch(wanted: Mapping[str, Any], sandbox: Path, ports: dict[str, int]) -> Launched:
    """Returns once the command's exec has succeeded. Raises LaunchFailed."""
    arguments = [filled(text, ports) for text in wanted["argv"]]
    for volume in wanted["volumes"]:
        (sandbox / volume).mkdir(parents=True, exist_ok=True)
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=sandbox,
            env={**environment(wanted, ports), "HOME": str(sandbox), "MESOS_SANDBOX": str(sandbox)},
            start_new_session=True,
            close_fds=True,
            preexec_fn=_limits(wanted["limits"]),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise LaunchFailed(f"{arguments[0]}: {getattr(error, 'strerror', None) or error}") from error
    return Launched(process, ports)


def _limits(wanted: Mapping[str, int]) -> Callable[[], None] | None:
    """Sets them between fork and exec. None is faster: then no Python runs there."""
    kinds = {
        "files": resource.RLIMIT_NOFILE,
        "memory": resource.RLIMIT_AS,
        "file_size": resource.RLIMIT_FSIZE,
    }
    chosen = [(kinds[name], value) for name, value in wanted.items() if value]
    if not chosen:
        return None

    def apply() -> None:
        for kind, value in chosen:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))

    return apply

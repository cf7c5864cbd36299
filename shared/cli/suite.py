"""Which processes make up Roundhouse, and where each one is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from shared.errors import InvalidArgument
from shared.service.config import CONSOLE, PORTS, Config


@dataclass(frozen=True, slots=True)
class Program:
    """One process: `python -m <module>`. One that does not `serve` has no ports."""

    name: str
    module: str
    serves: bool = True

    @property
    def is_console(self) -> bool:
        return self.name == CONSOLE


MODULES: Final[dict[str, str]] = {
    name: "admin_ui" if name == CONSOLE else f"services.{name}" for name in PORTS
}


# What `up --demo` runs beside the services.
SIMULATION: Final = Program("simulation", "services.jumpstarter.simulation", serves=False)


def exists(name: str) -> bool:
    """Whether this version has that process."""
    try:
        return find_spec(f"{MODULES[name]}.__main__") is not None
    except ModuleNotFoundError:
        return False


def services(config: Config) -> list[Program]:
    """The services that exist and that `only` does not leave out, in the order of their ports."""
    return [
        Program(name, module)
        for name, module in MODULES.items()
        if name != CONSOLE and exists(name) and config.enabled(name)
    ]


def programs(config: Config, *, console: bool = True, demo: bool = False) -> list[Program]:
    """What `roundhouse up` runs. `only` chooses among the services; the console runs as well, and
    with `demo` the simulated lab."""
    found = services(config)
    if demo and any(program.name == "jumpstarter" for program in found):
        found.append(SIMULATION)
    if console and exists(CONSOLE):
        found.append(Program(CONSOLE, MODULES[CONSOLE]))
    return found


def catalogue() -> str:
    """The manifest with which a new suite describes itself; empty where it was not installed."""
    path = Path(__file__).resolve().parents[2] / "deploy" / "local" / "catalogue.yaml"
    return str(path) if path.is_file() else ""


def check_only(names: Iterable[str]) -> None:
    """Raise InvalidArgument for a name that is not a service of this version."""
    known = [name for name in MODULES if name != CONSOLE and exists(name)]
    for name in names:
        if name not in known and name != CONSOLE:
            raise InvalidArgument.at(
                "--only", f"no service {name!r} in this version; there is {', '.join(known)}"
            )


def dial_host(config: Config) -> str:
    """The address at which a process on this machine reaches what binds `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(config.host, config.host)
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def targets(config: Config) -> dict[str, str]:
    """`host:port` of the gRPC port of each service; the setting `services` overrides single ones."""
    host = dial_host(config)
    found = {program.name: f"{host}:{config.counted_ports(program.name)[0]}" for program in services(config)}
    for entry in filter(None, (part.strip() for part in config.services.split(","))):
        name, _, target = entry.partition("=")
        if name not in PORTS or not target:
            wrong = f"{entry!r} is not name=host:port of a known service"
            raise InvalidArgument.at("ROUNDHOUSE_SERVICES", wrong)
        found[name] = target
    return found


def base_url(config: Config, name: str) -> str:
    """Of the HTTP port of a process."""
    scheme = "https" if config.tls_cert else "http"
    return f"{scheme}://{dial_host(config)}:{config.counted_ports(name)[1]}"

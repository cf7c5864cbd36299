"""A pod's spec as a plain description, which is all that the keeper knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.jobs.runtime.node import Node
from services.jobs.runtime.port import GRACE, Attempt
from services.jobs.runtime.unsupported import inside, open_files
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import (
    CommandSpec,
    ContainerSpec,
    HealthCheckSpec,
    PodSpec,
)
from shared.pb.peloton.api.v1alpha.volume.volume_pb2 import VolumeSpec

_SHELL: Final = "/bin/sh"
_MEGABYTE: Final = 1 << 20
# Where a check says 0 (jobs contract, section 11). Seconds, but for the failures.
_INITIAL: Final = 15
_INTERVAL: Final = 10
_FAILURES: Final = 3
_TIMEOUT: Final = 20


def describe(attempt: Attempt, node: Node) -> dict[str, Any]:
    """What to run, as JSON can hold it. `attempt.spec` has nothing that is unsupported."""
    spec = attempt.spec
    container = spec.containers[0]
    return {
        "pod_id": attempt.pod_id,
        "argv": argv(spec),
        "environment": {**_environment(container), **attempt.environment},
        "ports": _ports(spec, container),
        "span": list(node.ports),
        "gpus": int(container.resource.gpu_limit),
        "devices": list(node.gpus),
        "limits": _limits(container, node),
        "cgroup": str(node.cgroup) if node.controllers else "",
        "check": _check(spec, container.liveness_check) if container.liveness_check.enabled else None,
        "grace": float(spec.kill_grace_period_seconds or GRACE),
        "volumes": _folders(spec, container),
        "log_bytes": node.log_bytes,
        "log_files": node.log_files,
        "note": _note(spec, node),
    }


def argv(spec: PodSpec) -> list[str]:
    """What is executed: the entrypoint or else the deprecated command, in a shell unless it says
    otherwise."""
    container = spec.containers[0]
    if container.entrypoint.value or container.entrypoint.arguments:
        return _command(container.entrypoint, shell=_in_shell(spec))
    command = container.command
    if command.shell:
        return [_SHELL, "-c", command.value, "sh", *command.arguments]
    # Mesos: the arguments are the whole of argv, its first the program's own name for itself.
    return [command.value, *command.arguments[1:]]


def _in_shell(spec: PodSpec) -> bool:
    return not spec.HasField("mesos_spec") or spec.mesos_spec.shell


def _command(command: CommandSpec, *, shell: bool) -> list[str]:
    if not command.value:
        return list(command.arguments)
    if shell:
        return [_SHELL, "-c", command.value, "sh", *command.arguments]
    return [command.value, *command.arguments]


def _environment(container: ContainerSpec) -> dict[str, str]:
    found = {variable.name: variable.value for variable in container.command.environment.variables}
    return found | {variable.name: variable.value for variable in container.environment}


def _ports(spec: PodSpec, container: ContainerSpec) -> list[dict[str, Any]]:
    """A port with a number is that one, whatever its type; one without is any free one. Every port is
    one of the host, so those of the host and of the container with the same name are one."""
    found: dict[str, dict[str, Any]] = {}
    for port in [*container.ports, *spec.host_ports]:
        same = found.setdefault(port.name, {"name": port.name, "value": 0, "variable": "", "template": ""})
        same["value"] = same["value"] or port.value
        same["variable"] = same["variable"] or port.env_name
        same["template"] = same["template"] or port.template_name
    return list(found.values())


def _limits(container: ContainerSpec, node: Node) -> Mapping[str, float]:
    wanted, had = container.resource, node.controllers
    memory = int(wanted.mem_limit_mb * _MEGABYTE)
    return {
        "cpu": wanted.cpu_limit if "cpu" in had else 0,
        "memory": memory if "memory" in had else 0,
        "address_space": 0 if "memory" in had else memory,
        "file_size": int(wanted.disk_limit_mb * _MEGABYTE),
        "files": wanted.fd_limit,
        "processes": node.processes if "pids" in had else 0,
    }


def _check(spec: PodSpec, check: HealthCheckSpec) -> dict[str, Any]:
    times = {
        "initial": check.initial_interval_secs or _INITIAL,
        "interval": check.interval_secs or _INTERVAL,
        "failures": check.max_consecutive_failures or _FAILURES,
        "successes": check.success_threshold or 1,
        "timeout": check.timeout_secs or _TIMEOUT,
    }
    if check.type == HealthCheckSpec.HEALTH_CHECK_TYPE_HTTP:
        return {**times, "type": "http", **_get(check)}
    if check.HasField("command"):
        return {
            **times,
            "type": "command",
            "argv": _command(check.command, shell=_in_shell(spec)),
            "bare": False,
        }
    command = check.command_check
    arguments = [_SHELL, "-c", command.command]
    return {**times, "type": "command", "argv": arguments, "bare": command.unshare_environments}


def _get(check: HealthCheckSpec) -> dict[str, Any]:
    if not check.HasField("http_get"):
        old = check.http_check
        return {
            "scheme": old.scheme.lower() or "http",
            "port": old.port,
            "port_name": "",
            "path": old.path,
            "headers": {},
        }
    get = check.http_get
    return {
        "scheme": get.scheme.lower() or "http",
        "port": get.port or get.port_spec.value,
        "port_name": get.port_spec.name,
        "path": get.path,
        "headers": {header.name: header.value for header in get.http_headers},
    }


def _folders(spec: PodSpec, container: ContainerSpec) -> list[str]:
    empty = {v.name for v in spec.volumes if v.type == VolumeSpec.VOLUME_TYPE_EMPTY_DIR}
    return [inside(mount.mount_path) for mount in container.volume_mounts if mount.name in empty]


def _note(spec: PodSpec, node: Node) -> str:
    """Limits that do not hold as they stand, for people."""
    wanted, had = spec.containers[0].resource, node.controllers
    weak = []
    if wanted.cpu_limit and "cpu" not in had:
        weak.append("the CPU limit is counted, not enforced")
    if wanted.mem_limit_mb and "memory" not in had:
        weak.append("the memory limit holds for each process alone")
    if wanted.disk_limit_mb:
        weak.append("the disk limit holds for each file alone")
    if wanted.fd_limit > (most := open_files()):
        weak.append(f"it may have {most} files open")
    if any(volume.empty_dir.size_in_mb for volume in spec.volumes):
        weak.append("sizes of volumes are not enforced")
    text = ", ".join(weak)
    return text[:1].upper() + text[1:]

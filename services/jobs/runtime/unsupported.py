"""What of a pod's spec the process runtime cannot honour (jobs contract, section 9, column L)."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.jobs.runtime.node import Node
from shared.errors import Violation
from shared.pb.mesos.v1 import mesos_pb2 as mesos
from shared.pb.peloton.api.v1alpha.pod.apachemesos import apachemesos_pb2 as apachemesos
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import (
    ContainerSpec,
    HealthCheckSpec,
    PodSpec,
    VolumeMount,
)
from shared.pb.peloton.api.v1alpha.volume.volume_pb2 import VolumeSpec

# Files of the sandbox that are the runtime's own.
RESERVED: Final = frozenset({"stdout", "stderr", "exit.json"})
_ADVISORY: Final = "with ROUNDHOUSE_JOBS_LIMITS=advisory"
_SCHEMES: Final = frozenset({"", "http", "https"})
_POD: Final = apachemesos.PodSpec
_NETWORK: Final = apachemesos.PodSpec.NetworkSpec


def unsupported(spec: PodSpec, node: Node) -> Iterator[Violation]:
    """Each field that changes what runs, where it runs or what it may use, and that cannot be had."""
    if len(spec.containers) > 1:
        yield Violation("containers", "more than one")
    if spec.init_containers:
        yield Violation("init_containers", "containers that run before")
    if spec.HasField("volume"):
        yield Violation("volume", "persistent volumes")
    yield from _mesos(spec.mesos_spec)
    for container in spec.containers[:1]:
        yield from _container(container)
        yield from _resources(container, node)
        yield from _mounts(spec, container, node)
        yield from _host_ports(spec, container)
    for index, volume in enumerate(spec.volumes):
        yield from _volume(f"volumes[{index}]", volume, node)


def _host_ports(spec: PodSpec, container: ContainerSpec) -> Iterator[Violation]:
    values = {port.name: port.value for port in container.ports}
    for index, port in enumerate(spec.host_ports):
        if port.value and values.get(port.name, 0) not in (0, port.value):
            text = "another number than that of the container's port with this name"
            yield Violation(f"host_ports[{index}].value", text)


def _mesos(spec: apachemesos.PodSpec) -> Iterator[Violation]:
    if spec.type == _POD.CONTAINER_TYPE_DOCKER:
        yield Violation("mesos_spec.type", "Docker containers")
    if spec.docker_parameters:
        yield Violation("mesos_spec.docker_parameters", "Docker containers")
    if spec.uris:
        yield Violation("mesos_spec.uris", "files to fetch")
    executor = spec.executor_spec
    if executor.type == _POD.ExecutorSpec.EXECUTOR_TYPE_CUSTOM:
        yield Violation("mesos_spec.executor_spec.type", "custom executors")
    elif executor.executor_id or executor.data or executor.HasField("resources"):
        yield Violation("mesos_spec.executor_spec", "executors")
    network = spec.network_spec
    if network.type not in (_NETWORK.NETWORK_TYPE_INVALID, _NETWORK.NETWORK_TYPE_HOST) or network.name:
        yield Violation("mesos_spec.network_spec", "networks other than the host's")


def _container(container: ContainerSpec) -> Iterator[Violation]:
    if container.image:
        yield Violation("containers[0].image", "images")
    info = container.container
    plain = info.type == mesos.ContainerInfo.MESOS and not info.volumes and not info.HasField("docker")
    if container.HasField("container") and not plain:
        yield Violation("containers[0].container", "Mesos containers")
    if container.HasField("executor"):
        yield Violation("containers[0].executor", "executors")
    command = container.command
    if command.uris:
        yield Violation("containers[0].command.uris", "files to fetch")
    if command.user:
        yield Violation("containers[0].command.user", "other users")
    for index, variable in enumerate(command.environment.variables):
        if variable.type == mesos.Environment.Variable.SECRET:
            path = f"containers[0].command.environment.variables[{index}].type"
            yield Violation(path, "secrets in the environment")
    if container.readiness_check.enabled:
        yield Violation("containers[0].readiness_check", "readiness checks")
    check = container.liveness_check
    if check.enabled and check.type == HealthCheckSpec.HEALTH_CHECK_TYPE_HTTP:
        name = "http_get" if check.HasField("http_get") else "http_check"
        if getattr(check, name).scheme.lower() not in _SCHEMES:
            path = f"containers[0].liveness_check.{name}.scheme"
            yield Violation(path, "schemes other than http and https")


def _resources(container: ContainerSpec, node: Node) -> Iterator[Violation]:
    wanted = container.resource
    if wanted.gpu_limit and not node.gpus:
        yield Violation("containers[0].resource.gpu_limit", "GPUs, of which ROUNDHOUSE_JOBS_GPUS names none")
    elif wanted.gpu_limit % 1:
        yield Violation("containers[0].resource.gpu_limit", "parts of a GPU")
    if not node.enforce:
        return
    if wanted.cpu_limit and "cpu" not in node.controllers:
        text = f"CPU limits without ROUNDHOUSE_JOBS_CGROUP ({_ADVISORY} they are only counted)"
        yield Violation("containers[0].resource.cpu_limit", text)
    if not 0 <= wanted.fd_limit <= (most := open_files()):
        text = f"more than {most} open files, which is this host's limit ({_ADVISORY} it is theirs too)"
        yield Violation("containers[0].resource.fd_limit", text)
    if wanted.disk_limit_mb:
        text = f"disk limits ({_ADVISORY} they hold for each file alone)"
        yield Violation("containers[0].resource.disk_limit_mb", text)


def open_files() -> float:
    """How many files this host lets a process open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return math.inf if hard == resource.RLIM_INFINITY else hard


def _volume(path: str, volume: VolumeSpec, node: Node) -> Iterator[Violation]:
    if volume.type == VolumeSpec.VOLUME_TYPE_EMPTY_DIR:
        if volume.empty_dir.medium:
            yield Violation(f"{path}.empty_dir.medium", "media other than the disk")
        if volume.empty_dir.size_in_mb and node.enforce:
            text = f"sizes of volumes ({_ADVISORY} they are only noted)"
            yield Violation(f"{path}.empty_dir.size_in_mb", text)
    elif volume.type == VolumeSpec.VOLUME_TYPE_HOST_PATH and not _allowed(volume.host_path.path, node):
        text = "folders of the host that ROUNDHOUSE_JOBS_HOST_PATHS does not name"
        yield Violation(f"{path}.host_path.path", text)


def _allowed(path: str, node: Node) -> bool:
    whole = Path(os.path.normpath(path))
    return whole.is_absolute() and any(whole.is_relative_to(prefix) for prefix in node.host_paths)


def _mounts(spec: PodSpec, container: ContainerSpec, node: Node) -> Iterator[Violation]:
    volumes = {volume.name: volume for volume in spec.volumes}
    for index, mount in enumerate(container.volume_mounts):
        path = f"containers[0].volume_mounts[{index}]"
        if mount.read_only:
            yield Violation(f"{path}.read_only", "mounts that cannot be written to")
        volume = volumes.get(mount.name)
        if volume is not None:
            yield from _mount(f"{path}.mount_path", mount, volume)


def _mount(path: str, mount: VolumeMount, volume: VolumeSpec) -> Iterator[Violation]:
    if volume.type == VolumeSpec.VOLUME_TYPE_HOST_PATH:
        if os.path.normpath(mount.mount_path) != os.path.normpath(volume.host_path.path):
            yield Violation(path, "another path than the one on the host")
    elif not inside(mount.mount_path):
        yield Violation(path, "paths that are not relative to the sandbox, or are the runtime's own")


def inside(path: str) -> str:
    """A relative path, tidy, that stays in the sandbox and is not its own; empty for any other."""
    tidy = os.path.normpath(path) if path else ""
    first = tidy.split("/", 1)[0]
    outside = first in ("", ".", "..")
    taken = first in RESERVED or any(first.startswith(f"{name}.") for name in RESERVED)
    return "" if outside or taken or first.startswith(".") else tidy

"""What a job may be (jobs contract, section 7), and what this runtime can do (section 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from services.jobs import constraint as constraints
from services.jobs import spec as specs
from services.jobs.runtime.port import Runtime
from shared.errors import InvalidArgument, Unimplemented, Violation
from shared.pb.peloton.api.v1alpha import peloton_pb2 as peloton
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.pb.peloton.api.v1alpha.pod.apachemesos import apachemesos_pb2 as apachemesos
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import ContainerSpec, HealthCheckSpec, PodSpec, PortSpec
from shared.pb.peloton.api.v1alpha.volume import volume_pb2

MAX_INSTANCES: Final = 100_000
MAX_BYTES: Final = 4 << 20
# Violations after which nobody needs to know of more.
_ENOUGH: Final = 100
# CUSTOM, in the numbers of the deprecated message.
_CUSTOM: Final = 2
_POD_CUSTOM: Final = apachemesos.PodSpec.ExecutorSpec.EXECUTOR_TYPE_CUSTOM
_LAST_PORT: Final = 65535
# Of CPUs, of MiB: more than there are, and something that can be calculated with.
_MOST: Final = 1e12


class Validation:
    def __init__(
        self,
        runtime: Runtime,
        *,
        max_instances: int = MAX_INSTANCES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._runtime = runtime
        self._max_instances = max_instances
        self._max_bytes = max_bytes

    def check(self, spec: JobSpec) -> None:
        """Raises InvalidArgument with everything that is wrong, and Unimplemented with everything that
        cannot be done."""
        cannot = list(_shapes(spec))
        if cannot:
            raise _unimplemented(cannot)
        wrong = list(_some(self._faults(spec)))
        if wrong:
            raise InvalidArgument.of(wrong)
        cannot = list(_some(self._unsupported(spec)))
        if cannot:
            raise _unimplemented(cannot)

    def secrets(self, secrets: Sequence[peloton.Secret]) -> None:
        """Raises InvalidArgument for any: nothing here keeps them."""
        if secrets:
            raise InvalidArgument.at("secrets", "are switched off in this installation")

    def _faults(self, spec: JobSpec) -> Iterator[Violation]:
        if spec.ByteSize() > self._max_bytes:
            yield Violation("spec", f"takes {spec.ByteSize()} bytes; at most {self._max_bytes} are allowed")
            return
        if spec.instance_count > self._max_instances:
            text = f"is {spec.instance_count}; a job has at most {self._max_instances}"
            yield Violation("spec.instance_count", text)
            return
        if spec.sla.revocable and not spec.sla.preemptible:
            yield Violation("spec.sla.revocable", "asks for preemptible as well")
        for path, instance, effective in _effective(spec):
            yield from _pod_faults(path, instance, effective)

    def _unsupported(self, spec: JobSpec) -> Iterator[Violation]:
        said: set[tuple[str, str]] = set()
        for path, _, effective in _effective(spec):
            for found in self._runtime.unsupported(effective):
                if (found.field, found.description) not in said:
                    said.add((found.field, found.description))
                    text = f"{found.description}: not supported by the {self._runtime.name} runtime"
                    yield Violation(f"{path}.{found.field}", text)


def _some(found: Iterable[Violation]) -> Iterator[Violation]:
    for index, violation in enumerate(found):
        if index == _ENOUGH:
            return
        yield violation


def _unimplemented(found: Sequence[Violation]) -> Unimplemented:
    return Unimplemented("; ".join(violation.text for violation in found[:_ENOUGH]))


def _shapes(spec: JobSpec) -> Iterator[Violation]:
    """What no runtime has: several containers, and containers that run before."""
    given = [("spec.default_spec", spec.default_spec)]
    given += [(f"spec.instance_spec[{i}]", spec.instance_spec[i]) for i in sorted(spec.instance_spec)]
    for path, pod in given:
        if len(pod.containers) > 1:
            yield Violation(f"{path}.containers", "has more than one entry: not supported")
        if pod.init_containers:
            yield Violation(f"{path}.init_containers", "not supported")


def _effective(spec: JobSpec) -> Iterator[tuple[str, int, PodSpec]]:
    """The different specs of instances, each with the path to blame and one of its instances: not the
    first, if there is another."""
    own = sorted(i for i in spec.instance_spec if i < spec.instance_count)
    if len(own) < spec.instance_count or (not spec.instance_count and spec.HasField("default_spec")):
        any = next((i for i in range(1, spec.instance_count) if i not in spec.instance_spec), 0)
        alone = JobSpec(default_spec=spec.default_spec, sla=spec.sla)
        yield "spec.default_spec", any, specs.effective(alone, any)
    for instance in own:
        yield f"spec.instance_spec[{instance}]", instance, specs.effective(spec, instance)


def _pod_faults(path: str, instance: int, pod: PodSpec) -> Iterator[Violation]:
    if not pod.containers:
        yield Violation(f"{path}.containers", "needs one container")
        return
    if pod.controller and instance:
        yield Violation(f"{path}.controller", "may be true for instance 0 only")
    if pod.preemption_policy.kill_on_preempt:
        yield Violation(f"{path}.preemption_policy.kill_on_preempt", "must be false: such pods are run again")
    yield from _executor_faults(f"{path}.mesos_spec.executor_spec", pod.mesos_spec)
    yield from _container_faults(f"{path}.containers[0]", pod, pod.containers[0])
    yield from _volume_faults(path, pod)
    yield from _port_faults(f"{path}.host_ports", pod.host_ports, free=True)
    yield from constraints.faults(pod.constraint, f"{path}.constraint")


def _executor_faults(path: str, spec: apachemesos.PodSpec) -> Iterator[Violation]:
    """Only custom ones are a matter of pods."""
    executor = spec.executor_spec
    if spec.HasField("executor_spec") and executor.type != _POD_CUSTOM:
        yield Violation(f"{path}.type", "must be CUSTOM")
    elif spec.HasField("executor_spec") and not executor.data:
        yield Violation(f"{path}.data", "must be set for a CUSTOM executor")


def _container_faults(path: str, pod: PodSpec, container: ContainerSpec) -> Iterator[Violation]:
    custom = container.HasField("executor")
    if custom and container.executor.type != _CUSTOM:
        yield Violation(f"{path}.executor.type", "must be CUSTOM")
    elif custom and not container.executor.data:
        yield Violation(f"{path}.executor.data", "must be set for a CUSTOM executor")
    yield from _command_faults(path, container)
    for name in ("cpu_limit", "mem_limit_mb", "disk_limit_mb", "gpu_limit"):
        value = getattr(container.resource, name)
        if not 0 <= value <= _MOST:
            yield Violation(f"{path}.resource.{name}", f"is {value}; it must be a number from 0 to {_MOST:g}")
    custom = custom or pod.mesos_spec.HasField("executor_spec")
    yield from _port_faults(f"{path}.ports", container.ports, free=custom)
    for name in ("liveness_check", "readiness_check"):
        check = getattr(container, name)
        if check.enabled:
            yield from _check_faults(f"{path}.{name}", check, pod)
    mounts = {volume.name for volume in pod.volumes}
    for index, mount in enumerate(container.volume_mounts):
        if mount.name not in mounts:
            yield Violation(f"{path}.volume_mounts[{index}].name", f"{mount.name!r} is no volume of the pod")


def _command_faults(path: str, container: ContainerSpec) -> Iterator[Violation]:
    entrypoint, command = container.entrypoint, container.command
    if not (entrypoint.value or entrypoint.arguments or command.value or container.image):
        yield Violation(f"{path}.entrypoint", "has no value: a container needs a command or an image")
    for field, given in (("entrypoint", entrypoint), ("command", command)):
        if any("\0" in text for text in (given.value, *given.arguments)):
            yield Violation(f"{path}.{field}", "has a NUL in it")
    variables: list[tuple[str, Any]] = [
        (f"{path}.environment[{i}]", found) for i, found in enumerate(container.environment)
    ]
    variables += [
        (f"{path}.command.environment.variables[{i}]", found)
        for i, found in enumerate(command.environment.variables)
    ]
    for at, variable in variables:
        if not variable.name or "=" in variable.name or "\0" in variable.name:
            yield Violation(f"{at}.name", f"{variable.name[:100]!r} is no name of a variable")
        if "\0" in variable.value:
            yield Violation(f"{at}.value", "has a NUL in it")


def _port_faults(path: str, ports: Iterable[PortSpec], *, free: bool) -> Iterator[Violation]:
    """`free`: a port may be any without saying where its number is told."""
    names: set[str] = set()
    for index, port in enumerate(ports):
        if not port.name:
            yield Violation(f"{path}[{index}].name", "must not be empty")
        elif port.name in names:
            yield Violation(f"{path}[{index}].name", f"{port.name!r} is there twice")
        names.add(port.name)
        if not port.value and not port.env_name and not free:
            yield Violation(f"{path}[{index}].env_name", "must be set where value is 0")
        if "=" in port.env_name or "\0" in port.env_name:
            yield Violation(f"{path}[{index}].env_name", f"{port.env_name[:100]!r} is no name of a variable")
        if port.value > _LAST_PORT:
            yield Violation(f"{path}[{index}].value", f"{port.value} is no port")


def _check_faults(path: str, check: HealthCheckSpec, pod: PodSpec) -> Iterator[Violation]:
    match check.type:
        case pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_COMMAND:
            if not (check.command_check.command or check.command.value or check.command.arguments):
                yield Violation(f"{path}.command_check.command", "must not be empty")
            if any(
                "\0" in t
                for t in (check.command_check.command, check.command.value, *check.command.arguments)
            ):
                yield Violation(f"{path}.command_check.command", "has a NUL in it")
        case pod_pb2.HealthCheckSpec.HEALTH_CHECK_TYPE_HTTP:
            yield from _get_faults(path, check, pod)
        case _:
            yield Violation(f"{path}.type", "must be HEALTH_CHECK_TYPE_COMMAND or HEALTH_CHECK_TYPE_HTTP")


def _get_faults(path: str, check: HealthCheckSpec, pod: PodSpec) -> Iterator[Violation]:
    get = check.http_get if check.HasField("http_get") else check.http_check
    named = check.http_get.port_spec
    if not get.port and not named.name and not named.value:
        yield Violation(f"{path}.http_check.port", "must be set")
    if max(get.port, named.value) > _LAST_PORT:
        yield Violation(f"{path}.http_check.port", f"{max(get.port, named.value)} is no port")
    ports = {port.name for port in (*pod.containers[0].ports, *pod.host_ports)}
    if named.name and named.name not in ports and not (get.port or named.value):
        yield Violation(f"{path}.http_get.port_spec.name", f"{named.name!r} is no port of the pod")
    if not get.path:
        yield Violation(f"{path}.http_check.path", "must be set")


def _volume_faults(path: str, pod: PodSpec) -> Iterator[Violation]:
    names: set[str] = set()
    for index, volume in enumerate(pod.volumes):
        at = f"{path}.volumes[{index}]"
        if not volume.name:
            yield Violation(f"{at}.name", "must not be empty")
        elif volume.name in names:
            yield Violation(f"{at}.name", f"{volume.name!r} is there twice")
        names.add(volume.name)
        if volume.type == volume_pb2.VolumeSpec.VOLUME_TYPE_HOST_PATH and not volume.host_path.path:
            yield Violation(f"{at}.host_path.path", "must be set")
        if volume.type == volume_pb2.VolumeSpec.VOLUME_TYPE_INVALID:
            yield Violation(f"{at}.type", "must be EMPTY_DIR or HOST_PATH")

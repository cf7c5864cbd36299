"""What an instance of a job runs: the default spec with the instance's own over it (jobs contract,
section 7), and when two such specs mean the same (section 4, GetReplaceJobDiff)."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from google.protobuf.message import Message

from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.peloton.api.v1alpha.pod.pod_pb2 import ContainerSpec, PodSpec

MAX_FAILURES: Final = 100


class Specs(dict[int, JobSpec]):
    """Of configurations."""

    def __init__(self) -> None:
        super().__init__()
        self._shared: dict[int, tuple[JobSpec, PodSpec]] = {}

    def effective(self, configuration: int, instance: int) -> PodSpec:
        """What `instance` runs there, for reading: instances without a spec of their own share one.
        Raises KeyError."""
        spec = self[configuration]
        if instance in spec.instance_spec:
            return effective(spec, instance)
        of, found = self._shared.get(configuration, (None, None))
        if found is None or of is not spec:
            found = effective(spec, instance)
            self._shared[configuration] = spec, found
        return found

    def keep(self, configurations: Container[int]) -> None:
        """Drop the others."""
        for configuration in [found for found in self if found not in configurations]:
            del self[configuration]
            self._shared.pop(configuration, None)


def effective(spec: JobSpec, instance: int) -> PodSpec:
    """What `instance` runs. A new message."""
    found = PodSpec()
    found.CopyFrom(spec.default_spec)
    if instance in spec.instance_spec:
        override = spec.instance_spec[instance]
        containers = _containers(found, override)
        _overlay(found, override)
        if containers:
            del found.containers[:]
            found.containers.extend(containers)
    if spec.HasField("sla") and spec.sla.revocable:
        found.revocable = True
    return found


def _containers(default: PodSpec, override: PodSpec) -> list[ContainerSpec]:
    """An override that gives a container's resources alone keeps the default's command."""
    if not override.containers:
        return []
    found = [ContainerSpec() for _ in override.containers]
    for index, (new, given) in enumerate(zip(found, override.containers, strict=True)):
        if index < len(default.containers):
            new.CopyFrom(default.containers[index])
            if given.command.value and not _has_entrypoint(given):
                # It is another command, though said in another field.
                new.ClearField("entrypoint")
            _overlay(new, given)
        else:
            new.CopyFrom(given)
    return found


def _overlay(message: Any, override: Message) -> None:
    """Set scalars, messages, lists and maps replace the field whole; booleans always do."""
    for field in override.DESCRIPTOR.fields:
        if field.is_repeated:
            if len(getattr(override, field.name)):
                message.ClearField(field.name)
                getattr(message, field.name).MergeFrom(getattr(override, field.name))
        elif field.message_type is not None:
            if override.HasField(field.name):
                getattr(message, field.name).CopyFrom(getattr(override, field.name))
        elif field.cpp_type == field.CPPTYPE_BOOL or getattr(override, field.name):
            setattr(message, field.name, getattr(override, field.name))


def _has_entrypoint(container: ContainerSpec) -> bool:
    return bool(container.entrypoint.value or container.entrypoint.arguments)


def clamp(spec: JobSpec) -> None:
    """What may be asked for and is not given."""
    for pod in (spec.default_spec, *spec.instance_spec.values()):
        _clamp(pod)


def _clamp(pod: PodSpec) -> None:
    if pod.restart_policy.max_failures > MAX_FAILURES:
        pod.restart_policy.max_failures = MAX_FAILURES


def shown(spec: JobSpec) -> JobSpec:
    """As clients read it: what is said in the deprecated `command` stands in `entrypoint` too. A new
    message."""
    found = JobSpec()
    found.CopyFrom(spec)
    if found.HasField("default_spec"):
        _modernize(found.default_spec)
    for pod in found.instance_spec.values():
        _modernize(pod)
    return found


def _modernize(pod: PodSpec) -> None:
    """Means the same as before: who sends it back changes nothing."""
    for container in pod.containers:
        command, entrypoint = container.command, container.entrypoint
        if not command.value or _has_entrypoint(container):
            continue
        entrypoint.value = command.value
        # Without a shell the first argument is what the program is called.
        entrypoint.arguments.extend(command.arguments if command.shell else command.arguments[1:])
        if not command.shell:
            pod.mesos_spec.shell = False
            pod.mesos_spec.SetInParent()


def same(one: PodSpec, other: PodSpec) -> bool:
    """Whether a pod that runs the one need not be touched to run the other."""
    return key(one) == key(other)


def key(spec: PodSpec) -> bytes:
    """Equal for specs that run the same: the order of labels, ports, environment and mounts, and names
    of pods and containers, do not count, nor does which field the command stands in."""
    found = PodSpec()
    found.CopyFrom(spec)
    _modernize(found)
    _clamp(found)
    found.ClearField("pod_name")
    _sort(found, "labels", lambda label: (label.key, label.value))
    _sort(found, "host_ports", _bytes)
    for container in [*found.containers, *found.init_containers]:
        container.ClearField("name")
        for field in ("value", "arguments", "shell"):
            container.command.ClearField(field)
        if not container.command.ByteSize():
            container.ClearField("command")
        _sort(container, "ports", _bytes)
        _sort(container, "environment", _bytes)
        _sort(container, "volume_mounts", _bytes)
    return found.SerializeToString(deterministic=True)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _sort(message: Any, field: str, by: Any) -> None:
    entries = sorted(getattr(message, field), key=by)
    message.ClearField(field)
    getattr(message, field).extend(entries)

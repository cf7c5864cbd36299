"""The forms of jobs: what is typed into them as messages of the API, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from admin_ui.presenters import job_specs, lab_forms
from shared.pb.peloton.api.v1alpha.job.stateless import stateless_pb2 as stateless
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.pb.peloton.api.v1alpha.pod import pod_pb2

_CHECK: Final = pod_pb2.HealthCheckSpec
CHECKS: Final = {"": "Not checked", "command": "A command", "http": "An HTTP request"}
# Fields of the form, and where each stands in a spec: there its mistakes are told.
_CONTAINER: Final = "default_spec.containers[0]"
PATHS: Final[Mapping[str, str]] = {
    "name": "name",
    "owner": "owner",
    "owning_team": "team",
    "description": "description",
    "instance_count": "instances",
    "respool_id": "pool",
    "labels": "labels",
    "default_spec.kill_grace_period_seconds": "grace",
    f"{_CONTAINER}.entrypoint": "command",
    f"{_CONTAINER}.environment": "environment",
    f"{_CONTAINER}.resource.cpu_limit": "cpu",
    f"{_CONTAINER}.resource.mem_limit_mb": "memory",
    f"{_CONTAINER}.liveness_check": "check_target",
    f"{_CONTAINER}.liveness_check.type": "check",
    f"{_CONTAINER}.liveness_check.interval_secs": "check_interval",
    f"{_CONTAINER}.liveness_check.max_consecutive_failures": "check_failures",
    "sla.maximum_unavailable_instances": "unavailable",
    "sla.priority": "priority",
}
FIELDS: Final = tuple(dict.fromkeys(PATHS.values()))
DEFAULTS: Final = {"instances": "1", "check_interval": "10", "check_failures": "3"}
# Of roll-outs.
NUMBERS: Final = ("batch_size", "max_instance_retries", "max_tolerable_instance_failures")
CREATE_SWITCHES: Final = ("start_paused",)
UPDATE_SWITCHES: Final = ("rollback_on_failure", "start_paused", "start_pods", "in_place")
HOW: Final = (*NUMBERS, *UPDATE_SWITCHES)


def spec_of(typed: Mapping[str, str], base: JobSpec) -> tuple[JobSpec, dict[str, str]]:
    """`base` with what the form says, and what is wrong with that by field. What the form has no field
    for stays as it is."""
    spec, wrong = JobSpec(), dict[str, str]()
    spec.CopyFrom(base)
    spec.name, spec.owner, spec.owning_team = typed["name"], typed["owner"], typed["team"]
    spec.description = typed["description"]
    _number(typed, "instances", wrong, lambda found: setattr(spec, "instance_count", found))
    if typed["pool"]:
        spec.respool_id.value = typed["pool"]
    else:
        wrong["pool"] = "say in which pool"
    try:
        pairs = lab_forms.pairs_of(typed["labels"])
    except ValueError as error:
        wrong["labels"] = str(error)
    else:
        del spec.labels[:]
        for key, value in pairs.items():
            spec.labels.add(key=key, value=value)
    for field, name in (("unavailable", "maximum_unavailable_instances"), ("priority", "priority")):
        if typed[field] or spec.HasField("sla"):
            _number(typed, field, wrong, lambda found, name=name: setattr(spec.sla, name, found))  # type: ignore[misc]  # bound early
    pod = spec.default_spec
    _number(typed, "grace", wrong, lambda found: setattr(pod, "kill_grace_period_seconds", found))
    container = pod.containers[0] if pod.containers else pod.containers.add(name="main")
    _container(typed, container, wrong)
    return spec, wrong


def _container(typed: Mapping[str, str], container: pod_pb2.ContainerSpec, wrong: dict[str, str]) -> None:
    container.entrypoint.value = typed["command"]
    if not typed["command"] and not container.entrypoint.arguments and not container.image:
        wrong["command"] = "say what to run"
    try:
        pairs = _lines(typed["environment"])
    except ValueError as error:
        wrong["environment"] = str(error)
    else:
        del container.environment[:]
        for key, value in pairs.items():
            container.environment.add(name=key, value=value)
    for field, name in (("cpu", "cpu_limit"), ("memory", "mem_limit_mb")):
        text = typed[field]
        if not text:
            container.resource.ClearField(name)
            continue
        try:
            setattr(container.resource, name, float(text.replace(",", ".")))
        except ValueError:
            wrong[field] = f"“{text[:40]}” is no number"
    if not container.resource.ListFields():
        container.ClearField("resource")
    _check(typed, container, wrong)


def _check(typed: Mapping[str, str], container: pod_pb2.ContainerSpec, wrong: dict[str, str]) -> None:
    if not typed["check"]:
        container.ClearField("liveness_check")
        return
    check, target = container.liveness_check, typed["check_target"]
    check.enabled = True
    for name in ("command_check", "http_check", "http_get", "command"):
        check.ClearField(name)
    for field, name in (
        ("check_interval", "interval_secs"),
        ("check_failures", "max_consecutive_failures"),
    ):
        _number(typed, field, wrong, lambda found, name=name: setattr(check, name, found))  # type: ignore[misc]
    if typed["check"] == "command":
        check.type = _CHECK.HEALTH_CHECK_TYPE_COMMAND
        check.command_check.command = target
        if not target:
            wrong["check_target"] = "say which command tells that it is well, by exit code 0"
        return
    check.type = _CHECK.HEALTH_CHECK_TYPE_HTTP
    port, slash, path = target.lstrip(":").partition("/")
    if port.isascii() and port.isdigit() and 0 < int(port) < 65536:
        check.http_check.port = int(port)
    else:
        wrong["check_target"] = "write a port and a path, for example 8080/healthz"
    check.http_check.path = f"{slash}{path}" or "/"


def typed_of(spec: JobSpec) -> dict[str, str]:
    """What the form shows of a spec."""
    pod = spec.default_spec
    container = pod.containers[0] if pod.containers else pod_pb2.ContainerSpec()
    resource, check = container.resource, container.liveness_check
    labels = {label.key: label.value for label in spec.labels}
    kind, target = _checked(check)
    return {
        "name": spec.name,
        "owner": spec.owner,
        "team": spec.owning_team,
        "description": spec.description,
        "instances": str(spec.instance_count),
        "pool": spec.respool_id.value,
        "labels": lab_forms.pairs_text(labels),
        "grace": _shown(pod.kill_grace_period_seconds),
        "command": container.entrypoint.value,
        "environment": "\n".join(f"{one.name}={one.value}" for one in container.environment),
        "cpu": _shown(resource.cpu_limit),
        "memory": _shown(resource.mem_limit_mb),
        "check": kind,
        "check_target": target,
        "check_interval": _shown(check.interval_secs) or DEFAULTS["check_interval"],
        "check_failures": _shown(check.max_consecutive_failures) or DEFAULTS["check_failures"],
        "unavailable": _shown(spec.sla.maximum_unavailable_instances),
        "priority": _shown(spec.sla.priority),
    }


def _checked(check: pod_pb2.HealthCheckSpec) -> tuple[str, str]:
    if not check.enabled:
        return "", ""
    if check.type == _CHECK.HEALTH_CHECK_TYPE_HTTP:
        get = check.http_get if check.HasField("http_get") else check.http_check
        return "http", f"{get.port}{get.path}"
    return "command", check.command_check.command or check.command.value


def beyond(spec: JobSpec) -> list[str]:
    """The paths of what the form cannot hold: it has no field for it, or would make something else of it."""
    typed = {name: text.strip() for name, text in typed_of(spec).items()}
    shown, _ = spec_of(typed, JobSpec())
    return [change.path for change in job_specs.changes(spec, shown)]


# --- roll-outs ----------------------------------------------------------------------------------


def create_spec(typed: Mapping[str, str]) -> tuple[stateless.CreateSpec, dict[str, str]]:
    return _how(typed, stateless.CreateSpec(), CREATE_SWITCHES)


def update_spec(typed: Mapping[str, str]) -> tuple[stateless.UpdateSpec, dict[str, str]]:
    return _how(typed, stateless.UpdateSpec(), UPDATE_SWITCHES)


def _how(typed: Mapping[str, str], found: Any, switches: tuple[str, ...]) -> tuple[Any, dict[str, str]]:
    wrong: dict[str, str] = {}
    for name in NUMBERS:
        _number(typed, name, wrong, lambda number, name=name: setattr(found, name, number))  # type: ignore[misc]
    for name in switches:
        setattr(found, name, typed[name] == "on")
    return found, wrong


def ranges_of(text: str) -> list[pod_pb2.InstanceIDRange]:
    """`0-4, 7`, both ends meant, as half-open ranges; none for an empty text, which means all. Raises
    ValueError."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.replace("–", "-").split(","))):
        low, dash, high = (piece.strip() for piece in part.partition("-"))
        if not (_digits(low) and (_digits(high) or not dash)):
            raise ValueError(f"“{part[:40]}” is no range: write for example 0-4, 7")
        begin, end = int(low), int(high or low) + 1
        if end <= begin:
            raise ValueError(f"“{part[:40]}” ends before it begins")
        if end > 1 << 31:
            raise ValueError(f"“{part[:40]}” is beyond the instances of any job")
        found.append(pod_pb2.InstanceIDRange(**{"from": begin, "to": end}))
    return found


def _number(
    typed: Mapping[str, str], field: str, wrong: dict[str, str], put: Callable[[int], object]
) -> None:
    """Nothing is 0."""
    text = typed[field] or "0"
    if _digits(text) and int(text) < 1 << 32:
        put(int(text))
    else:
        wrong[field] = f"“{text[:40]}” is no whole number from 0"


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 11


def _shown(number: float) -> str:
    return f"{number:g}" if number and number < 1e6 else str(int(number)) if number else ""


def _lines(text: str) -> dict[str, str]:
    """`NAME=value`, one a line; values may have commas."""
    found: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, separator, value = line.partition("=")
        if not separator or not name.strip():
            raise ValueError(f"“{line[:60]}” is not NAME=value")
        found[name.strip()] = value.strip()
    return found

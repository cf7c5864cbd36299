"""All settings, in one table: name, type, default and meaning. docs/configuration.md lists them.

Each is read once at start from `ROUNDHOUSE_<NAME>` (upper case); `roundhouse up` sets the same
variables for its children.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from shared.errors import InvalidArgument, Violation

# Offsets from the base port.
CONSOLE: Final = "console"
PORTS: Final[dict[str, int]] = {
    CONSOLE: 0,
    "meta": 10,
    "jumpstarter": 20,
    "jobs": 30,
    "pipelines": 40,
    "pods": 50,
}

# Services whose gRPC also speaks TLS, whatever the settings, at a port of its own: two above gRPC's.
TLS: Final = frozenset({"jumpstarter"})
_TLS_OFFSET: Final = 2
# Bound, these are every address: clients need another name.
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})

# How far the ports of one installation reach.
_COUNTED: Final = 60

_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>ms|s|m|h|d)")
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})


def duration(text: str) -> timedelta:
    """`500ms`, `30s`, `10m`, `24h` or `400d`. ValueError otherwise."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a duration; write for example 30s, 10m, 24h or 400d")
    try:
        return timedelta(seconds=float(match["number"]) * _UNITS[match["unit"]])
    except OverflowError:
        raise ValueError("is longer than any calendar") from None


def boolean(text: str) -> bool:
    """`true` or `false`, also 1/0, yes/no, on/off. ValueError otherwise."""
    lowered = text.strip().lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise ValueError("is neither true nor false")


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("is not a whole number") from None


def port(text: str) -> int:
    number = whole(text)
    if not 0 <= number <= 65535:
        raise ValueError("is not a port")
    return number


def base_port(text: str) -> int:
    number = port(text)
    if number > 65535 - _COUNTED:
        raise ValueError(f"leaves no room: {_COUNTED} ports are counted from it")
    return number


def count(text: str) -> int:
    """A number from 0."""
    number = whole(text)
    if number < 0:
        raise ValueError("must not be negative")
    return number


def given(text: str) -> str:
    """Text of some kind: an empty host would be every address."""
    if not text:
        raise ValueError("must not be empty")
    return text


def _folder(text: str) -> Path:
    return Path(given(text))


def optional_port(text: str) -> int | None:
    return port(text) if text else None


def endpoint(text: str) -> str:
    """`host:port` or nothing. ValueError otherwise."""
    if text:
        host, _, number = text.rpartition(":")
        if not host or not number.isdecimal() or port(number) == 0 or "/" in host:
            raise ValueError("is not host:port")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError("is not host:port; an IPv6 address stands in brackets")
    return text


def keys(text: str) -> frozenset[str]:
    """Comma-separated."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


def replacements(text: str) -> dict[str, str]:
    """`key=what to use instead`, comma-separated; the part behind the key may be left out."""
    pairs = (item.partition("=") for item in text.split(",") if item.strip())
    found = {key.strip(): instead.strip() for key, _, instead in pairs}
    if "" in found:
        raise ValueError("has an entry without a key; write key=what to use instead")
    return found


def amount(text: str) -> float:
    """A number from 0, perhaps with a fraction."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not 0 <= number < float("inf"):
        raise ValueError("must be a number from 0")
    return number


def words(text: str) -> tuple[str, ...]:
    """Comma-separated, in this order."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def pairs(text: str) -> dict[str, str]:
    """`key=value`, comma-separated."""
    found = {}
    for item in words(text):
        key, equals, value = item.partition("=")
        if not key.strip() or not equals:
            raise ValueError(f"has the entry {item!r}; write key=value")
        found[key.strip()] = value.strip()
    return found


def port_range(text: str) -> tuple[int, int]:
    """`first-last`."""
    first, dash, last = text.partition("-")
    if not dash or not 0 < port(first) <= port(last):
        raise ValueError("is not a range of ports; write for example 31000-32000")
    return port(first), port(last)


def optional_folder(text: str) -> Path | None:
    return Path(text) if text else None


def _limits(text: str) -> str:
    if text not in ("enforce", "advisory"):
        raise ValueError("must be enforce or advisory")
    return text


def interval(text: str) -> timedelta:
    """A duration above 0."""
    found = duration(text)
    if not found:
        raise ValueError("must be more than 0s")
    return found


def _runtime(text: str) -> str:
    if text not in ("process", "fake"):
        raise ValueError("must be process or fake")
    return text


def _pod_of(text: str) -> str:
    if text not in ("instance", "run"):
        raise ValueError("must be instance or run")
    return text


def optional_uuid(text: str) -> str:
    """A UUID in lower case, or nothing. ValueError otherwise."""
    try:
        return str(UUID(text)) if text else ""
    except ValueError:
        raise ValueError("is not a UUID") from None


def _services(text: str) -> str:
    for name in filter(None, map(str.strip, text.split(","))):
        if name not in PORTS:
            raise ValueError(f"names {name!r}, which is none of {', '.join(PORTS)}")
    return text


def _log_format(text: str) -> str:
    if text not in ("json", "text"):
        raise ValueError("must be json or text")
    return text


def _log_level(text: str) -> str:
    if text.lower() not in ("debug", "info", "warning", "error"):
        raise ValueError("must be debug, info, warning or error")
    return text.lower()


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    parse: Callable[[str], Any]
    default: str
    help: str

    @property
    def variable(self) -> str:
        return f"ROUNDHOUSE_{self.name.upper()}"


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("data", _folder, "var", "Folder of databases, keys, certificates and the operator's token."),
    Setting("store", given, "sqlite", "`sqlite` (one file a service under `data`), `memory` (tests), or a `mongodb://` URL."),
    Setting("store_name", str, "roundhouse", "MongoDB: databases are called `<store_name>_<service>`."),
    Setting("store_documents", boolean, "true", "MongoDB: keep a readable copy of each message beside its bytes."),
    Setting("host", given, "127.0.0.1", "Address that every port binds."),
    Setting("base_port", base_port, "8700", "Ports are counted from here: console +0, meta +10, jumpstarter +20, jobs +30, pipelines +40, pods +50; REST is one above gRPC, Jumpstarter's gRPC over TLS two."),
    Setting("grpc_port", optional_port, "", "gRPC port of this process instead of the counted one; 0 takes a free one."),
    Setting("http_port", optional_port, "", "HTTP port of this process instead of the counted one; 0 takes a free one."),
    Setting("ports_file", str, "", "Write `{\"grpc\": N, \"http\": N}` here once both listen; Jumpstarter adds `\"tls\": N`."),
    Setting("services", str, "", "Console: comma-separated `name=host:port` of services that are not on the counted ports."),
    Setting("only", _services, "", "Comma-separated services that run; empty is all. The console shows only these."),
    Setting("auth", boolean, "true", "Ask for a token. `false` lets everyone do everything and says so in the log."),
    Setting("tls_cert", str, "", "PEM file of the server certificate; with `tls_key` every port speaks TLS. Without, Jumpstarter's TLS port has a certificate of its own under `data`/tls."),
    Setting("tls_key", str, "", "PEM file of the certificate's key."),
    Setting("tls_ca", str, "", "Clients of our own (console, command line): PEM file of the authority to trust; set, they speak TLS."),
    Setting("log_format", _log_format, "text", "`text` for people, `json` for collectors."),
    Setting("log_level", _log_level, "info", "`debug`, `info`, `warning` or `error`."),
    Setting("stop_grace", duration, "5s", "How long running calls may take to end after SIGTERM."),
    Setting("max_message_bytes", count, "4194304", "Largest request that gRPC or REST accepts."),
    Setting("max_streams", count, "20000", "Streams that one process serves at once: watches, and of each real exporter about ten."),
    Setting("max_stream_age", duration, "0s", "Watches end with UNAVAILABLE after so long, and clients open them anew; 0s lets them run."),
    Setting("retention_age", duration, "24h", "Versions older than this may be compacted ..."),
    Setting("retention_changes", count, "100000", "... once more than this many newer changes exist."),
    Setting("audit_age", duration, "400d", "How long the audit trail is kept."),
    Setting("console_session", duration, "12h", "How long a console sign-in lasts."),
    Setting("public_url", str, "", "Console: the URL that people use, when a proxy stands in front."),
    Setting("catalogue", str, "", "Meta: manifest to apply at the very first start of a store."),
    Setting("watch_heartbeat", duration, "30s", "Meta: silence after which a stateless watch says how much a client must hold."),
    Setting("watch_bookmark", duration, "60s", "Meta: a quiet watch gets a fresh resume token at most this often."),
    Setting("jumpstarter_tls_port", optional_port, "", "Jumpstarter: port of gRPC over TLS, for real clients and exporters; without one, two above gRPC's; 0 takes a free one."),
    Setting("jumpstarter_endpoint", endpoint, "", "Jumpstarter: `host:port` by which clients and exporters reach the TLS port of this very process; without one, `host` and that port."),
    Setting("jumpstarter_hidden_labels", keys, "", "Jumpstarter: labels of exporters that are shown only to who asks for hidden ones; keys, comma-separated."),
    Setting("jumpstarter_deprecated_labels", replacements, "", "Jumpstarter: labels that are hidden likewise and reported as deprecated; `key=what to use instead`, comma-separated."),
    Setting("jumpstarter_max_tags", count, "10", "Jumpstarter: how many tags a lease may have."),
    Setting("lease_retention", duration, "30d", "Jumpstarter: how long ended leases stay readable."),
    Setting("pods_max_sync", count, "100000", "Pods: how many pods one Sync, and rows one PutInventory, may have; they are held until its end."),
    Setting("pods_jobs", endpoint, "", "Pods: `host:port` of the jobs service's gRPC, whose pods are exported too; `roundhouse up` sets it. Both must share `data`/keys and the access store. Empty: none."),
    Setting("pods_jobs_cluster", given, "roundhouse", "Pods: the cluster that the jobs service's pods are of ..."),
    Setting("pods_jobs_cluster_id", optional_uuid, "", "Pods: ... and its id, a UUID; empty makes one of the name."),
    Setting("pods_jobs_namespace", str, "", "Pods: the namespace of the jobs service's pods; `label:KEY` is what that label of the job says, empty the id of the job's resource pool."),
    Setting("pods_jobs_pod", _pod_of, "instance", "Pods: `instance` exports one pod for each instance of a job, with its runs among the terminated ones; `run` one for each run."),
    Setting("jobs_limits", _limits, "enforce", "Jobs: `enforce` refuses pods with a limit that this host cannot enforce; `advisory` runs them, and their message says which limits do not hold."),
    Setting("jobs_cgroup", optional_folder, "", "Jobs: folder of control groups (version 2) that was delegated to this user, without processes of its own; each pod gets a group in it. Without one, CPU limits are counted only, and memory limits hold for each process alone."),
    Setting("jobs_allow_root", boolean, "false", "Jobs: run pods although this user is root. They may do anything to the host then."),
    Setting("jobs_cpu", amount, "0", "Jobs: CPUs for all pods together; 0 is all of the host's."),
    Setting("jobs_memory_mb", amount, "0", "Jobs: MiB of memory for all pods together; 0 is all of the host's."),
    Setting("jobs_gpus", words, "", "Jobs: ids of GPUs that pods may have, as CUDA_VISIBLE_DEVICES takes them, comma-separated."),
    Setting("jobs_max_pods", count, "500", "Jobs: pods that run at once; others wait."),
    Setting("jobs_launch_rate", amount, "100", "Jobs: pods that are launched a second at most."),
    Setting("jobs_max_processes", count, "0", "Jobs: processes that one pod may have with control groups; without them, that the user may have when a pod starts another one (nothing for root). 0 leaves it to the host."),
    Setting("jobs_ports", port_range, "31000-32000", "Jobs: ports that are given to pods which take any, from the first to the last."),
    Setting("jobs_host_labels", pairs, "", "Jobs: labels of this host for constraints, `key=value`, comma-separated; `hostname` is always there."),
    Setting("jobs_host_paths", words, "", "Jobs: folders of this host, with all below, that pods may name as volumes; comma-separated."),
    Setting("jobs_log_bytes", count, "8388608", "Jobs: size at which a pod's stdout or stderr goes on in a new file."),
    Setting("jobs_log_files", count, "3", "Jobs: how many such files are kept of each, the newest included; two at least."),
    Setting("jobs_runtime", _runtime, "process", "Jobs: `process` runs pods as processes of this host; `fake` only pretends to, for tests and trials."),
    Setting("jobs_max_instances", count, "100000", "Jobs: instances that a job may have."),
    Setting("jobs_first_backoff", duration, "30s", "Jobs: how long a pod waits for its next run after a failure; twice as long after each further one ..."),
    Setting("jobs_longest_backoff", duration, "60m", "Jobs: ... but never longer."),
    Setting("jobs_launch_timeout", duration, "180m", "Jobs: how long a pod may take from its launch to its start, and from there to running."),
    Setting("jobs_end_pods", boolean, "false", "Jobs: when the service stops, end its pods as gently as they asked for; they run again when it starts. For containers, whose end would be theirs; otherwise pods go on."),
    Setting("jobs_leader_lapse", interval, "10s", "Jobs: how long the process that writes may leave one of another data folder without an answer until that takes over."),
    Setting("multi_user", boolean, "false", "Pipelines: experiments live in namespaces."),
    Setting("multi_user_shared_read", boolean, "false", "Pipelines: everyone may get and list in every namespace."),
    Setting("default_experiment", boolean, "true", "Pipelines: create the experiment `Default` at the first start in single-user mode."),
    Setting("userid_header", str, "x-goog-authenticated-user-email", "Pipelines: header that names the user, from callers with permission `impersonate`."),
    Setting("userid_prefix", str, "accounts.google.com:", "Pipelines: what stands before the name in that header."),
)  # fmt: skip

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


class Config:
    """The settings of one process, read once. `config.base_port` is that setting's value."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"no setting {name!r}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("settings are read once; build another Config instead")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, /, **overrides: Any) -> Config:
        """From the environment, then `overrides` (text is parsed, other values stand as they are).

        Raises InvalidArgument naming every variable that is wrong or unknown.
        """
        environ = os.environ if environ is None else environ
        given: dict[str, Any] = {
            key.removeprefix("ROUNDHOUSE_").lower(): value
            for key, value in environ.items()
            if key.startswith("ROUNDHOUSE_")
        }
        given.update(overrides)
        wrong = [
            Violation(f"ROUNDHOUSE_{name.upper()}", "no such setting")
            for name in given
            if name not in _BY_NAME
        ]
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            raw = given.get(setting.name, setting.default)
            try:
                values[setting.name] = setting.parse(raw) if isinstance(raw, str) else raw
            except ValueError as error:
                wrong.append(Violation(setting.variable, f"{raw!r} {error}"))
        if bool(values.get("tls_cert")) != bool(values.get("tls_key")):
            lacking = "tls_key" if values.get("tls_cert") else "tls_cert"
            wrong.append(Violation(_BY_NAME[lacking].variable, "must be set too: TLS needs both files"))
        if wrong:
            raise InvalidArgument.of(wrong)
        return cls(values)

    def replace(self, **changes: Any) -> Config:
        return Config({**self._values, **changes})

    def environment(self, **overrides: str) -> dict[str, str]:
        """The variables that give a child process `overrides`; for `roundhouse up` and tests."""
        return {_BY_NAME[name].variable: value for name, value in overrides.items()}

    def counted_ports(self, service: str) -> tuple[int, int]:
        """(gRPC, HTTP) of `service`, wherever it runs; the console has an HTTP port only, given twice."""
        base = self.base_port + PORTS[service]
        return (base, base) if service == CONSOLE else (base, base + 1)

    def ports(self, service: str) -> tuple[int, int]:
        """The same for the service that this process is: its own settings come first."""
        grpc, http = self.counted_ports(service)
        return (
            grpc if self.grpc_port is None else self.grpc_port,
            http if self.http_port is None else self.http_port,
        )

    def tls_port(self, service: str) -> int | None:
        """Where `service` speaks gRPC over TLS in any case; None where it does not."""
        if service not in TLS:
            return None
        own, grpc = getattr(self, f"{service}_tls_port"), self.ports(service)[0]
        return own if own is not None else grpc and grpc + _TLS_OFFSET

    def endpoint(self, service: str, port: int) -> str:
        """`host:port` that clients of the TLS port, which is `port`, are told."""
        host = "localhost" if self.host in WILDCARDS else self.host
        return getattr(self, f"{service}_endpoint") or f"{f'[{host}]' if ':' in host else host}:{port}"

    def enabled(self, service: str) -> bool:
        only = {name.strip() for name in self.only.split(",") if name.strip()}
        return not only or service in only


def table() -> str:
    """The settings as the Markdown table of docs/configuration.md."""
    rows = [f"| `{s.variable}` | {f'`{s.default}`' if s.default else ''} | {s.help} |" for s in SETTINGS]
    return "\n".join(["| Variable | Default | Meaning |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())

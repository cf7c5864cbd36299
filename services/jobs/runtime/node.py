"""What the machine of the process runtime has, and what its operator allows pods to do."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.jobs.runtime.keeper import cgroup
from services.jobs.runtime.keeper.keeper import most_pods
from services.jobs.runtime.port import Capacity
from shared.service.config import Config

_HOSTNAME: Final = "hostname"
_MEGABYTE: Final = 1 << 20


@dataclass(frozen=True)
class Node:
    """`cpu` CPUs and `memory_mb` MiB for all pods together; 0 is all that the host has. `enforce`:
    limits that cannot be enforced are refused, rather than noted. `cgroup`: a folder of control
    groups that was delegated. `ports` from the first to the last are given to pods that take any."""

    pods: int = 500
    cpu: float = 0.0
    memory_mb: float = 0.0
    gpus: tuple[str, ...] = ()
    enforce: bool = True
    cgroup: Path | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    host_paths: tuple[str, ...] = ()
    ports: tuple[int, int] = (31000, 32000)
    # Launches a second.
    launch_rate: float = 100.0
    log_bytes: int = 8 * _MEGABYTE
    log_files: int = 3
    # Of the user as a whole without control groups, of each pod with; 0: no bound of ours.
    processes: int = 0
    allow_root: bool = False
    # Seconds that a keeper stays though there is nothing to keep and no service is there.
    idle: float = 60.0

    @classmethod
    def of(cls, config: Config) -> Node:
        return cls(
            pods=config.jobs_max_pods,
            cpu=config.jobs_cpu,
            memory_mb=config.jobs_memory_mb,
            gpus=config.jobs_gpus,
            enforce=config.jobs_limits == "enforce",
            cgroup=config.jobs_cgroup,
            labels=config.jobs_host_labels,
            host_paths=config.jobs_host_paths,
            ports=config.jobs_ports,
            launch_rate=config.jobs_launch_rate,
            log_bytes=config.jobs_log_bytes,
            log_files=config.jobs_log_files,
            processes=config.jobs_max_processes,
            allow_root=config.jobs_allow_root,
        )

    @property
    def host(self) -> str:
        return socket.gethostname()

    @property
    def all_labels(self) -> dict[str, str]:
        return {_HOSTNAME: self.host, **self.labels}

    @property
    def controllers(self) -> frozenset[str]:
        """Of control groups that pods can have: "cpu", "memory", "pids"."""
        return cgroup.controllers(self.cgroup) if self.cgroup is not None else frozenset()

    def capacity(self) -> Capacity:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        room = self.pods if descriptors == resource.RLIM_INFINITY else most_pods(descriptors)
        return Capacity(
            cpu=self.cpu or float(len(os.sched_getaffinity(0))),
            memory_mb=self.memory_mb or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _MEGABYTE,
            pods=min(self.pods, room),
            gpu=float(len(self.gpus)),
            labels=self.all_labels,
        )

"""From a description to a process: environment, limits and the exec itself."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from services.jobs.runtime.keeper import marks
from services.jobs.runtime.keeper.cgroup import Cgroup

_TEMPLATE: Final = re.compile(r"\{\{\s*port\.([^{}\s]+)\s*\}\}")
_LIMITS: Final = {
    "files": resource.RLIMIT_NOFILE,
    "address_space": resource.RLIMIT_AS,
    "file_size": resource.RLIMIT_FSIZE,
}


class LaunchFailed(Exception):
    """It could not be started; says why."""


def filled(text: str, ports: Mapping[str, int]) -> str:
    """With the ports in place of `{{port.name}}`."""
    return _TEMPLATE.sub(lambda match: str(ports.get(match[1], match[0])), text)


def named(wanted: Sequence[Mapping[str, Any]], ports: Mapping[str, int]) -> dict[str, int]:
    """The ports by all names that a template may use."""
    found = {port["template"]: ports[port["name"]] for port in wanted if port["template"]}
    return {**found, **ports}


def environment(
    wanted: Mapping[str, Any], sandbox: Path, ports: Mapping[str, int], devices: Sequence[str]
) -> dict[str, str]:
    """Nothing of the keeper's own but where programs are and the language."""
    found = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "HOME": str(sandbox),
        "MESOS_SANDBOX": str(sandbox),
    }
    names = named(wanted["ports"], ports)
    found |= {name: filled(value, names) for name, value in wanted["environment"].items()}
    found |= {port["variable"]: str(ports[port["name"]]) for port in wanted["ports"] if port["variable"]}
    if wanted["gpus"]:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    return found


def spawn(
    arguments: Sequence[str],
    *,
    folder: Path,
    variables: Mapping[str, str],
    merged: bool = False,
    limits: Mapping[str, int],
    mark: int,
    cgroup: Cgroup | None,
) -> subprocess.Popen[bytes]:
    """Returns once the exec has succeeded, in a session and group of its own, with a pipe at stdout and
    one at stderr, or with one for both. Raises LaunchFailed."""
    try:
        with marks.borne(mark):
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merged else subprocess.PIPE,
                cwd=folder,
                env=variables,
                # All of the keeper's are closed by the exec itself. To close them one by one costs each
                # launch more the more pods run.
                close_fds=False,
                start_new_session=True,
                preexec_fn=_before(limits, cgroup),
            )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LaunchFailed(f"{arguments[0]}: {why}") from error


def _before(limits: Mapping[str, int], cgroup: Cgroup | None) -> Callable[[], None] | None:
    """Runs between fork and exec. None is three times faster: then nothing is copied for it."""
    chosen = [(kind, limits[name]) for name, kind in _LIMITS.items() if limits.get(name)]
    if not chosen and cgroup is None:
        return None

    def apply() -> None:
        if cgroup is not None:
            cgroup.join()
        for kind, value in chosen:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))

    return apply

"""Names of jobs, pods and versions (jobs contract, sections 3 and 5)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from shared.errors import InvalidArgument

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_UUID_LENGTH: Final = 36
# Numbers in record names sort as text.
_DIGITS: Final = 12
_LARGEST: Final = 2**64 - 1


def is_job_id(text: str) -> bool:
    """An RFC 4122 UUID."""
    return _UUID.fullmatch(text) is not None


def parse_job_id(text: str, parameter: str = "job_id.value") -> str:
    """In lower case. Raises InvalidArgument."""
    if not is_job_id(text):
        raise InvalidArgument.at(parameter, f"{text[:100]!r} is no UUID")
    return text.lower()


def new_job_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Version:
    """An entity version: the configuration, and counters of changes of desired state and workflow."""

    configuration: int
    desired_state: int = 0
    workflow: int = 0

    def __str__(self) -> str:
        return f"{self.configuration}-{self.desired_state}-{self.workflow}"

    @classmethod
    def parse(cls, text: str, parameter: str = "version.value") -> Self:
        """Raises InvalidArgument."""
        parts = text.split("-")
        numbers = [
            int(part) if part.isascii() and part.isdigit() and len(part) <= 20 else -1 for part in parts
        ]
        if len(parts) != 3 or not all(0 <= number <= _LARGEST for number in numbers):
            raise InvalidArgument.at(
                parameter, f"{text[:100]!r} is no entity version: three numbers joined by '-', as in 1-1-1"
            )
        return cls(*numbers)


@lru_cache(maxsize=1000)
def pod_version(configuration: int) -> str:
    """The entity version of a pod."""
    return str(Version(configuration))


def pod_name(job: str, instance: int) -> str:
    return f"{job}-{instance}"


def parse_pod_name(text: str, parameter: str = "pod_name.value") -> tuple[str, int]:
    """The job and the instance. Raises InvalidArgument for what is shorter than a UUID or has no
    number at its end."""
    job, dash, instance = text.rpartition("-")
    good = (
        len(job) >= _UUID_LENGTH
        and dash
        and instance.isascii()
        and instance.isdigit()
        and len(instance) <= 10
    )
    if not good:
        raise InvalidArgument.at(
            parameter, f"{text[:100]!r} is no pod name: a job's id, '-' and the number of the instance"
        )
    return job, int(instance)


def pod_id(name: str, run: int) -> str:
    """Of the run of a pod; empty for none."""
    return f"{name}-{run}" if run else ""


def parse_pod_id(text: str, name: str, parameter: str = "pod_id.value") -> int:
    """The run. Raises InvalidArgument when `text` is no id of the pod called `name`."""
    before, _, run = text.rpartition("-")
    if before != name or not (run.isascii() and run.isdigit() and len(run) <= 18) or not int(run):
        raise InvalidArgument.at(parameter, f"{text[:100]!r} is no run of pod {name}")
    return int(run)


def parse_run(text: str) -> tuple[str, int, int]:
    """The job, the instance and the run of a pod id. Raises InvalidArgument."""
    name, _, run = text.rpartition("-")
    job, _, instance = name.rpartition("-")
    # Not a pattern: everything that a runtime says passes here.
    good = (
        len(job) >= _UUID_LENGTH
        and len(instance) <= 10
        and len(run) <= 18
        and (instance + run).isascii()
        and instance.isdigit()
        and run.isdigit()
    )
    if not good:
        raise InvalidArgument.at("pod_id.value", f"{text[:100]!r} is no run of a pod")
    return job, int(instance), int(run)


# -- record names


def configuration(job: str, version: int) -> str:
    return f"{job}/{version:0{_DIGITS}}"


def workflow(job: str, number: int) -> str:
    return f"{job}/{number:0{_DIGITS}}"


def step(workflow: str, instance: int) -> str:
    return f"{workflow}/{instance}"


def run(pod: str, number: int) -> str:
    return f"{pod}-{number:0{_DIGITS}}"

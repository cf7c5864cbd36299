"""What an attempt does, told without saying how: for the scripted fake and the contract of runtimes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """Seconds. By itself it runs for ever, and ends at once when it is asked to.

    `lasts`: then it ends by itself, with `exit_code`, or by `signal` where one is named. `launch_error`:
    it cannot be launched. `starts_after`: so long it is STARTING. `unhealthy_after`: a liveness check
    that it has then fails for good; without, it is well. `ends_after` it is asked to end; None ignores
    that. `lost_after`: the runtime loses sight of it. `output` is what it writes at first, to stdout.
    """

    lasts: float | None = None
    exit_code: int = 0
    signal: str = ""
    launch_error: str = ""
    starts_after: float = 0.0
    unhealthy_after: float | None = None
    ends_after: float | None = 0.0
    lost_after: float | None = None
    output: bytes = b""


FOREVER = Script()

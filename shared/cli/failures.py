"""What people read when a call failed: one line with the code, the fields and what to do."""

from __future__ import annotations

from typing import Final

from grpc import StatusCode

from shared.rpc.client import Failure

ADVICE: Final[dict[StatusCode, str]] = {
    StatusCode.UNAUTHENTICATED: "the token is not valid (any more): see --token-file, `roundhouse doctor`",
    StatusCode.PERMISSION_DENIED: "ask an admin for a token with a larger role: `roundhouse token create`",
    StatusCode.UNAVAILABLE: "is it running? see `roundhouse up` and `roundhouse doctor`",
    StatusCode.ABORTED: "someone else wrote first: read again and retry",
    StatusCode.DEADLINE_EXCEEDED: "the service is slow or stuck: see its log",
    StatusCode.RESOURCE_EXHAUSTED: "a limit was reached, or the disk is full",
    StatusCode.INTERNAL: "see the log of the service",
    StatusCode.UNKNOWN: "see the log of the service",
}


def is_silence(failure: Failure) -> bool:
    """Whether nobody answered."""
    return failure.code is StatusCode.UNAVAILABLE and not failure.reason


def line(failure: Failure, *, service: str = "", target: str = "", elsewhere: str = "") -> str:
    """`CODE from service: message [field: what is wrong; ...] (advice)`, never more than one line.
    `elsewhere`: what helps where nobody answers, if more is known than the usual."""
    message = failure.message or "no message"
    if is_silence(failure) and target:
        message = f"nothing answers at {target}"
    elif failure.code is StatusCode.UNIMPLEMENTED and not failure.reason and target:
        message = f"{target} does not serve this call; another program, or another version, listens there"
    fields = [f"{v.field}: {v.description}" for v in failure.violations if v.description not in message]
    if fields:
        message += f" [{'; '.join(fields)}]"
    advice = (is_silence(failure) and elsewhere) or ADVICE.get(failure.code, "")
    if failure.permission:
        advice = (
            f"needs permission {failure.permission}; {advice}" if advice else f"needs {failure.permission}"
        )
    if failure.outcome_unknown:
        advice = "the write may have happened: read before trying again"
    origin = f" from {service}" if service else ""
    text = f"{failure.code.name}{origin}: {message}" + (f" ({advice})" if advice else "")
    return " ".join(text.split())

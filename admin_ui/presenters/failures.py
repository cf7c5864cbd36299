"""Failed calls for people: one table from the gRPC code to a title and advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grpc import StatusCode

from shared.rpc.client import Failure


@dataclass(frozen=True, slots=True)
class Explanation:
    """`status` is the HTTP status of a page that shows nothing else."""

    status: int
    title: str
    advice: str
    retry: bool = False


EXPLANATIONS: Final[dict[StatusCode, Explanation]] = {
    StatusCode.INVALID_ARGUMENT: Explanation(
        400, "The service did not accept that", "Correct what it names, then send it again."
    ),
    StatusCode.UNAUTHENTICATED: Explanation(
        401, "You are not signed in", "Your token is no longer valid. Sign in again to go on."
    ),
    StatusCode.PERMISSION_DENIED: Explanation(
        403,
        "You may not do that",
        "Ask an administrator for a role that has this permission. Nothing was changed.",
    ),
    StatusCode.NOT_FOUND: Explanation(
        404, "It is not there", "It may have been deleted, or the address has a typing error."
    ),
    StatusCode.ALREADY_EXISTS: Explanation(
        409, "That name is taken", "Choose another name. Archived objects keep their names."
    ),
    StatusCode.ABORTED: Explanation(
        409, "Someone else was faster", "Look at the current state, then decide again."
    ),
    StatusCode.FAILED_PRECONDITION: Explanation(
        409, "That is not possible now", "The message says what has to change first."
    ),
    StatusCode.OUT_OF_RANGE: Explanation(
        400, "That place in the list is gone", "Start again at the first page."
    ),
    StatusCode.RESOURCE_EXHAUSTED: Explanation(
        429, "A limit is reached", "Wait a moment, then try again. If it stays, the service needs room.", True
    ),
    StatusCode.UNIMPLEMENTED: Explanation(
        501, "This service does not do that", "It may be older than this console."
    ),
    StatusCode.UNAVAILABLE: Explanation(
        503,
        "The service does not answer",
        "It may be restarting. This page tries again by itself; the rest of the console works.",
        True,
    ),
    StatusCode.DEADLINE_EXCEEDED: Explanation(
        504,
        "The service was too slow",
        "It is busy, or the question is expensive. Look before you repeat a change.",
        True,
    ),
    StatusCode.CANCELLED: Explanation(503, "The call was cut off", "Try again.", True),
}
UNEXPECTED: Final = Explanation(
    500,
    "Something went wrong",
    "That is a fault of ours. The log has the details under the request id.",
    True,
)
# Pages that no service was asked for.
PLAIN: Final[dict[int, Explanation]] = {
    403: Explanation(
        403,
        "That did not come from this console",
        "The browser says that another site sent it, so nothing was done. Open the page here and try again.",
    ),
    404: Explanation(404, "No such page", "Check the address, or start from the navigation."),
    405: Explanation(405, "That address does not take this", "Open the page itself and use its buttons."),
    413: Explanation(413, "That is too large", "Shorten what you sent."),
}


def explain(failure: Failure) -> Explanation:
    return EXPLANATIONS.get(failure.code, UNEXPECTED)


def by_field(failure: Failure) -> dict[str, str]:
    """What is wrong with each field: by the last part of its path, `experiment.name` as `name`."""
    found: dict[str, str] = {}
    for violation in failure.violations:
        key = violation.field.rpartition(".")[2]
        found[key] = f"{found[key]}; {violation.description}" if key in found else violation.description
    return found

"""Resume tokens: a revision of one store's epoch, bound to the query that was watched."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import InvalidArgument
from shared.query import page_token

_KEYS = frozenset({"e", "r", "f"})


@dataclass(frozen=True, slots=True)
class ResumeToken:
    epoch: str
    revision: int
    fingerprint: str

    def encode(self) -> str:
        return page_token.encode({"e": self.epoch, "r": self.revision, "f": self.fingerprint})


def decode(token: str, fingerprint: str) -> ResumeToken:
    """Raises InvalidArgument when it is malformed or of another query."""
    found = page_token.decode(token, _KEYS, parameter="resume_token")
    epoch, revision, query = found["e"], found["r"], found["f"]
    if not isinstance(epoch, str) or type(revision) is not int or revision < 0:
        raise InvalidArgument.at("resume_token", "is not a token of this server; watch without it")
    if query != fingerprint:
        raise InvalidArgument.at("resume_token", "is of another query; watch without it")
    return ResumeToken(epoch, revision, fingerprint)

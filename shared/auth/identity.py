"""Who calls."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose token was verified, with what the role allows."""

    subject: str
    role: str
    permissions: frozenset[str] = field(default_factory=frozenset)
    token_id: str = ""
    # Seconds since 1970; None does not expire (authentication is switched off).
    expires_at: float | None = None
    # Those the caller may touch, of APIs that have them; None is all.
    namespaces: frozenset[str] | None = None

    def may(self, permission: str) -> bool:
        return permission in self.permissions


ANONYMOUS = Identity(subject="anonymous", role="none")

"""The decision: may this caller do this?

It is made before anything is looked up, so that a refusal never says what exists.
"""

from __future__ import annotations

from shared.auth.identity import Identity
from shared.auth.permissions import PUBLIC, exceeds
from shared.errors import PermissionDenied


def authorize(identity: Identity, permission: str) -> None:
    """Raises PermissionDenied, naming the permission and the caller's role, unless the caller has
    `permission`. PUBLIC lets everyone pass."""
    if permission != PUBLIC and not identity.may(permission):
        raise PermissionDenied(
            f"permission {permission!r} is needed, which role {identity.role!r} does not have",
            permission=permission,
        )


def authorize_grant(identity: Identity, role: str, permission: str) -> None:
    """Raises PermissionDenied when the caller would hand out, or take from someone, a role above
    its own. `permission` is the one of the call."""
    if exceeds(role, identity.role):
        raise PermissionDenied(
            f"role {identity.role!r} may not decide about role {role!r}", permission=permission
        )

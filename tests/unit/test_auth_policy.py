"""Roles, the decision, and the page that explains them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.auth.identity import ANONYMOUS, Identity
from shared.auth.permissions import (
    APART,
    EVERYTHING,
    GRANTS,
    PERMISSIONS,
    PUBLIC,
    ROLE_NAMES,
    ROLES,
    exceeds,
    lesser,
    permissions_of,
)
from shared.auth.policy import authorize, authorize_grant
from shared.errors import PermissionDenied

DOC = Path(__file__).parents[2] / "docs" / "security.md"


def caller(role: str) -> Identity:
    return Identity("ann", role, permissions_of(role))


def test_each_role_has_what_the_lesser_ones_have() -> None:
    assert tuple(ROLES) == ROLE_NAMES == ("viewer", "operator", "admin")
    assert ROLES["viewer"] < ROLES["operator"] < ROLES["admin"]
    assert ROLES["admin"] == GRANTS.keys()


def test_what_the_roles_are_for() -> None:
    assert {"experiments.get", "experiments.list", "admin.read", "access.signOut"} <= ROLES["viewer"]
    assert {"experiments.create", "admin.apply", "admin.delete"} <= ROLES["operator"] - ROLES["viewer"]
    assert {"tokens.create", "users.put", "audit.list", "impersonate"} <= ROLES["admin"] - ROLES["operator"]


def test_unknown_role_may_nothing() -> None:
    assert permissions_of("root") == frozenset()
    assert lesser("root", "viewer") == "root"
    assert not exceeds("root", "viewer")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("viewer", "admin", "viewer"), ("admin", "operator", "operator"), ("admin", "admin", "admin")],
)
def test_lesser_of_two_roles(one: str, other: str, expected: str) -> None:
    assert lesser(one, other) == lesser(other, one) == expected


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_decision_follows_the_table(role: str) -> None:
    for permission in GRANTS:
        if permission in ROLES[role]:
            authorize(caller(role), permission)
        else:
            with pytest.raises(PermissionDenied) as caught:
                authorize(caller(role), permission)
            assert caught.value.permission == permission
            assert permission in caught.value.message
            assert f"{role!r}" in caught.value.message


def test_public_lets_everyone_pass_and_anonymous_passes_nothing_else() -> None:
    authorize(ANONYMOUS, PUBLIC)
    for permission in GRANTS:
        with pytest.raises(PermissionDenied):
            authorize(ANONYMOUS, permission)


def test_permissions_may_be_any_text() -> None:
    permission = "services/example.com/permissions/things.get"
    authorize(Identity("ann", "custom", frozenset({permission})), permission)
    with pytest.raises(PermissionDenied, match=r"things\.get"):
        authorize(caller("admin"), permission)


@pytest.mark.parametrize("role", APART)
def test_a_role_that_stands_apart_may_exactly_its_own(role: str) -> None:
    assert permissions_of(role) == APART[role]
    for permission in EVERYTHING - APART[role]:
        with pytest.raises(PermissionDenied, match=role):
            authorize(caller(role), permission)
    for permission in APART[role]:
        authorize(caller(role), permission)


@pytest.mark.parametrize("role", APART)
@pytest.mark.parametrize("staff", ROLE_NAMES)
def test_a_role_that_stands_apart_is_neither_more_nor_made_more(role: str, staff: str) -> None:
    # A stored user of that subject can disable the token's, not widen it.
    assert lesser(role, staff) == lesser(staff, role) == role
    assert not exceeds(role, staff)
    assert exceeds(staff, role)


def test_nobody_hands_out_more_than_the_own_role() -> None:
    authorize_grant(caller("operator"), "operator", "tokens.create")
    authorize_grant(caller("operator"), "viewer", "tokens.create")
    with pytest.raises(PermissionDenied) as caught:
        authorize_grant(caller("operator"), "admin", "tokens.create")
    assert caught.value.permission == "tokens.create"


def documented_apart() -> dict[str, list[str]]:
    """The same of the table of roles that stand apart."""
    found: dict[str, list[str]] = {}
    for line in DOC.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\| `([^`]+)` \|[^|]+\| (yes| ) \| (yes| ) \|$", line)
        if match:
            ticks = zip(APART, match.groups()[1:], strict=True)
            found[match[1]] = [role for role, tick in ticks if tick == "yes"]
    return found


def documented() -> dict[str, list[str]]:
    """permission -> roles ticked, from the table of the page."""
    found: dict[str, list[str]] = {}
    for line in DOC.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\| `([^`]+)` \|[^|]+\| (yes| ) \| (yes| ) \| (yes| ) \|$", line)
        if match:
            ticks = zip(ROLE_NAMES, match.groups()[1:], strict=True)
            found[match[1]] = [role for role, tick in ticks if tick == "yes"]
    return found


def test_docs_list_every_permission_with_its_roles() -> None:
    assert documented() == {
        permission: [role for role in ROLE_NAMES if permission in ROLES[role]] for permission in GRANTS
    }


def test_docs_list_every_permission_of_roles_that_stand_apart() -> None:
    every = sorted(APART["jumpstarter.client"] | APART["jumpstarter.exporter"])
    assert documented_apart() == {
        permission: [role for role in APART if permission in APART[role]] for permission in every
    }


def test_docs_name_every_role_and_every_open_rpc() -> None:
    text = DOC.read_text(encoding="utf-8")
    assert [role for role in (*ROLE_NAMES, *APART) if f"**{role}**" not in text] == []
    public = {path.rsplit("/", 2)[1] for path, permission in PERMISSIONS.items() if permission == PUBLIC}
    assert [service for service in sorted(public) if service.split(".")[-1] not in text] == []

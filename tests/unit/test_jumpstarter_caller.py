"""Which client a user acts as."""

from __future__ import annotations

import pytest

from services.jumpstarter.api.caller import client_id
from services.jumpstarter.names import id_fault

USERS = ["ann", "Ann", "ANN", "ann@example.org", "ann-example.org", "ann.example.org", "ann-example-org"]
USERS += ["ü", "ö", "@", "", "-", "a" * 63, "a" * 64, "A" * 64, "a." * 126 + "a", "a" * 254, "a" * 255]


@pytest.mark.parametrize("user", USERS)
def test_it_is_an_id(user: str) -> None:
    assert id_fault(client_id(user)) == ""


def test_a_name_that_may_be_one_stays() -> None:
    for user in ("ann", "ann-example.org", "a" * 63):
        assert client_id(user) == user
    assert client_id("Ann@Example.org").startswith("ann-example-org-")


def test_two_users_never_share_one() -> None:
    # Those who are called like what became of another are no exception.
    users = {*USERS, *map(client_id, USERS), *(client_id(client_id(user)) for user in USERS)}
    assert len({client_id(user) for user in users}) == len(users)

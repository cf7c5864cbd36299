"""Patterns of resource names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidArgument
from shared.resource.name import Pattern

DEPLOYMENT = Pattern("regions/{region}/deployments/{deployment}", {"region": r"[a-z][a-z0-9-]{0,9}"})
ids = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=20)


@given(ids)
def test_a_name_parses_back(deployment: str) -> None:
    name = DEPLOYMENT.format(region="eu-1", deployment=deployment)
    assert DEPLOYMENT.parse(name) == {"region": "eu-1", "deployment": deployment}
    assert DEPLOYMENT.matches(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "regions",
        "regions/eu",
        "regions/eu/deployments",
        "regions/eu/deployments/",
        "regions//deployments/x",
        "regions/EU/deployments/x",
        "regions/eu/deployments/x/y",
        "/regions/eu/deployments/x",
        "regions/eu/deployment/x",
        "xregions/eu/deployments/x",
        "regions/eu/deployments/x\n/",
        "regions/eu\n/deployments/x",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert not DEPLOYMENT.matches(name)
    with pytest.raises(InvalidArgument) as caught:
        DEPLOYMENT.parse(name, parameter="parent")
    assert [violation.field for violation in caught.value.violations] == ["parent"]


def test_values_that_do_not_fit_are_refused() -> None:
    for values in (
        {"region": "EU", "deployment": "x"},
        {"region": "eu", "deployment": "x/y"},
        {"region": "eu", "deployment": ""},
    ):
        with pytest.raises(InvalidArgument):
            DEPLOYMENT.format(**values)


def test_what_stands_around_variables_is_literal() -> None:
    pattern = Pattern("a.b/{x}:y")
    assert pattern.parse("a.b/1:y") == {"x": "1"}
    assert not pattern.matches("aXb/1:y")

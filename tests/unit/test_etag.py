"""Entity tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Aborted, InvalidArgument
from shared.resource import etag


@given(st.integers(0, 2**63 - 1))
def test_a_revision_comes_back(revision: int) -> None:
    assert etag.revision(etag.etag(revision)) == revision


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "5",
        "r5",
        '"5"',
        '"r"',
        '"r5',
        'r5"',
        '"r-1"',
        '"r05"',
        '"r5"x',
        '"r\u0665"',
        'W/"r5"',
        '"r5" ',
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        etag.revision(text, parameter="experiment.etag")
    assert [violation.field for violation in caught.value.violations] == ["experiment.etag"]


def test_a_check_passes_without_one_or_with_the_current_one() -> None:
    etag.check("", 7, kind="experiment", name="a")
    etag.check(etag.etag(7), 7, kind="experiment", name="a")
    with pytest.raises(Aborted) as caught:
        etag.check(etag.etag(6), 7, kind="experiment", name="a")
    assert (caught.value.kind, caught.value.name) == ("experiment", "a")

"""Filters in words, carets, and what an edit sends: pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_ui.presenters.catalogue import label_filter
from admin_ui.presenters.filters import caret, in_words
from admin_ui.presenters.manifests import touched
from shared.errors import InvalidArgument
from shared.pb.edgelq_sdk.meta.proto.v1alpha2 import region_pb2


@pytest.mark.parametrize(
    "text,words",
    [
        ("", ""),
        (" ( ) ", ""),
        ('title = "EU West"', "title is “EU West”"),
        ('title != "a" AND is_default = TRUE', "title is not “a” and is default is true"),
        ('title = "a" domain = "b"', "title is “a” and domain is “b”"),
        (
            '(title = "a" OR domain == "b") AND NOT x > 5',
            "(title is “a” or domain is “b”) and not x is above 5",
        ),
        ('metadata.labels.env IN ("a", "b")', "label env is one of (“a”, “b”)"),
        ('name NOT IN ["a"]', "name is none of [“a”]"),
        ("metadata.labels IS NULL -- why", "labels is unset"),
        ("location IS NOT NULL", "location is set"),
        ('metadata.tags CONTAINS ANY ("x")', "tags has any of (“x”)"),
        ('title like "a%"', "title is like “a%”"),
        ('metadata.labels CONTAINS {"a": "b"}', "labels has {“a”: “b”}"),
        ('metadata.labels.a\\.b = "c"', "label a.b is “c”"),
        ("connectivity_scores.score >= 5", "connectivity scores score is at least 5"),
    ],
)
def test_a_filter_in_words(text: str, words: str):
    assert in_words(text) == words


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_words_without_end(text: str):
    assert isinstance(in_words(text), str)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\u0300"), max_size=120), st.data())
def test_the_caret_is_under_its_character(text: str, data):
    position = data.draw(st.integers(0, len(text)))
    found = caret(text, position)
    assert "\n" not in found.line and found.marker.endswith("^")
    before = text[:position].rpartition("\n")[2]
    shown = found.line.removeprefix("…") if len(before) > 32 else found.line
    # What stands before it in its line stands there, at most 32 characters of it.
    assert shown.startswith(before[-32:])
    utf16 = text.encode("utf-16-le")
    assert utf16[: found.start * 2].decode("utf-16-le") == text[:position]


@pytest.mark.parametrize(
    "key,filter",
    [
        ("env", 'metadata.labels.env = "x"'),
        ("app.kubernetes.io/name", 'metadata.labels.app\\.kubernetes\\.io/name = "x"'),
        ("1st", 'metadata.labels CONTAINS {"1st": "x"}'),
        ('a "b"', 'metadata.labels CONTAINS {"a \\"b\\"": "x"}'),
    ],
)
def test_a_labels_filter_names_any_key(key: str, filter: str):
    assert label_filter(key, "x") == filter


def test_only_what_an_edit_touches_is_sent():
    descriptor = region_pb2.Region.DESCRIPTOR
    base = {
        "name": "n",
        "title": "a",
        "location": {"city": "x", "cloud": "y"},
        "metadata": {"labels": {"a": "b"}},
    }
    assert touched(base, base, descriptor) == {}
    assert touched(base, {**base, "location": {"city": "z", "cloud": "y"}}, descriptor) == {
        "location": {"city": "z"}
    }
    # A field that is gone is emptied; a map is one value.
    gone = {"name": "n", "location": {"city": "x"}, "metadata": {"labels": {"c": "d"}}}
    assert touched(base, gone, descriptor) == {
        "title": None, "location": {"cloud": None}, "metadata": {"labels": {"c": "d"}},
    }  # fmt: skip
    # The JSON spelling is the same field.
    assert touched({"is_default": True}, {"isDefault": True}, descriptor) == {}
    with pytest.raises(InvalidArgument, match="two spellings"):
        touched({}, {"isDefault": True, "is_default": False}, descriptor)

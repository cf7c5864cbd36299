"""Canonical text: parse(text(tree)) == tree, for every tree that the dialect makes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.query.ast import Substring
from shared.query.dialects.sqlish import MAX_LIST
from shared.query.dialects.sqlish_print import text
from tests.unit.filter_samples import REGION_SAMPLE, SAMPLES, Sample, filters

REGIONS = REGION_SAMPLE.dialect


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
@settings(max_examples=90, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_text_of_a_tree_parses_to_that_tree(sample: Sample, data: st.DataObject) -> None:
    written = data.draw(filters(sample))
    node = sample.dialect.parse(written)
    canonical = text(node, sample.schema)
    assert sample.dialect.parse(canonical) == node
    assert text(sample.dialect.parse(canonical), sample.schema) == canonical


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("", ""),
        (" -- nothing\n", ""),
        ("()", ""),
        ('title="a"', 'title = "a"'),
        ('((title == "a"))', 'title = "a"'),
        ('title = "a" title = "b" + title = "c"', 'title = "a" AND title = "b" AND title = "c"'),
        ('title = "a" and (title = "b" and title = "c")', 'title = "a" AND title = "b" AND title = "c"'),
        (
            'title = "a" AND (title = "b" | title = "c") or (title = "d" title = "e")',
            'title = "a" AND (title = "b" OR title = "c") OR title = "d" AND title = "e"',
        ),
        ('NOT (title = "a" title = "b")', 'NOT (title = "a" AND title = "b")'),
        ('NOT (title = "a")', 'NOT title = "a"'),
        ("isDefault = true", "is_default = TRUE"),
        ("is-default != null", "is_default IS NOT NULL"),
        ("NOT location IS NULL", "location IS NOT NULL"),
        ("NOT isDefault IS NAN", "is_default IS NOT NAN"),
        ('NOT title IN ["a"]', 'title NOT IN ("a")'),
        ('NOT name = "regions/-"', 'name != "regions/-"'),
        ('name < "regions/-"', 'name < "regions/-"'),
        (r'metadata.labels.a\.b = "\u00e9\x41\""', r'metadata.labels.a\.b = "éA\""'),
        ("metadata.lifecycle.state = 1", 'metadata.lifecycle.state = "ACTIVE"'),
        (
            'metadata.create_time > "2024-01-01T02:00:00.500+02:00"',
            'metadata.create_time > "2024-01-01T00:00:00.500Z"',
        ),
        ('location = {"City" "Rome"}', None),
        ('location = {"city" "Rome"}', 'location = {"city": "Rome"}'),
        ('metadata.labels = {"b":"2" "a":"1"}', 'metadata.labels = {"a": "1", "b": "2"}'),
        ('metadata.labels HAS VALUE {"a":"1"}', 'metadata.labels CONTAINS "a:1"'),
        ('metadata.labels HAS {"a:b":"1"}', 'metadata.labels CONTAINS {"a:b": "1"}'),
        ('metadata.labels HAS "a"', 'metadata.labels CONTAINS "a"'),
        ('metadata.tags HAS "a" OR metadata.tags HAS "b"', 'metadata.tags CONTAINS ANY ("a", "b")'),
        (
            'title = "x" metadata.tags HAS ALL ["a", "b"]',
            'title = "x" AND metadata.tags CONTAINS ALL ("a", "b")',
        ),
        (
            'title = "x" metadata.tags HAS ANY ("a", "b")',
            'title = "x" AND metadata.tags CONTAINS ANY ("a", "b")',
        ),
        ('NOT metadata.tags HAS ANY ("a")', 'NOT metadata.tags CONTAINS "a"'),
    ],
)
def test_canonical_spellings(written: str, canonical: str | None) -> None:
    if canonical is None:
        with pytest.raises(Exception, match="no field named"):
            REGIONS.parse(written)
    else:
        assert text(REGIONS.parse(written), REGION_SAMPLE.schema) == canonical


def test_more_neighbours_than_a_list_may_have_stay_within_the_limits() -> None:
    entries = ", ".join(f'"{n}"' for n in range(MAX_LIST))
    node = REGIONS.parse(f"metadata.tags HAS ALL ({entries}) metadata.tags HAS ALL ({entries})")
    canonical = text(node, REGION_SAMPLE.schema)
    assert canonical.count("CONTAINS ALL") == 2
    assert REGIONS.parse(canonical) == node


def test_a_tree_of_another_dialect_is_refused() -> None:
    with pytest.raises(ValueError, match="no Substring"):
        text(Substring("title", "a"), REGION_SAMPLE.schema)

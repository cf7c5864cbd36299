"""LIKE: what fits, and that no pattern takes long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.query.like import matcher, split


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["abcd", "ab", "ABC", "xabc"]),
        ("%", ["", "a", "line\nbreak"], []),
        ("%%", ["", "a"], []),
        ("_", ["a", "Ä", "\n", "\U0001f600"], ["", "ab"]),
        ("a%", ["a", "ab", "a%"], ["", "ba"]),
        ("%a", ["a", "ba"], ["ab", ""]),
        ("%a%", ["a", "bab"], ["b", ""]),
        ("a%a", ["aa", "aba"], ["a"]),
        ("a%b%c", ["abc", "aXbXc", "abbcc"], ["acb", "abcd"]),
        ("a_c", ["abc", "a_c"], ["ac", "abbc"]),
        ("%_b", ["ab", "xxb"], ["b"]),
        ("%a_c%", ["aaac", "xabcx"], ["ac", "abx"]),
        ("_%_", ["ab", "abc"], ["a", ""]),
        (r"\%", ["%"], ["a", r"\%"]),
        (r"100\%%", ["100%", "100% sure"], ["1000"]),
        (r"a\_b", ["a_b"], ["axb"]),
        (r"a\\b", [r"a\b"], ["ab"]),
        (r"\a", ["a"], [r"\a"]),
        ("a\\", ["a\\"], ["a"]),
        ("a.*[b]", ["a.*[b]"], ["aXb"]),
    ],
)
def test_patterns(pattern: str, fits: list[str], does_not: list[str]) -> None:
    test = matcher(pattern)
    assert [text for text in fits if not test(text)] == []
    assert [text for text in does_not if test(text)] == []


@pytest.mark.parametrize(
    ("pattern", "fixed", "rest"),
    [
        ("", "", ""),
        ("abc", "abc", ""),
        ("abc%", "abc", "%"),
        ("ab_c%", "ab", "_c%"),
        ("%abc", "", "%abc"),
        (r"a\%b%\_", "a%b", r"%\_"),
        (r"a\\%", "a\\", "%"),
        ("a\\", "a\\", ""),
    ],
)
def test_the_text_that_a_pattern_begins_with(pattern: str, fixed: str, rest: str) -> None:
    assert split(pattern) == (fixed, rest)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(pattern=st.text("ab%_\\", max_size=10), text=st.text("ab%\\", max_size=12))
def test_it_agrees_with_the_regular_expression(pattern: str, text: str) -> None:
    regex = re.sub(
        r"(?s)\\(.)|(\\$)|(%)|(_)|([^\\%_])",
        lambda m: ".*" if m[3] else "." if m[4] else re.escape(m[1] or m[2] or m[5]),
        pattern,
    )
    assert matcher(pattern)(text) is (re.fullmatch(regex, text, re.DOTALL) is not None)


@pytest.mark.parametrize(
    "pattern",
    ["%a" * 2000, "%" + "a_" * 2000 + "b%", "%" + "a" * 4000 + "b%", "%_" * 2000 + "b", "a%" * 2000 + "b"],
)
def test_no_pattern_takes_long(pattern: str) -> None:
    text = "a" * 32_000
    test = matcher(pattern)
    began = time.process_time()
    assert test(text) is not pattern.endswith(("b", "b%"))
    assert time.process_time() - began < 10

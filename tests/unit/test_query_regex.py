"""Expressions of callers: what they find, and that none takes long."""

from __future__ import annotations

import time

import pytest

from shared.query.regex import MAX_CHARACTERS, compiled

# Against each a backtracking engine tries for years.
BOMBS = ["(a+)+$", "(a|a)*b", "(a|aa)+$", "(.*)*x", "(.*)(.*)(.*)(.*)(.*)x", "(a?){60}a{60}b"]


def test_it_finds_anywhere_and_ignores_case() -> None:
    assert compiled("b+c")("xABBCx")
    assert not compiled("^b")("ab")
    assert compiled("ä")("XÄX")
    assert compiled("")("")


@pytest.mark.parametrize("expression", BOMBS)
def test_no_expression_takes_long(expression: str) -> None:
    test, text = compiled(expression), "a" * 1024 + "!"
    began = time.process_time()
    for _ in range(10):
        test(text)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("expression", ["((a{100}){100}){10}", "(a{900}){900}", "(((a{30}){30}){30}){30}"])
def test_expressions_that_are_too_large_are_refused(expression: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=r"repetition|memory|large"):
        compiled(expression)
    assert time.process_time() - began < 0.5


def test_the_length_is_bounded() -> None:
    compiled("a" * MAX_CHARACTERS)
    with pytest.raises(ValueError, match="characters"):
        compiled("a" * (MAX_CHARACTERS + 1))


def test_what_is_no_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="Unicode"):
        compiled("\ud800")

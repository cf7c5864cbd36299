from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.storage.port import NULL, Index, Value
from shared.storage.values import decode, encode

TEXT = Index("title", "text")
INT = Index("size", "int")

texts = st.one_of(st.none(), st.just(NULL), st.text())
integers = st.one_of(st.none(), st.just(NULL), st.integers(-(2**63), 2**63 - 1))


def rank(value: Value | None) -> tuple[int, str | int]:
    if value is None:
        return (0, 0)
    return (1, 0) if value is NULL else (2, value)  # type: ignore[return-value]


@settings(deadline=None, derandomize=True)
@given(texts, texts)
def test_texts_keep_their_order(a: Value | None, b: Value | None) -> None:
    assert (str(encode(TEXT, a)) < str(encode(TEXT, b))) == (rank(a) < rank(b))
    assert decode(TEXT, encode(TEXT, a)) == a


@settings(deadline=None, derandomize=True)
@given(integers, integers)
def test_integers_keep_their_order(a: Value | None, b: Value | None) -> None:
    left, right = encode(INT, a), encode(INT, b)
    assert not isinstance(left, str) and not isinstance(right, str)
    assert (left < right) == (rank(a) < rank(b))
    assert decode(INT, left) == a


@pytest.mark.parametrize(("index", "value"), [(TEXT, 1), (INT, "1"), (TEXT, b"1"), (INT, 1.0)])
def test_another_type_is_refused_by_the_name_of_the_index(index: Index, value: object) -> None:
    with pytest.raises(TypeError, match=index.name):
        encode(index, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_an_integer_beyond_int64_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="int64"):
        encode(INT, value)
    assert encode(INT, 2**63 - 1) == 2**63 - 1

"""Page tokens: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidArgument
from shared.query.order_by import parse
from shared.query.page_token import CURSOR_KEYS, VERSION, Cursor, cursor, decode, encode, fingerprint
from shared.storage.port import NULL
from tests.unit.query_rows import SCHEMA

ORDERING = parse("title, size desc", SCHEMA)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
values = st.tuples(
    texts | st.none() | st.just(NULL), st.integers(-(2**63), 2**63 - 1) | st.none() | st.just(NULL)
)
cursors = st.builds(Cursor, values, texts, st.booleans(), st.booleans())


def sealed(payload: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()


@given(cursors)
def test_a_cursor_comes_back(given_cursor: Cursor) -> None:
    payload = decode(encode(given_cursor.payload()), CURSOR_KEYS)
    assert cursor(payload, ORDERING) == given_cursor


@given(st.text(max_size=80))
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(text, CURSOR_KEYS, parameter="resume_token")
    assert [violation.field for violation in caught.value.violations] == ["resume_token"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from(sorted(CURSOR_KEYS)), value=json_values)
def test_a_changed_token_is_refused_or_of_the_right_types(key: str, value: Any) -> None:
    payload = {"v": VERSION, **Cursor(("a", 5), "n").payload(), key: value}
    try:
        found = cursor(decode(sealed(payload), CURSOR_KEYS), ORDERING)
    except InvalidArgument as error:
        assert error.violations[0].field == "page_token"
        return
    title, size = found.values
    assert isinstance(title, str) or title in (None, NULL)
    assert type(size) is int or size in (None, NULL)
    assert type(found.name) is str
    assert type(found.backward) is type(found.inclusive) is bool


@pytest.mark.parametrize("version", [0, 2, "1", True, 1.0, None, [1]])
def test_another_version_is_refused(version: Any) -> None:
    payload = {"v": version, **Cursor(("a", 5), "n").payload()}
    with pytest.raises(InvalidArgument):
        decode(sealed(payload), CURSOR_KEYS)


def test_the_size_is_limited() -> None:
    long = sealed({"v": VERSION, **Cursor(("a" * (1 << 20), 5), "n").payload()})
    with pytest.raises(InvalidArgument):
        decode(long, CURSOR_KEYS)


def test_padding_and_both_alphabets() -> None:
    token = encode(Cursor(("\u07ff\u07ff\u07ff", 5), "???").payload())
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    with pytest.raises(InvalidArgument):
        decode(token.replace("-", "+").replace("_", "/") + "+", CURSOR_KEYS)


def test_fingerprints_tell_queries_apart() -> None:
    assert fingerprint("a", "b") == fingerprint("a", "b")
    found = {
        fingerprint(*parts)
        for parts in [("a", "b"), ("ab",), ("ab", ""), ("", "ab"), ("b", "a"), ("a\0", "b"), ()]
    }
    assert len(found) == 7

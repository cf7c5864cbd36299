"""Rows, trees and a schema to query, and hypothesis strategies of them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from shared.query.ast import And, Compare, In, Node, Not, Or, Substring
from shared.query.schema import Field, Schema
from shared.storage.port import NULL, Value

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Row:
    """A message as filters see it; None is missing, NULL null."""

    name: str
    title: Value | None = None
    size: Value | None = None
    note: Value | None = None


SCHEMA = Schema(
    (
        Field("title", "text", lambda row: row.title, indexed=True, folded=True, aliases=("heading",)),
        Field("size", "int", lambda row: row.size, indexed=True),
        Field("note", "text", lambda row: row.note, folded=True),
        Field("name", "text", lambda row: row.name),
    )
)
# Few and alike, so that values meet.
texts = st.sampled_from(
    [
        "",
        "a",
        "A",
        "ab",
        "AB",
        "b",
        "\u00df",
        "ss",
        "SS",
        "\u0130",
        "i\u0307",
        "%",
        "_",
        "\U0001f680",
        "\uffff",
        "\0",
    ]
)
numbers = st.sampled_from([-(2**63), -1, 0, 1, 2, 2**63 - 1])
absent = st.sampled_from([None, NULL])


rows = st.builds(
    Row,
    name=st.text("abc", min_size=1, max_size=3),
    title=texts | absent,
    size=numbers | absent,
    note=texts | absent,
)


def comparisons() -> st.SearchStrategy[Node]:
    text_fields = st.sampled_from(["title", "note", "name", "heading"])
    return st.one_of(
        st.builds(Compare, text_fields, st.sampled_from(OPERATORS), texts | st.just(NULL)),
        st.builds(Compare, st.just("size"), st.sampled_from(OPERATORS), numbers | st.just(NULL)),
        st.builds(In, text_fields, st.lists(texts, max_size=3).map(tuple)),
        st.builds(In, st.just("size"), st.lists(numbers, max_size=3).map(tuple)),
        st.builds(Substring, text_fields, texts),
    )


trees: st.SearchStrategy[Node] = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)

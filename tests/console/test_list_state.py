"""The query string is the list's state, whatever is in it."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_ui.list_state import MAX_TRAIL, PAGE_SIZES, STATES, ListState, pack, unpack

text = st.text(alphabet=st.characters(codec="utf-8"), max_size=30).map(str.strip)
token = st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_", min_size=1, max_size=60)


def parsed(query: str) -> ListState:
    return ListState.parse(dict(parse_qsl(query.removeprefix("?"))))


@settings(max_examples=150, deadline=None)
@given(
    q=text,
    filter=text,
    namespace=text,
    state=st.sampled_from(list(STATES)),
    size=st.sampled_from(PAGE_SIZES),
    tokens=st.lists(token, max_size=6),
)
def test_a_query_string_gives_back_the_state_that_it_was_made_of(q, filter, namespace, state, size, tokens):
    here = ListState(q=q, filter=filter, namespace=namespace, state=state, page_size=size)
    assert parsed(here.query()) == here
    for one in tokens:
        query = here.next(one)
        here = parsed(query)
        assert here.page_token == one
        assert here.query(page_token=one, trail=here.trail, page=here.page) == query


@settings(max_examples=100, deadline=None)
@given(st.lists(token, min_size=1, max_size=8, unique=True))
def test_previous_walks_back_the_way_that_next_came(tokens):
    pages = [ListState(q="x")]
    for one in tokens:
        pages.append(parsed(pages[-1].next(one)))
    for before, after in zip(reversed(pages[:-1]), reversed(pages[1:]), strict=True):
        assert parsed(after.previous()) == before
    assert [page.page for page in pages] == list(range(1, len(pages) + 1))


def test_beyond_the_trail_previous_is_the_first_page():
    here = ListState()
    for number in range(MAX_TRAIL + 30):
        here = parsed(here.next(f"t{number}"))
    assert len(here.trail) == MAX_TRAIL
    for _ in range(MAX_TRAIL - 1):
        here = parsed(here.previous())
    assert parsed(here.previous()) == ListState()


@pytest.mark.parametrize("change", [{"q": "y"}, {"state": "all"}, {"order_by": "id"}, {"page_size": 50}])
def test_another_list_starts_at_its_first_page(change):
    second = parsed(ListState(q="x").next("t"))
    assert second.replace(**change).is_first
    assert second.replace(**change).trail == ()


@pytest.mark.parametrize(
    "query",
    [
        {"page_size": "7"},
        {"page_size": "-1"},
        {"page_size": "9" * 400},
        {"page_size": "٢٠"},
        {"state": "nope"},
        {"page": "x", "trail": "x"},
        {"trail": "eJw", "page_token": ""},
    ],
)
def test_nonsense_is_the_default(query):
    assert ListState.parse(query) == ListState()


@pytest.mark.parametrize("trail", ["x", "%%%", "A" * 5000, "é", "eJw="])
def test_a_forged_trail_is_no_trail(trail):
    assert ListState.parse({"page_token": "t", "trail": trail}).trail == ()


def test_a_trail_that_unpacks_to_megabytes_is_no_trail():
    assert unpack(pack(("a" * 2_000_000,))) == ()


def test_sorting_again_turns_the_order_round():
    assert "order_by=created_at+desc" in ListState().sort("created_at", first="desc")
    assert "order_by=created_at+asc" in ListState(order_by="created_at desc").sort("created_at", first="desc")
    assert "order_by=name+desc" in ListState(order_by="name").sort("name")

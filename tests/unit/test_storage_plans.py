"""How SQLite walks: each query's plan, and that a page's cost does not grow with the table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.storage.port import Condition, Index, Kind, Operator, Order, Position, Query
from shared.storage.sqlite_driver import connect
from shared.storage.sqlite_plan import Plan, Sql, plan, plan_count, position_key
from shared.storage.sqlite_query import Piece, choose, page
from shared.storage.sqlite_schema import Table, prepare

KIND = Kind(
    "item",
    indexes=(Index("title", "text"), Index("size", "int"), Index("state", "text")),
    composites=(("state", "size"), ("parent", "size")),
    covering=("title",),
)
STATE = Condition("state", "=", "x")
SIZE = Order("size")
SIZE_DOWN = Order("size", descending=True)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "plans.sqlite"
    path.touch()
    connection = connect(path, busy_timeout=0)
    yield connection
    connection.close()


@pytest.fixture
def table(connection: sqlite3.Connection) -> Table:
    connection.execute("BEGIN")
    table = prepare(connection, [KIND]).tables["item"]
    connection.execute("COMMIT")
    return table


def explain(connection: sqlite3.Connection, sql: Sql) -> list[str]:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql.text}", sql.parameters).fetchall()
    return [row[3] for row in rows]


def fill(connection: sqlite3.Connection, table: Table, records: int) -> None:
    """Records n0.., half of them in state x, a size each, all of one title; every tenth of parent p."""
    connection.execute("BEGIN")
    connection.executemany(
        table.insert,
        (
            (f"n{i:06}", "p" if i % 10 == 0 else "", i + 1, 0, "2t", i, "2x" if i % 2 else "2y", b"{}")
            for i in range(records)
        ),
    )
    connection.execute("COMMIT")


PAGES = [
    (Query("item", after=Position((), "n5")), "by_name (name>?)"),
    (Query("item", after=Position((), "n5"), name_descending=True), "by_name (name<?)"),
    (Query("item", after=Position((), "n5"), backward=True), "by_name (name<?)"),
    (Query("item", parent="p"), "by_parent (parent=?)"),
    (Query("item", parent="p", after=Position((), "n5")), "by_parent (parent=? AND name>?)"),
    (Query("item", order=(SIZE,), after=Position((5,), "n")), "by_v1 ((v1,name)>(?,?))"),
    (
        Query("item", order=(SIZE_DOWN,), name_descending=True, after=Position((5,), "n")),
        "by_v1 ((v1,name)<(?,?))",
    ),
    (Query("item", where=(STATE,)), "by_v2 (v2=?)"),
    (Query("item", where=(STATE,), after=Position((), "n5")), "by_v2 (v2=? AND name>?)"),
    (Query("item", where=(STATE,), order=(SIZE,)), "by_v2_v1 (v2=?)"),
    (
        Query("item", where=(STATE,), order=(SIZE,), after=Position((5,), "n")),
        "by_v2_v1 (v2=? AND (v1,name)>(?,?))",
    ),
    (
        Query("item", where=(STATE, Condition("size", ">", 3)), order=(SIZE,), after=Position((5,), "n")),
        "by_v2_v1 (v2=? AND (v1,name)>(?,?))",
    ),
    (
        Query("item", where=(STATE, Condition("size", "<", 9)), order=(SIZE,), after=Position((5,), "n")),
        "by_v2_v1 (v2=? AND (v1,name)>(?,?) AND v1<?)",
    ),
    (
        Query("item", order=(Order("state"), SIZE), after=Position(("x", 5), "n")),
        "by_v2_v1 ((v2,v1,name)>(?,?,?))",
    ),
    (Query("item", where=(STATE,), order=(Order("state"), SIZE)), "by_v2_v1 (v2=?)"),
    (Query("item", parent="p", order=(SIZE,)), "by_parent_v1 (parent=?)"),
    (Query("item", where=(Condition("size", "=", 5),), order=(SIZE,)), "by_v1 (v1=?)"),
]


@pytest.mark.parametrize(("query", "index"), PAGES)
def test_pages_are_searches_in_the_order_of_an_index(
    connection: sqlite3.Connection, table: Table, query: Query, index: str
) -> None:
    walk = plan(table, query)
    assert walk.bounded
    sql = walk.page(position_key(table, query), False, 50)
    assert explain(connection, sql) == [f"SEARCH {table.versions} USING INDEX {table.versions}_{index}"]


@pytest.mark.parametrize("down", [False, True])
def test_pages_in_a_covering_order_read_nothing_but_their_index(
    connection: sqlite3.Connection, table: Table, down: bool
) -> None:
    query = Query("item", order=(Order("title", down),), name_descending=down, after=Position(("t",), "n"))
    walk, key = plan(table, query), position_key(table, query)
    assert walk.bounded
    for sql in (walk.page(key, False, 50), walk.page_then(7, key, False, 50)[0]):
        assert explain(connection, sql) == [
            f"SEARCH {table.versions} USING COVERING INDEX {table.versions}_by_v0"
            f" ((v0,name){'<' if down else '>'}(?,?))"
        ]


def test_a_first_page_walks_its_order(connection: sqlite3.Connection, table: Table) -> None:
    for query, index in [(Query("item"), "by_name"), (Query("item", order=(SIZE,)), "by_v1")]:
        sql = plan(table, query).page(None, False, 50)
        assert explain(connection, sql) == [f"SCAN {table.versions} USING INDEX {table.versions}_{index}"]


def test_point_reads_are_searches(connection: sqlite3.Connection, table: Table) -> None:
    for text, parameters in [
        (table.get, ("n",)),
        (table.current, ("n",)),
        (table.get_closed, ("n", 5)),
        (table.get_ended, ("n", 5)),
    ]:
        (line,) = explain(connection, Sql(text, parameters))
        assert line.startswith(f"SEARCH {table.versions} USING ") and "(name=?" in line


def test_past_pages_search_what_was_closed_since(connection: sqlite3.Connection, table: Table) -> None:
    query = Query("item", where=(STATE,), order=(SIZE,), after=Position((5,), "n"))
    current, closed = plan(table, query).page_then(7, position_key(table, query), False, 50)
    assert explain(connection, current)[0].startswith(f"SEARCH {table.versions} USING INDEX")
    assert explain(connection, closed)[0] == (
        f"SEARCH {table.versions} USING INDEX {table.versions}_by_until (until>?)"
    )
    # What came after that revision is passed over without being read.
    since = plan_count(table, Query("item")).count_then(7)[1]
    assert explain(connection, since)[0].startswith(f"SEARCH {table.versions} USING COVERING INDEX")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query("item", where=(STATE,)), "by_v2 (v2=?)"),
        (Query("item", parent="p"), "by_parent (parent=?)"),
        (Query("item", where=(Condition("size", ">", 3),)), "by_v1 (v1>?)"),
        (
            Query("item", where=(Condition("size", ">", 3), Condition("size", "<=", 9))),
            "by_v1 (v1>? AND v1<?)",
        ),
        (Query("item", where=(Condition("size", ">", 3), Condition("size", ">=", 3))), "by_v1 (v1>?)"),
        (Query("item", where=(Condition("state", "in", ("x", "y")),)), "by_v2 (v2=?)"),
    ],
)
def test_counts_stay_in_an_index(
    connection: sqlite3.Connection, table: Table, query: Query, index: str
) -> None:
    counting = plan_count(table, query)
    assert counting.bounded
    assert explain(connection, counting.count()) == [
        f"SEARCH {table.versions} USING COVERING INDEX {table.versions}_{index}"
    ]


def test_a_selective_condition_is_sorted_and_a_common_one_is_walked_past(
    connection: sqlite3.Connection, table: Table
) -> None:
    fill(connection, table, 5000)
    rare = Condition("size", "in", (17, 4711))
    query = Query("item", where=(rare, STATE), order=(Order("title"),))
    chosen = choose(connection, plan(table, query))
    assert chosen.path.columns == ("v1",)
    common = plan(table, replace(query, where=(STATE,)))
    assert choose(connection, common) is common
    assert common.path.columns == ("v0",)


def test_two_bounds_are_selective_together(connection: sqlite3.Connection, table: Table) -> None:
    """Either alone leaves thousands, the two a page."""
    fill(connection, table, 5000)
    bounds = (Condition("size", ">=", 2500), Condition("size", "<", 4990), Condition("size", "<", 2510))
    chosen = choose(connection, plan(table, Query("item", where=bounds)))
    assert chosen.path.columns == ("v1",)
    (line, _) = explain(connection, chosen.page(None, False, 50))
    assert line == f"SEARCH {table.versions} USING INDEX {table.versions}_by_v1 (v1>? AND v1<?)"
    sizes = connection.execute(chosen.page(None, False, 50).text, chosen.page(None, False, 50).parameters)
    assert [row[0] for row in sizes] == [f"n{size:06}" for size in range(2500, 2510)]


def test_of_bounds_on_one_side_the_closest_counts(table: Table) -> None:
    def bounds(*conditions: tuple[Operator, int]) -> list[tuple[Operator, object]]:
        where = tuple(Condition("size", operator, value) for operator, value in conditions)
        return [(r.operator, r.value) for r in plan(table, Query("item", where=where)).where]

    assert bounds((">", 1), (">", 3), (">=", 3), (">=", 2)) == [(">", 3)]
    assert bounds(("<=", 7), ("<", 9), ("<", 7), (">", 1)) == [("<", 7), (">", 1)]
    assert bounds(("<", 5), ("=", 4), ("!=", 3), ("!=", 2)) == [("<", 5), ("=", 4), ("!=", 3), ("!=", 2)]


def steps(connection: sqlite3.Connection, walk: Plan, query: Query) -> int:
    """How many hundred instructions of SQLite's machine a page of 50 takes."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    connection.set_progress_handler(count, 100)
    rows = page(connection, walk, Piece(None, position_key(walk.table, query), False, 50))
    connection.set_progress_handler(None, 100)
    assert rows is not None and len(rows) == 50
    return counted


@pytest.mark.parametrize(
    "query",
    [
        Query("item"),
        Query("item", name_descending=True, after=Position((), "n000900")),
        Query("item", parent="p"),
        Query("item", order=(SIZE_DOWN,), name_descending=True, after=Position((900,), "n000900")),
        Query("item", where=(STATE,), order=(SIZE,), after=Position((500,), "n000500")),
        Query("item", where=(STATE, Condition("size", ">", 3)), order=(SIZE,), after=Position((800,), "n")),
        Query("item", order=(Order("title"),), after=Position(("t",), "n000800")),
    ],
)
def test_a_page_costs_the_same_in_a_table_of_any_size(
    connection: sqlite3.Connection, table: Table, query: Query
) -> None:
    fill(connection, table, 1000)
    small = steps(connection, plan(table, query), query)
    connection.execute(f"DELETE FROM {table.versions}")
    fill(connection, table, 20_000)
    assert steps(connection, plan(table, query), query) <= small + 1

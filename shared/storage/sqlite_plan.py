"""How a query becomes SQL: which index it walks, and the predicate behind a position.

A walk over an index in the query's own order costs what it yields, whatever the table's size. Where
no index has that order, or conditions are left that the index cannot narrow, the reader first looks
whether one of the conditions is selective (`Plan.probes`) and then sorts what it leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shared.storage.port import Condition, Operator, Query
from shared.storage.rules import index_of
from shared.storage.sqlite_schema import Path, Table
from shared.storage.values import Encoded, encode

Key = tuple[Encoded, ...]
_MANY = 500
_BOUNDS: tuple[Operator, ...] = ("<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL with its parameters."""

    text: str
    parameters: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Term:
    """One column of a query's total order."""

    column: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Restriction:
    """One condition: its column, its operator, the stored value it compares with if it is one, and
    itself as SQL."""

    column: str
    operator: Operator
    value: Encoded | None
    sql: Sql


@dataclass(frozen=True, slots=True)
class Plan:
    """A query over one table. `path` is the index to walk; `ordered` says that it yields the query's
    order; `bounded` that every entry it meets is also wanted, so that a page costs a page."""

    table: Table
    terms: tuple[Term, ...]  # the total order, name last, in walking direction
    where: tuple[Restriction, ...]
    probes: tuple[tuple[Path, Sql], ...]
    constants: Mapping[str, Encoded]
    path: Path
    ordered: bool
    bounded: bool

    def columns(self) -> str:
        order = "".join(f", {term.column}" for term in self.terms[:-1])
        return f"name, parent, revision, previous, body{order}"

    def page(self, after: Key | None, inclusive: bool, limit: int) -> Sql:
        """The current records behind a position."""
        return self._page(self.path.name, self._current(), after, inclusive, limit)

    def page_then(self, at: int, after: Key | None, inclusive: bool, limit: int) -> tuple[Sql, Sql]:
        """The records of revision `at` behind a position, in two parts that the caller merges: those
        that are still current, and those that were closed since."""
        past = Sql("revision <= ?", (at,))
        return (
            self._page(self.path.name, (*self._current(), past), after, inclusive, limit),
            self._page(self.table.by_closed, (Sql("until > ?", (at,)), past), after, inclusive, limit),
        )

    def count(self) -> Sql:
        return self._count(self.path.name, self._current())

    def count_then(self, at: int) -> tuple[Sql, Sql]:
        """Two parts of the count at revision `at`, to be added."""
        past = Sql("revision <= ?", (at,))
        return (
            self._count(self.path.name, (*self._current(), past)),
            self._count(self.table.by_closed, (Sql("until > ?", (at,)), past)),
        )

    def tally(self, columns: Sequence[str]) -> Sql:
        """The current records counted by their values of `columns`."""
        condition = _all((*self._current(), *(restriction.sql for restriction in self.where)))
        listed = ", ".join(columns)
        text = (
            f"SELECT {listed}, count(*) FROM {self.table.versions} INDEXED BY {self.path.name}"
            f" WHERE {condition.text} GROUP BY {listed}"
        )
        return Sql(text, condition.parameters)

    def count_at_most(self, limit: int) -> Sql:
        return self._at_most(self.path, tuple(r.sql for r in self.where), limit)

    def probe(self, path: Path, condition: Sql, limit: int) -> Sql:
        """How many open versions a single condition leaves, counted up to `limit`."""
        return self._at_most(path, (condition,), limit)

    def by(self, path: Path) -> Plan:
        """The same query through another index, sorting what it leaves."""
        return replace(self, path=path, ordered=False, bounded=False)

    def _current(self) -> tuple[Sql, ...]:
        return _current(self.path)

    def _page(
        self, index: str, versions: tuple[Sql, ...], after: Key | None, inclusive: bool, limit: int
    ) -> Sql:
        condition = _all((*versions, *self._behind(after, inclusive)))
        order = ", ".join(
            f"{term.column} DESC" if term.descending else term.column
            for term in self.terms
            if term.column not in self.constants
        )
        return Sql(
            f"SELECT {self.columns()} FROM {self.table.versions} INDEXED BY {index}"
            f" WHERE {condition.text} ORDER BY {order} LIMIT ?",
            (*condition.parameters, limit),
        )

    def _behind(self, after: Key | None, inclusive: bool) -> list[Sql]:
        """The conditions of a page that starts behind a position. An index has one start: where both
        the position and a condition give one, the weaker of the two is left out."""
        conditions = [restriction.sql for restriction in self.where]
        if after is None:
            return conditions
        free, inclusive = _undecided(self.terms, after, inclusive, self.constants)
        if not free:
            # As a parameter: a plan for nothing at all has no use for the index that it is told to use.
            return [*conditions, Sql("?", (int(inclusive),))]
        term, value = free[0]
        starts = ("<", "<=") if term.descending else (">", ">=")
        implied = []
        for restriction in self.where:
            if restriction.column == term.column and restriction.operator in starts:
                assert restriction.value is not None
                ahead = compare_encoded(value, restriction.value) * (-1 if term.descending else 1)
                if ahead < 0 or (ahead == 0 and restriction.operator in ("<", ">")):
                    return conditions
                implied.append(restriction.sql)
        return [*(sql for sql in conditions if sql not in implied), _compared(free, inclusive)]

    def _count(self, index: str, versions: tuple[Sql, ...]) -> Sql:
        condition = _all((*versions, *(restriction.sql for restriction in self.where)))
        text = f"SELECT count(*) FROM {self.table.versions} INDEXED BY {index} WHERE {condition.text}"
        return Sql(text, condition.parameters)

    def _at_most(self, path: Path, where: tuple[Sql, ...], limit: int) -> Sql:
        condition = _all((*_current(path), *where))
        inner = f"SELECT 1 FROM {self.table.versions} INDEXED BY {path.name} WHERE {condition.text} LIMIT ?"
        return Sql(f"SELECT count(*) FROM ({inner})", (*condition.parameters, limit))


def _current(path: Path) -> tuple[Sql, ...]:
    """What holds of everything that an index covers."""
    return (Sql("until IS NULL"), Sql(path.also)) if path.also else (Sql("until IS NULL"),)


def plan(table: Table, query: Query) -> Plan:
    """The cheapest way to walk `query`, as far as its shape tells."""
    terms = tuple(Term(table.columns[o.index], o.descending != query.backward) for o in query.order)
    terms += (Term("name", query.name_descending != query.backward),)
    where = _closest([_restriction(table, condition) for condition in query.where])
    if query.parent is not None:
        where.append(Restriction("parent", "=", query.parent, Sql("parent = ?", (query.parent,))))
    constants = {r.column: r.value for r in reversed(where) if r.operator == "=" and r.value is not None}
    free = tuple(term for term in terms[:-1] if term.column not in constants)
    path = _serving(table, constants, tuple(term.column for term in free))
    ordered = path is not None and len({term.descending for term in (*free, terms[-1])}) == 1
    return Plan(
        table=table,
        terms=terms,
        where=tuple(where),
        probes=tuple(_probes(table, where)),
        constants=constants,
        path=path or _leading(table, free),
        ordered=ordered,
        bounded=ordered and path is not None and _narrows(path, len(free), where),
    )


def plan_count(table: Table, query: Query) -> Plan:
    """The cheapest way to count what `query` matches: its order and position do not matter."""
    counted = plan(table, replace(query, order=(), after=None, limit=None))
    if not counted.bounded and not counted.path.columns and counted.probes:
        return replace(counted, path=counted.probes[0][0], bounded=_is_range(counted.where))
    return counted


def plan_tally(table: Table, query: Query, by: Sequence[str]) -> Plan:
    """The cheapest way to count by groups: an index that holds all columns in question, in the order
    of the groups, else as `plan_count` does."""
    counted = plan_count(table, query)
    columns = tuple(table.columns[name] for name in by)
    asked = {*columns, *(restriction.column for restriction in counted.where)}
    pinned = counted.constants.keys()
    for path in table.paths:
        ordered = tuple(column for column in path.columns if column not in pinned or column in columns)
        if asked <= set(path.columns) and ordered[: len(columns)] == columns and not path.also:
            return counted.by(path)
    return counted


def _closest(where: list[Restriction]) -> list[Restriction]:
    """`where` without the bounds that a closer one on the same side of the column implies."""
    kept: dict[object, Restriction] = {}
    for number, restriction in enumerate(where):
        side = restriction.operator[0] if restriction.operator in _BOUNDS else None
        place = (restriction.column, side) if side else number
        known = kept.get(place)
        if known is None or _is_closer(restriction, known):
            kept[place] = restriction
    return list(kept.values())


def _is_closer(one: Restriction, other: Restriction) -> bool:
    """Of two bounds on the same side of a column."""
    assert one.value is not None and other.value is not None
    order = compare_encoded(one.value, other.value)
    if order == 0:
        return len(one.operator) < len(other.operator)
    return (order > 0) == (one.operator[0] == ">")


def _probes(table: Table, where: list[Restriction]) -> Iterator[tuple[Path, Sql]]:
    """Each index of a single column with the conditions that it can narrow to: one, or two bounds."""
    paths = {path.columns[0]: path for path in table.paths if len(path.columns) == 1}
    bounds: dict[str, list[Sql]] = {}
    for restriction in where:
        if restriction.operator in _BOUNDS:
            bounds.setdefault(restriction.column, []).append(restriction.sql)
        elif _has_index(restriction):
            yield paths[restriction.column], restriction.sql
    for column, found in bounds.items():
        yield paths[column], _all(tuple(found))


def _is_range(where: tuple[Restriction, ...]) -> bool:
    """Whether a walk of one column's index meets what all of `where` wants and nothing else."""
    one_column = len({restriction.column for restriction in where}) == 1
    return len(where) == 1 or (one_column and all(r.operator in _BOUNDS for r in where))


def _has_index(restriction: Restriction) -> bool:
    return restriction.operator in ("=", "in") and (restriction.column, restriction.value) != (
        "parent",
        "",
    )


def _serving(table: Table, constants: Mapping[str, Encoded], order: tuple[str, ...]) -> Path | None:
    """The index whose columns are pinned ones, as many as can be, and then the order's."""
    best: Path | None = None
    for path in table.paths:
        pinned = len(path.columns) - len(order)
        if pinned < 0 or path.columns[pinned:] != order or (path.also and not constants.get("parent")):
            continue
        if set(path.columns[:pinned]) <= constants.keys() and (
            best is None or len(path.columns) > len(best.columns)
        ):
            best = path
    return best


def _leading(table: Table, free: tuple[Term, ...]) -> Path:
    """The index of the order's first column: what is left to sort are runs of equal values."""
    return next(path for path in table.paths if path.columns == tuple(t.column for t in free[:1]))


def _narrows(path: Path, ordered: int, where: list[Restriction]) -> bool:
    """Whether a walk of `path` meets only what all conditions want: those of its pinned columns, and
    at most one bound on either side of the first column of the order."""
    pinned = path.columns[: len(path.columns) - ordered]
    allowed = [("=",), ("<", "<="), (">", ">=")]
    taken = set()
    for restriction in where:
        side = next((i for i, operators in enumerate(allowed) if restriction.operator in operators), None)
        place = (restriction.column, side)
        in_order = side != 0 and restriction.column in path.columns[len(pinned) :][:1]
        if side is None or place in taken or not (in_order or (side == 0 and restriction.column in pinned)):
            return False
        taken.add(place)
    return True


def _restriction(table: Table, condition: Condition) -> Restriction:
    index, column = index_of(table.kind, condition.index), table.columns[condition.index]
    value, operator = condition.value, condition.operator
    if isinstance(value, tuple):
        return Restriction(column, operator, None, _member(column, [encode(index, one) for one in value]))
    if operator == "contains":
        # The first byte of a stored text tells its sort; the search is of bytes, so that a NUL is one too.
        text = f"({column} >= '2' AND instr(substr(CAST({column} AS BLOB), 2), ?) > 0)"
        return Restriction(column, operator, None, Sql(text, (str(value).encode(),)))
    stored = encode(index, value)
    text = f"{column} {'<>' if operator == '!=' else operator} ?"
    return Restriction(column, operator, stored, Sql(text, (stored,)))


def _member(column: str, values: list[Encoded]) -> Sql:
    if len(values) <= _MANY:
        # Nothing is in a list of NULL; an empty list has no plan.
        return Sql(f"{column} IN ({', '.join('?' * len(values)) or 'NULL'})", tuple(values))
    # More than a statement has parameters for. JSON has no infinity, and SQLite's stops at a NUL.
    others = [value for value in values if isinstance(value, float) or "\0" in str(value)]
    listed = json.dumps([value for value in values if value not in others])
    text = f"({column} IN (SELECT value FROM json_each(?))" + f" OR {column} = ?" * len(others) + ")"
    return Sql(text, (listed, *others))


def _undecided(
    terms: tuple[Term, ...], after: Key, inclusive: bool, constants: Mapping[str, Encoded]
) -> tuple[list[tuple[Term, Encoded]], bool]:
    """What is left of a position to compare with, and whether equality will then do: a column that the
    conditions pin decides for all rows that equal the position so far, unless it equals it too."""
    free: list[tuple[Term, Encoded]] = []
    for term, value in zip(terms, after, strict=True):
        if term.column not in constants:
            free.append((term, value))
        elif order := compare_encoded(constants[term.column], value) * (-1 if term.descending else 1):
            return free, order > 0
    return free, inclusive


def _compared(free: list[tuple[Term, Encoded]], inclusive: bool) -> Sql:
    """The rows behind a position, or at it."""
    if len({term.descending for term, _ in free}) > 1:
        return _lexicographic(free, inclusive)
    columns, values = ", ".join(term.column for term, _ in free), tuple(value for _, value in free)
    operator = ("<" if free[0][0].descending else ">") + ("=" if inclusive else "")
    if len(free) == 1:
        return Sql(f"{columns} {operator} ?", values)
    return Sql(f"({columns}) {operator} ({', '.join('?' * len(free))})", values)


def _lexicographic(free: list[tuple[Term, Encoded]], inclusive: bool) -> Sql:
    """A mixed order has no row comparison: spelt out, with a first part that an index can use."""
    (term, value), rest = free[0], free[1:]
    operator = "<" if term.descending else ">"
    if not rest:
        return Sql(f"{term.column} {operator}{'=' if inclusive else ''} ?", (value,))
    inner = _lexicographic(rest, inclusive)
    text = f"({term.column} {operator}= ? AND ({term.column} {operator} ? OR {inner.text}))"
    return Sql(text, (value, value, *inner.parameters))


def compare_encoded(a: Encoded, b: Encoded) -> int:
    """The order of two stored values of one index, or of two names."""
    if isinstance(a, str) or isinstance(b, str):
        left, right = str(a), str(b)
        return (left > right) - (left < right)
    return (a > b) - (a < b)


def compare_keys(terms: tuple[Term, ...]) -> Callable[[Key, Key], int]:
    """The order of `terms` as a comparison of their values."""

    def compare(a: Key, b: Key) -> int:
        for term, left, right in zip(terms, a, b, strict=True):
            order = compare_encoded(left, right)
            if order:
                return -order if term.descending else order
        return 0

    return compare


def _all(conditions: tuple[Sql, ...]) -> Sql:
    text = " AND ".join(condition.text for condition in conditions)
    return Sql(text, tuple(p for condition in conditions for p in condition.parameters))


def position_key(table: Table, query: Query) -> Key | None:
    """The encoded position that `query` starts behind."""
    if query.after is None:
        return None
    pairs = zip(query.order, query.after.values, strict=True)
    return (*(encode(index_of(table.kind, order.index), value) for order, value in pairs), query.after.name)

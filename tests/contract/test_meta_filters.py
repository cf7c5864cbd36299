"""The filter language over real sockets: every rule of it in lists, in both watches and negated, on
every backend (docs/filters.md; meta contract, section 8)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
import pytest_asyncio

from tests.contract.meta_filter_rules import APPLIED, NOTHING, RULES, SHORT, WRONG
from tests.contract.meta_yard import BACKENDS, Clock, Yard, opened, told

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("meta-filters")]
STATEFUL, STATELESS = 0, 1
PARENTS = {"deployment": {"parent": "regions/-"}, "resource": {"parent": "services/-"}}
_TIME = re.compile(r"\{(\w\w)(?:\+(\d))?\}")


class Filled:
    """A yard with the catalogue of the rules in it. `slow`: calls take long enough to ask less."""

    def __init__(self, yard: Yard, slow: bool) -> None:
        self.yard = yard
        self.slow = slow
        self._times: dict[str, datetime] = {}

    async def fill(self, clock: Clock) -> None:
        clock.now = clock.now // 10**9 * 10**9
        for name, lists in APPLIED.items():
            clock.advance(10)
            await self.yard.apply(**lists)
            self._times[name] = datetime.fromtimestamp(clock.now // 10**9, UTC)

    def text(self, filter: str) -> str:
        """With the times filled in: `{eu+2}` is that of eu, two hours east of Greenwich."""

        def time(match: re.Match[str]) -> str:
            zone = timezone(timedelta(hours=int(match[2] or 0)))
            return self._times[match[1]].astimezone(zone).isoformat()

        return _TIME.sub(time, filter)

    async def listed(self, kind: str, filter: str) -> str:
        found = await self.yard.names(kind, filter=filter, **PARENTS.get(kind, {}))
        return shortened(kind, found)

    async def watched(self, kind: str, filter: str, type: int) -> str:
        async with self.yard.watch(kind, filter=filter, type=type, **PARENTS.get(kind, {})) as stream:
            return shortened(kind, [told(change)[1] for change in await stream.changes()])


def shortened(kind: str, names: list[str]) -> str:
    by_name = {name: short for short, name in SHORT[kind].items()}
    return " ".join(sorted(by_name[name] for name in names))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Filled]:
    clock = Clock()
    async with opened(tmp_path_factory.mktemp("meta"), request.param, clock=clock) as yard:
        found = Filled(yard, request.param == "wire")
        await found.fill(clock)
        yield found


@pytest.mark.parametrize("rule", RULES)
async def test_what_a_filter_selects(filled: Filled, rule: str) -> None:
    """In lists; in snapshots, of which NOT selects exactly the others; in pages that are watched."""
    for kind, cases in RULES[rule].items():
        for number, (written, expected) in enumerate(cases):
            text = filled.text(written)
            assert await filled.listed(kind, text) == expected, text
            if number < 2:
                assert await filled.watched(kind, text, STATEFUL) == expected, text
                assert await filled.watched(kind, text, STATELESS) == expected, text
            if rule != NOTHING and (number < 2 or not filled.slow):
                others = " ".join(sorted(set(SHORT[kind]) - set(expected.split())))
                assert await filled.watched(kind, f"NOT ({text}\n)", STATELESS) == others, text


async def test_what_is_no_filter_is_pointed_at_before_anything_is_sent(filled: Filled) -> None:
    for marked in WRONG:
        text = marked.replace("^", "", 1)
        for verb, fields in (
            ("List", {}),
            ("WatchMany", {"type": STATEFUL}),
            ("WatchMany", {"type": STATELESS}),
        ):
            failure = await filled.yard.refused("region", verb, "filter", filter=text, **fields)
            assert failure.info["position"] == str(marked.index("^")), text[:60]
            assert f"at position {marked.index('^')}" in failure.message


async def test_how_long_and_how_large_a_filter_may_be(filled: Filled) -> None:
    """What the first that is refused is one more than."""
    for text in (
        "(" * 32 + 'title = ""' + ")" * 32,
        'title = "" ' * 200,
        "title IN (" + '"",' * 99 + '"")',
        'title = ""' + " " * 8182,
    ):
        assert await filled.listed("region", text) == "jp", text[:40]

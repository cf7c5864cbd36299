"""(e) A page of 50 regions costs the same among a thousand and among a million, in the orders that the
store keeps: the target is that the million's costs 1.3 times the thousand's at most.

Pages begin at regions that are drawn from all, the same draws in every run. None is asked for twice
between two changes, and what was turned into JSON before is pushed out: nothing comes from memory. The
file, however, does: it is read through first, for a machine may keep little of what it read before, and
what a disk costs is not asked here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import meta_requests, meta_seed, processes
from bench.processes import Server
from bench.rounds import Result, Sample, measured, result

_FEW: Final = 1_000
_MANY: Final = 1_000_000
_MANY_QUICK: Final = 100_000
_PAGES: Final = 800
_SLICE: Final = 80
_MOST: Final = 1.3


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    many = _MANY if scale >= 1 else _MANY_QUICK
    with ExitStack() as stack:
        sides: dict[int, _Side] = {}
        note = ""
        for total in (_FEW, many):
            place = folder / str(total)
            place.mkdir(parents=True)
            started = time.perf_counter()
            meta_seed.meta(place, total)
            note = f"{total:,} regions stored in {time.perf_counter() - started:.0f} s"
            sides[total] = _Side(stack.enter_context(processes.service("meta", place)), place)
        for order in ("name asc", "name desc", "title asc", "title desc"):
            draw = random.Random(order)
            count = max(_SLICE, int(_PAGES * scale))
            _round(sides, order, draw, count)  # warm
            rounds_of = [_round(sides, order, draw, count) for _ in range(rounds)]
            yield result(
                "e",
                f"1,000 regions, order_by {order}",
                f"{many:,} regions",
                [found[_FEW] for found in rounds_of],
                [found[many] for found in rounds_of],
                most=_MOST,
                note=note,
            )
            note = ""


def _round(sides: Mapping[int, _Side], order: str, draw: random.Random, count: int) -> dict[int, Sample]:
    """`count` full pages of each side, none twice since its last write, in slices by turns: what else
    the machine does changes within a second, and both are to feel it."""
    pages = {total: side.prepared(order, draw, count, total) for total, side in sides.items()}
    found = {total: Sample(0, 0.0, 0.0) for total in sides}
    for start in range(0, count, _SLICE):
        turn = start // _SLICE % 2
        for total in list(sides)[:: -1 if turn else 1]:
            taken, sample = sides[total].read(pages[total][start : start + _SLICE], order), found[total]
            found[total] = Sample(
                sample.requests + taken.requests, sample.seconds + taken.seconds, sample.cpu + taken.cpu
            )
    return found


@dataclass(frozen=True)
class _Side:
    """A service over regions of one number."""

    server: Server
    folder: Path

    @property
    def _token(self) -> str:
        return (self.folder / "operator.token").read_text().strip()

    def prepared(self, order: str, draw: random.Random, count: int, total: int) -> list[str]:
        """Tokens of `count` pages, of which nothing is in memory but the file."""
        numbers = draw.sample(_inner(order, total), count)
        tokens = meta_requests.tokens(self.server, self._token, order, numbers, total)
        meta_requests.forget(self.server, self._token)
        _read_through(self.folder / "meta.db")
        return tokens

    def read(self, tokens: Sequence[str], order: str) -> Sample:
        read = partial(meta_requests.pages, self.server, self._token, tokens, order)
        return measured(self.server, len(tokens), read)


def _read_through(file: Path) -> None:
    """The system then holds all of it."""
    with file.open("rb") as opened:
        while opened.read(1 << 20):
            pass


def _inner(order: str, total: int) -> Sequence[int]:
    """Regions with a full page behind them, whichever the direction."""
    edge = meta_requests.PAGE + 1
    if order.startswith("name"):
        return range(edge, total - edge)
    return [n for n in range(total) if edge <= meta_seed.place(n, total) < total - edge]

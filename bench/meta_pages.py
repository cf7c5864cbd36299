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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from bench import meta_requests, meta_seed, processes
from bench.processes import Server
from bench.rounds import Result, Sample, interleaved, measured, result

_FEW: Final = 1_000
_MANY: Final = 1_000_000
_MANY_QUICK: Final = 100_000
_PAGES: Final = 600
_MOST: Final = 1.3


def run(folder: Path, *, rounds: int, scale: float) -> Iterator[Result]:
    """Results, as they come."""
    many = _MANY if scale >= 1 else _MANY_QUICK
    with ExitStack() as stack:
        sides: dict[int, tuple[Server, Path]] = {}
        note = ""
        for total in (_FEW, many):
            place = folder / str(total)
            place.mkdir(parents=True)
            started = time.perf_counter()
            meta_seed.meta(place, total)
            note = f"{total:,} regions stored in {time.perf_counter() - started:.0f} s"
            sides[total] = stack.enter_context(processes.service("meta", place)), place
        for order in ("name asc", "name desc", "title asc", "title desc"):
            draw = random.Random(order)
            count = max(100, int(_PAGES * scale))
            runs: dict[str, Callable[[], Sample]] = {
                str(total): partial(_pages, server, place, order, draw, count, total)
                for total, (server, place) in sides.items()
            }
            interleaved(runs, 1)  # warm
            samples = interleaved(runs, rounds)
            yield result(
                "e",
                f"1,000 regions, order_by {order}",
                f"{many:,} regions",
                samples[str(_FEW)],
                samples[str(many)],
                most=_MOST,
                note=note,
            )
            note = ""


def _pages(server: Server, place: Path, order: str, draw: random.Random, count: int, total: int) -> Sample:
    """`count` full pages, none twice since the last write."""
    token = (place / "operator.token").read_text().strip()
    left, seconds, cpu = count, 0.0, 0.0
    while left:
        chosen = min(left, _FEW // 2)
        numbers = draw.sample(_inner(order, total), chosen)
        tokens = meta_requests.tokens(server, token, order, numbers, total)
        meta_requests.forget(server, token)
        _read_through(place / "meta.db")
        sample = measured(server, chosen, partial(meta_requests.pages, server, token, tokens, order))
        left, seconds, cpu = left - chosen, seconds + sample.seconds, cpu + sample.cpu
    return Sample(count, seconds, cpu)


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

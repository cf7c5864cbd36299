"""What the runs found, as a table for people and JSON for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from bench.rounds import Result

TITLES: Final = {
    "a": "(a) Reads, beside a handler that answers ready bytes (requests per second of server CPU)",
    "b": "(b) Beside MLflow's tracking server on SQLite (requests per second, 8 connections)",
    "c": "(c) Durable creates from 64 callers (per second, synchronous=FULL)",
    "d": "(d) The catalogue: reads, beside a handler of ready bytes (requests per second of server CPU)",
    "e": "(e) The catalogue: pages of 50 from few and from many regions (pages per second of server CPU)",
    "f": "(f) The catalogue: filters pushed down to the store, or not (pages per second)",
    "g": "(g) The catalogue: watch fan-out, beside etcd",
    "h": "(h) The catalogue: a snapshot of 10,000 regions (records per second)",
    "i": "(i) Jumpstarter's router, beside a relay that only copies",
    "j": "(j) Jumpstarter's leases: large labs beside small ones (per second of server CPU, or by the clock)",
    "k": "(k) Pods on the process runtime, beside a bare loop of launches (per second)",
    "l": "(l) Pods: exports beside loops that stream ready bytes, queries beside the export of all, feeds",
    "m": "(m) Jobs of Peloton's own benchmarks, beside their commits alone (per second of server CPU)",
}
_COLUMNS: Final = ("what", "against", "ours", "theirs", "min", "median", "max", "target", "")


def table(results: Sequence[Result]) -> str:
    """Aligned text, one block a section."""
    lines: list[str] = []
    for section in dict.fromkeys(found.section for found in results):
        rows = [_COLUMNS, *(_row(found) for found in results if found.section == section)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        lines += ["", TITLES[section]]
        for row in rows:
            cells = [
                cell.ljust(width) if i < 2 or i == 8 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(found: Result) -> tuple[str, ...]:
    ratio = found.ratio
    target = f">= {found.least:g}" if found.least is not None else ""
    if found.most is not None:
        target = f"<= {found.most:g}"
    return (
        found.what,
        found.against,
        _number(found.ours),
        _number(found.theirs),
        _number(ratio.low),
        _number(ratio.median),
        _number(ratio.high),
        target,
        f"{found.verdict:5}  {found.note}",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def summary(results: Sequence[Result]) -> str:
    """What falls short of its target, by name."""
    judged = [found for found in results if found.verdict]
    if not judged:
        return "Nothing here has a target."
    short = [found for found in judged if found.verdict == "SHORT"]
    if not short:
        return f"All {len(judged)} targets are met."
    lines = [f"{len(short)} of {len(judged)} targets are missed:"]
    for found in short:
        target = f"{found.least:g} at least" if found.least is not None else f"{found.most:g} at most"
        lines.append(f"  {found.what}: {_number(found.ratio.median)}, wanted {target}")
    return "\n".join(lines)


def document(results: Sequence[Result], facts: Mapping[str, str], taken: str) -> dict[str, Any]:
    """For a file: everything that was measured and what it was measured on."""
    rows = [{**asdict(found), "verdict": found.verdict} for found in results]
    return {"taken": taken, "machine": dict(facts), "results": rows}

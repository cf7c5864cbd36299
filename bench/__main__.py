"""python -m bench [--quick] [--only a,b,c] [--rounds N] [--save]"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson

from bench import (
    durable,
    etcd,
    h2load,
    jobs_launch,
    jobs_scale,
    leases,
    machine,
    meta_filters,
    meta_pages,
    meta_reads,
    meta_snapshot,
    meta_watch,
    mlflow,
    pods,
    report,
    router,
    transports,
)
from bench.client import BadAnswer
from bench.processes import ROOT, NotStarted
from bench.rounds import Result

CACHE: Final = ROOT / ".cache" / "bench"
Run = Callable[..., Iterator[Result]]
SECTIONS: Final[dict[str, Run]] = {
    "a": transports.run,
    "b": mlflow.run,
    "c": durable.run,
    "d": meta_reads.run,
    "e": meta_pages.run,
    "f": meta_filters.run,
    "g": meta_watch.run,
    "h": meta_snapshot.run,
    "i": router.run,
    "j": leases.run,
    "k": jobs_launch.run,
    "l": pods.run,
    "m": jobs_scale.run,
}
GROUPS: Final = {
    "pipelines": ("a", "b", "c"),
    "meta": ("d", "e", "f", "g", "h"),
    "jumpstarter": ("i", "j"),
    "jobs": ("k", "m"),
    "pods": ("l",),
}
# Sections that load servers with h2load.
_LOADED: Final = ("a", "d")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: one round of few requests, no MLflow"
    )
    parser.add_argument(
        "--only",
        default="",
        help="comma-separated sections: a transports, b MLflow, c writes (together: pipelines); d reads, "
        "e pages, f push-down, g watches, h snapshot (together: meta); i router, j leases (together: "
        "jumpstarter); k launches, m sizes (together: jobs); l pods (pods)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of each comparison (5)")
    parser.add_argument("--save", action="store_true", help="also write bench/results-<date>.json")
    return parser.parse_args()


def main() -> int:
    """0 when everything was measured, whether or not it meets its target; 1 when something could
    not be."""
    arguments = _arguments()
    named = [name for name in arguments.only.split(",") if name]
    wanted = [section for name in named for section in GROUPS.get(name, (name,))] or list(SECTIONS)
    if unknown := set(wanted) - SECTIONS.keys():
        sys.exit(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if arguments.quick and not arguments.only:
        wanted.remove("b")
    missing = []
    if not h2load.installed() and not set(_LOADED).isdisjoint(wanted):
        missing.append(h2load.HINT)
        wanted = [name for name in wanted if name not in _LOADED]
    if not etcd.installed() and "g" in wanted:
        missing.append(etcd.HINT)
    results: list[Result] = []
    failed = False
    rounds, scale = (1, 0.1) if arguments.quick else (arguments.rounds, 1.0)
    facts = machine.facts()
    server, load = machine.cores()
    print(*(f"{key}: {value}" for key, value in facts.items()), sep="\n")
    print(
        f"servers on core {server}, load on core {load}"
        if server != load
        else "one core for everything: expect noise"
    )
    machine.pin(load)
    started = time.monotonic()
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    try:
        for name in wanted:
            print(f"\n{report.TITLES[name]} ...", flush=True)
            try:
                for found in SECTIONS[name](folder / name, rounds=rounds, scale=scale):
                    results.append(found)
                    print(f"  {found.what}: {found.ratio.median:.2f} {found.verdict}", flush=True)
            except (NotStarted, BadAnswer, h2load.LoadFailed) as error:
                failed = True
                print(f"section {name} broke off: {error}", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report.table(results))
    print(f"\n{report.summary(results)} {time.monotonic() - started:.0f} s.")
    print(*missing, sep="\n")
    if arguments.save:
        taken = datetime.now(UTC)
        path = ROOT / "bench" / f"results-{taken:%Y-%m-%d}.json"
        path.write_bytes(
            orjson.dumps(report.document(results, facts, taken.isoformat()), option=orjson.OPT_INDENT_2)
        )
        print(f"written to {path.relative_to(ROOT)}")
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())

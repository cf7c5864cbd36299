"""The bench judges as it says, and its client believes no failure."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from bench import client, machine, report
from bench.rounds import Result, Sample, interleaved, result


def samples(*rates: float) -> list[Sample]:
    """One a rate, by CPU; by the clock ten times less."""
    return [Sample(1000, 10_000 / rate, 1000 / rate) for rate in rates]


def test_ratios_are_of_each_round_and_the_median_is_judged() -> None:
    found = result("a", "x", "y", samples(50, 90, 60), samples(100, 100, 120), least=0.6)
    assert (found.ratio.low, found.ratio.median, found.ratio.high) == pytest.approx((0.5, 0.5, 0.9))
    assert (found.ours, found.theirs) == pytest.approx((60, 100))
    assert found.verdict == "SHORT"
    assert result("a", "x", "y", samples(50), samples(100), least=0.5).verdict == "ok"
    assert result("a", "x", "y", samples(50), samples(100), most=0.4).verdict == "SHORT"
    assert result("a", "x", "y", samples(50), samples(100)).verdict == ""


def test_by_the_clock() -> None:
    found = result("a", "x", "y", samples(50), samples(100), wall=True)
    assert (found.ours, found.theirs) == pytest.approx((5, 10))


def test_both_sides_take_turns_in_going_first() -> None:
    order: list[str] = []

    def side(name: str) -> Sample:
        order.append(name)
        return Sample(1, 1.0, 1.0)

    found = interleaved({"ours": lambda: side("ours"), "theirs": lambda: side("theirs")}, 3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert {name: len(taken) for name, taken in found.items()} == {"ours": 3, "theirs": 3}


def test_the_report_marks_what_falls_short() -> None:
    good = result("a", "good", "y", samples(90), samples(100), least=0.7)
    bad = result("a", "bad", "y", samples(10), samples(100), least=0.7)
    rows = {line.split()[0]: line for line in report.table([good, bad]).splitlines() if line.startswith("  ")}
    assert "SHORT" in rows["bad"] and "SHORT" not in rows["good"]
    assert "bad: 0.10, wanted 0.7 at least" in report.summary([good, bad])
    assert report.summary([good]) == "All 1 targets are met."
    (kept,) = report.document([bad], {}, "now")["results"]
    assert kept["verdict"] == "SHORT" and kept["ratio"]["median"] == pytest.approx(0.1)


def test_cpu_time_grows_with_work() -> None:
    before = machine.cpu_seconds(os.getpid())
    while (used := machine.cpu_seconds(os.getpid()) - before) < 0.02:
        sum(range(100_000))
    assert used >= 0.02


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def answer(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        return web.Response(status=int(request.raw_path[1:4]), body=body or b"x" * 100_000)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_the_client_reads_whole_answers(port: int) -> None:
    assert len(await asyncio.to_thread(client.fetch, port, client.get("/200", {}))) == 100_000
    assert await asyncio.to_thread(client.fetch, port, client.post("/201", {}, {"a": 1})) == b'{"a":1}'
    await asyncio.to_thread(client.send, port, [client.get("/200", {})] * 20, 4)


async def test_the_client_counts_no_failure_as_an_answer(port: int) -> None:
    requests = [client.get("/200", {})] * 5 + [client.get("/503", {})]
    with pytest.raises(client.BadAnswer, match="503"):
        await asyncio.to_thread(client.send, port, requests, 2)


def test_a_result_without_target_is_not_judged() -> None:
    spread = result("a", "x", "y", samples(1), samples(1)).ratio
    assert Result("a", "x", "y", "/s", 1, 1, spread).verdict == ""

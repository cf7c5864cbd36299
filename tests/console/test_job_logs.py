"""Logs of pods: what their bytes become, windows that fit together, searches, and the live stream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from admin_ui import log_stream
from admin_ui.job_logs import Logs, Source
from admin_ui.presenters.logs import LONGEST, Line, Lines, clean, marked, pattern, size, split
from admin_ui.render import CLIENTS
from admin_ui.routes import ROUTES
from shared.pb.peloton.api.v1alpha.pod import pod_pb2
from shared.storage.port import Author
from tests.console.harness import Page
from tests.console.rail import DEADLINE, Rail, Reader, followed, opened
from tests.contract.jobs_yard import Job

pytestmark = pytest.mark.xdist_group("console-logs")
over_sockets = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rail(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rail]:
    async with opened(tmp_path_factory.mktemp("rail")) as found:
        yield found


def page_of(job: Job, instance: int = 0) -> str:
    return f"/jobs/{job.id}/pods/{instance}"


def lines_of(page: Page) -> list[str]:
    return [e.text for e in page.dom.find("div") if "line" in e.attrs.get("class", "").split()]


class TestText:
    @pytest.mark.parametrize(
        ("data", "shown"),
        [
            (b"plain\ttext", "plain\ttext"),
            ("größer ✓".encode(), "größer ✓"),
            (b"windows\r", "windows"),
            (b"50%\r100%", "50%␍100%"),
            (b"\x1b[1;31mred\x1b[0m and \x1b[2Jgone", "red and gone"),
            (b"\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
            (b"\x1b(B\x1b=\x1bcreset", "reset"),
            (b"open \x1b[31", "open ␛[31"),
            (b"bell\x07 nul\x00 del\x7f", "bell␇ nul␀ del␡"),
            (b"\xff\xfe", "��"),
            ("\x9b31mC1".encode(), "�31mC1"),
            ("a\u202etxt.exe".encode(), "a\\u202etxt.exe"),
            ("one\u2028two".encode(), "one\\u2028two"),
        ],
    )
    def test_nothing_but_text_is_left(self, data: bytes, shown: str) -> None:
        assert clean(data) == shown

    @given(st.binary(max_size=200))
    def test_no_character_has_a_meaning_of_its_own(self, data: bytes) -> None:
        found = clean(data)
        assert not [c for c in found if c != "\t" and not c.isprintable() and ord(c) < 0xA0]

    @given(st.lists(st.binary(max_size=30)), st.integers(0, 1000))
    def test_lines_are_the_same_however_they_come(self, pieces: list[bytes], at: int) -> None:
        whole = b"".join(pieces)
        lines = Lines(at)
        found = [line for piece in pieces for line in lines.feed(piece)]
        assert lines.end == at + len(whole)
        found += [lines.open] if lines.open else []
        assert found == split(at, whole)
        # Offsets lead to their lines.
        for line in found:
            assert clean(whole[line.at - at :].partition(b"\n")[0]) == line.text

    def test_a_line_that_is_too_long_comes_in_pieces_between_characters(self) -> None:
        text = "ä" * LONGEST + "\nnext\n"
        found = split(0, b"x" + text.encode())
        assert [line.goes_on for line in found] == [True, True, False, False]
        assert "".join(line.text for line in found) == "x" + text.replace("\n", "")
        assert "�" not in found[0].text + found[1].text

    def test_a_gap_begins_a_line_anew(self) -> None:
        lines = Lines(0)
        lines.feed(b"half")
        assert lines.skip(100) == Line(0, "half", goes_on=True)
        assert lines.feed(b"whole\n") == [Line(100, "whole")]

    @pytest.mark.parametrize(
        ("text", "tone"),
        [
            ("2026-01-01 ERROR it broke", "bad"),
            ('{"level":"error","msg":"x"}', "bad"),
            ("level=warning msg=x", "warn"),
            ("WARN: slow", "warn"),
            ("no error at all", ""),
            ("x" * 200 + " ERROR", ""),
        ],
        ids=range(6),
    )
    def test_how_bad_a_line_says_it_is(self, text: str, tone: str) -> None:
        assert Line(0, text).tone == tone

    def test_what_is_found_is_taken_literally(self) -> None:
        assert marked("A.b a.B axb", pattern("a.b")) == [
            ("A.b", True), (" ", False), ("a.B", True), (" axb", False),
        ]  # fmt: skip
        assert marked("text", pattern("")) == [("text", False)]

    def test_sizes_in_words(self) -> None:
        assert [size(n) for n in (0, 999, 1000, 12_345, 999_999, 25_000_000)] == [
            "0 B", "999 B", "1.0 kB", "12 kB", "1000 kB", "25 MB",
        ]  # fmt: skip


NUMBERED = "".join(f"line {number}\n" for number in range(20_000)).encode()


async def logs_of(rail: Rail, data: bytes) -> tuple[Logs, Source]:
    job = await rail.yard.job("crash", count=1)
    rail.yard.engine.write(job.pod_id(), data)
    token = rail.yard.service.tokens["viewer"]
    return Logs(rail.console.app[CLIENTS].caller(token)), Source(job.pod_name(), job.pod_id())


@over_sockets
class TestWindows:
    async def test_the_steps_back_and_forth_show_every_line_once(self, rail: Rail) -> None:
        logs, source = await logs_of(rail, NUMBERED + b"no end")
        whole = [*NUMBERED.decode().splitlines(), "no end"]
        window = await logs.tail(source, 4000)
        assert window.last and not window.first
        assert window.end == len(NUMBERED)
        back = [line.text for line in window.lines]
        while not window.first:
            window = await logs.before(source, window.start, 4000)
            back = [line.text for line in window.lines] + back
        assert back == whole
        window = await logs.after(source, 0, 4000)
        forth = [line.text for line in window.lines]
        while not window.last:
            window = await logs.after(source, window.end, 4000)
            forth += [line.text for line in window.lines]
        assert forth == whole

    async def test_what_stands_around_a_place(self, rail: Rail) -> None:
        logs, source = await logs_of(rail, NUMBERED)
        at = NUMBERED.index(b"line 10000\n")
        window = await logs.around(source, at, 100)
        texts = [line.text for line in window.lines]
        assert texts == [f"line {number}" for number in range(9950, 10_050)]
        assert not window.first and not window.last

    @pytest.mark.parametrize(
        "data",
        [b"", b"a", b"a\n", b"\n\n", b"x" * 500_000, b"x" * 70_000 + b"\nlast\n"],
        ids=["empty", "open", "one", "blank", "long", "long first"],
    )
    async def test_logs_of_any_form_have_an_end(self, rail: Rail, data: bytes) -> None:
        logs, source = await logs_of(rail, data)
        window = await logs.tail(source, 5)
        assert [line.text for line in window.lines] == [line.text for line in split(0, data)[-5:]]
        assert window.last

    async def test_a_line_without_an_end_in_sight_is_shown_in_steps(self, rail: Rail) -> None:
        logs, source = await logs_of(rail, b"x" * 3_000_000)
        window = await logs.tail(source, 10_000)
        assert not window.first and window.end <= 3_000_000
        seen = sum(len(line.text) for line in window.lines)
        while not window.first:
            window = await logs.before(source, window.start, 10_000)
            seen += sum(len(line.text) for line in window.lines)
        assert seen == 3_000_000

    async def test_a_search_looks_at_all_of_it(self, rail: Rail) -> None:
        text = NUMBERED + b"an \x1b[31mERR\x1b[0mor\n" + b"the Error has no end"
        logs, source = await logs_of(rail, text)
        found = await logs.search(source, re.compile("error", re.IGNORECASE))
        assert found.whole and found.count == 2
        assert [line.text for line in found.lines] == ["an ERRor", "the Error has no end"]
        assert [text[line.at :].split()[0] for line in found.lines] == [b"an", b"the"]
        many = await logs.search(source, re.compile("line"))
        assert many.count == 20_000
        assert [line.text for line in many.lines] == [f"line {number}" for number in range(18_000, 20_000)]


@over_sockets
class TestPage:
    async def test_the_last_lines_and_ways_to_the_others(self, rail: Rail) -> None:
        job = await rail.yard.job("crash", count=1)
        rail.yard.engine.write(job.pod_id(), NUMBERED + b"<script>alert(1)</script>\n")
        here = f"{page_of(job)}/logs"
        page = await rail.console.get(here)
        assert page.status == 200
        lines = lines_of(page)
        assert len(lines) == 500 and lines[-1] == "<script>alert(1)</script>"
        assert "<script>alert" not in page.text
        page = await rail.console.get(page.dom.link("Earlier lines"))
        lines = lines_of(page)
        assert (lines[0], lines[-1]) == ("line 19001", "line 19500")
        page = await rail.console.get(page.dom.link("Newest lines"))
        assert "alert(1)" in page.words

    async def test_a_search_without_scripts(self, rail: Rail) -> None:
        job = await rail.yard.job("crash", count=1)
        rail.yard.engine.write(job.pod_id(), NUMBERED)
        page = await rail.console.get(f"{page_of(job)}/logs?q=LINE+1999")
        assert "11 lines with “LINE 1999” in the whole log" in page.words
        assert page.dom.find("mark")[0].text == "line 1999"
        page = await rail.console.get(page.dom.link("line 19990"))
        assert {"line 19989", "line 19990", "line 19991"} < set(lines_of(page))

    async def test_outputs_runs_and_downloads(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        rail.yard.engine.write(job.pod_id(), b"\x1b[1mbare\x1b[0m \xff\n")
        rail.yard.engine.write(job.pod_id(), b"oops\n", "stderr")
        await job.restart()
        await job.until_over()
        here = page_of(job)
        assert "oops" in (await rail.console.get(f"{here}/logs?run=1&stream=stderr")).words
        assert "bare �" in (await rail.console.get(f"{here}/logs?run=1")).words
        newest = await rail.console.get(f"{here}/logs")
        assert "bare" not in newest.words and "hello" in newest.words
        async with rail.console.http.get(
            f"{rail.console.base}{here}/logs/download?run=1&stream=stdout"
        ) as got:
            assert await got.read() == b"hello\n\x1b[1mbare\x1b[0m \xff\n"
            assert got.headers["Content-Disposition"] == f'attachment; filename="{job.pod_id()}.stdout.txt"'
            assert got.content_type == "text/plain"

    async def test_a_run_that_has_not_begun_says_why(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1, settle=False, resource={"cpu_limit": 1e9})
        await job.until_pod(pod_pb2.POD_STATE_PENDING)
        page = await rail.console.get(f"{page_of(job)}/logs")
        assert "Run 1 has not begun" in page.words
        assert page.dom.find("div", id="log")
        await job.delete()

    async def test_what_there_is_not(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        for path, status in (
            (f"{page_of(job, 9)}/logs", 404),
            (f"{page_of(job)}/logs/download", 404),
            (f"{page_of(job)}/logs/download?run=9", 404),
            (f"{page_of(job)}/logs/lines?run=x", 404),
            (f"{page_of(job)}/logs/search?run=7&q=x", 404),
            (f"{page_of(job)}/logs?run=99&at=-1&before=x&stream=%00", 200),
        ):
            assert (await rail.console.get(path)).status == status, path

    async def test_logs_have_a_permission_of_their_own(self) -> None:
        assert {route.permission for route in ROUTES if "/logs" in route.path} == {"pods.log"}


@over_sockets
class TestLive:
    async def test_lines_come_as_they_are_written(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        async with followed(rail.console, page_of(job)) as stream:
            await stream.until("state", state="live")
            await stream.until_text("hello")
            rail.yard.engine.write(job.pod_id(), b"half a li")
            await stream.until_text("half a li")
            rail.yard.engine.write(job.pod_id(), b"ne\nnext\n")
            await stream.until_text("next")
            assert stream.reader.text == "hello\nhalf a line\nnext"

    async def test_whatever_breaks_every_line_comes_once(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        reader, written = Reader(), b"hello\n"
        for number in range(12):
            # Broken at ends of lines, within them, and within characters.
            piece = f"{number} größer\n".encode() * 3
            for part in (piece[:7], piece[7:19], piece[19:]):
                rail.yard.engine.write(job.pod_id(), part)
                written += part
            async with followed(rail.console, page_of(job), reader=reader) as stream:
                if number % 3 == 0:
                    rail.yard.engine.write(job.pod_id(), b"without end ")
                    written += b"without end "
                    await stream.until_text("without end ")
                await stream.until_text(written.decode().rstrip("\n").splitlines()[-1])
        async with followed(rail.console, page_of(job), reader=reader) as stream:
            rail.yard.engine.write(job.pod_id(), b"last\n")
            await stream.until_text("last")
        assert reader.text == (written + b"last").decode()
        assert reader.gaps == []

    async def test_a_service_that_is_away_comes_back_without_a_gap(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        async with followed(rail.console, page_of(job)) as stream:
            await stream.until_text("hello")
            rail.yard.engine.write(job.pod_id(), b"begun ")
            await stream.until_text("begun")
            rail.yard.engine.hide()
            await stream.until("state", state="reconnecting")
            rail.yard.engine.available = True
            rail.yard.engine.write(job.pod_id(), b"and ended\n")
            await stream.until("state", state="live")
            await stream.until_text("ended")
            assert stream.reader.text == "hello\nbegun and ended"
        # The controller looks again only after a pause.
        await rail.yard.advance(60)

    async def test_the_end_of_a_run_and_the_next_one_are_told(self, rail: Rail) -> None:
        job = await rail.yard.job("crash", count=1)
        async with followed(rail.console, page_of(job)) as stream:
            await stream.until("state", state="live")
            rail.yard.engine.write(job.pod_id(), b"last words\n")
            await rail.yard.advance(10)
            over = await stream.until("over")
            assert "Run 1 has ended: exit 3" in over["html"]
            assert stream.reader.text == "last words"
            await rail.yard.advance(31)
            newer = await stream.until("next")
            assert "Run 2 is there" in newer["html"]
        await job.delete()

    async def test_who_was_away_for_long_sees_the_end_and_what_is_missing(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        text = "".join(f"number {number}\n" for number in range(200_000)).encode()
        rail.yard.engine.write(job.pod_id(), text)
        async with followed(rail.console, page_of(job)) as stream:
            await stream.until_text("number 199999")
            [(begin, end)] = stream.reader.gaps
            assert begin == 0 and end > 1_000_000
            shown = stream.reader.text.split("\n")
            assert shown == [f"number {number}" for number in range(200_000 - len(shown), 200_000)]
            # It leads to what is missing.
        page = await rail.console.get(f"{page_of(job)}/logs?at={begin}")
        assert "hello number 0 number 1" in page.words

    @pytest.mark.parametrize("busy", [False, True])
    async def test_a_right_that_ends_ends_the_stream(self, rail: Rail, monkeypatch, busy: bool) -> None:
        monkeypatch.setattr(log_stream, "HEARTBEAT", 0.05)
        job = await rail.yard.job(count=1)
        access = rail.yard.service.running.environment.access
        by = Author("test", "test:token:create")
        token, record = await access.issue("passer-by", "viewer", timedelta(hours=1), creator="t", by=by)
        async with rail.console.stranger() as other:
            await other.post("/sign-in", {"token": token})
            async with followed(other, page_of(job)) as stream:
                await stream.until_text("hello")
                await access.revoke(record.id, by)
                async with asyncio.timeout(DEADLINE):
                    while stream.reader.events[-1][0] != "end":
                        if busy:
                            rail.yard.engine.write(job.pod_id(), b"more\n")
                        await stream.event()
                assert stream.reader.events[-1][1] == {"reason": "signed-out"}

    async def test_a_stream_ends_with_its_pod_and_its_console(self, rail: Rail) -> None:
        job = await rail.yard.job(count=1)
        async with followed(rail.console, page_of(job)) as stream:
            await stream.until_text("hello")
            await job.delete()
            assert await stream.until("end") == {"reason": "gone"}
        async with opened(rail.yard.service.running.environment.config.data / "own") as own:
            job = await own.yard.job(count=1)
            async with followed(own.console, page_of(job)) as stream:
                await stream.until_text("hello")
                closing = asyncio.create_task(own.console.app.shutdown())
                assert await stream.content.read() is not None
                await closing

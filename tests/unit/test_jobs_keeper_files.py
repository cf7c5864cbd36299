"""What the keeper writes: logs over many files, pipes to their last byte, the journal."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.jobs.runtime.keeper.journal import Journal
from services.jobs.runtime.keeper.logs import Log
from services.jobs.runtime.keeper.pump import Pump

_pieces = st.lists(st.text("ab\n", max_size=40).map(str.encode), max_size=8)


def _files(path: Path) -> list[bytes]:
    older = sorted(path.parent.glob(f"{path.name}.*"))
    return [found.read_bytes() for found in [*older, path] if found.exists()]


@given(_pieces, st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_files_together_are_what_was_written_and_end_with_lines(pieces: list[bytes], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder) / "out", limit=limit, files=1000)
        for piece in pieces:
            log.write(piece)
        files = _files(Path(folder) / "out")
        log.close()
    whole = b"".join(pieces)
    assert b"".join(files) == whole
    assert all(0 < len(file) <= limit for file in files)
    end = 0
    for file in files[:-1]:
        end += len(file)
        line = whole[whole.rfind(b"\n", 0, end) + 1 :].split(b"\n", 1)[0]
        assert file.endswith(b"\n") or len(line) + 1 > limit


@given(_pieces, st.integers(1, 30), st.integers(2, 4), st.integers(-60, 300), st.integers(0, 60))
@settings(max_examples=50, deadline=None)
def test_it_reads_what_is_left_at_its_own_place(
    pieces: list[bytes], limit: int, files: int, offset: int, size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder) / "out", limit=limit, files=files)
        for piece in pieces:
            log.write(piece)
        recalled = Log(Path(folder) / "out", limit=limit, files=files)
        recalled.recall()
        kept = b"".join(_files(Path(folder) / "out"))
        answers = [found.read(offset, size) for found in (log, recalled)]
        log.close()
    whole = b"".join(pieces)
    assert whole.endswith(kept)
    oldest = len(whole) - len(kept)
    begin = min(max(offset + len(whole) if offset < 0 else offset, oldest), len(whole))
    assert answers == [(begin, whole[begin : begin + size])] * 2


def test_no_more_files_than_allowed_are_kept(tmp_path: Path) -> None:
    log = Log(tmp_path / "out", limit=10, files=3)
    log.write(b"123456789\n" * 20)
    log.close()
    assert _files(tmp_path / "out") == [b"123456789\n"] * 3


async def test_what_a_pipe_holds_is_not_lost_when_it_is_closed(tmp_path: Path) -> None:
    read, write = os.pipe()
    log = Log(tmp_path / "out", limit=1 << 20, files=3)
    pump = Pump(os.fdopen(read, "rb", buffering=0), log)
    os.write(write, b"last words")
    # Somebody else holds it still: nobody waits for them.
    pump.close()
    os.close(write)
    log.close()
    assert (tmp_path / "out").read_bytes() == b"last words"


async def test_a_full_disk_does_not_stop_a_pump(tmp_path: Path) -> None:
    read, write = os.pipe()
    log = Log(tmp_path / "missing" / "out", limit=1 << 20, files=3)
    pump = Pump(os.fdopen(read, "rb", buffering=0), log)
    os.write(write, b"nobody hears this")
    pump.close()
    os.close(write)
    assert log.end == 0


def test_a_journal_is_what_was_appended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert list(journal.entries()) == []
    journal.rewrite([{"boot": "x"}])
    journal.append({"begun": "a"})
    journal.append({"begun": "ü\n"})
    journal.close()
    assert list(Journal(tmp_path / "journal").entries()) == [{"boot": "x"}, {"begun": "a"}, {"begun": "ü\n"}]


def test_a_journal_grows_stale_and_is_written_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.rewrite([])
    entry = {"accepted": "x" * (1 << 20)}
    for _ in range(4):
        journal.append(entry)
    assert journal.stale
    journal.rewrite([{"boot": "y"}])
    assert not journal.stale
    journal.append({"begun": "b"})
    journal.close()
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"boot": "y"}, {"begun": "b"}]


def test_a_journal_that_cannot_be_written_anew_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.rewrite([{"boot": "x"}])
    (tmp_path / "journal.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        journal.rewrite([])
    journal.append({"begun": "a"})
    journal.close()
    assert list(Journal(tmp_path / "journal").entries()) == [{"boot": "x"}, {"begun": "a"}]

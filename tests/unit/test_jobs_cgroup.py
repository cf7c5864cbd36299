"""Control groups, in a folder that stands for the kernel's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.jobs.runtime.keeper.cgroup import Cgroup, controllers
from services.jobs.runtime.keeper.launch import LaunchFailed, spawn


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
    return tmp_path


def test_limits_are_those_that_were_asked_for(parent: Path) -> None:
    Cgroup.create(parent, "a-0-1", {"cpu": 1.5, "memory": 1 << 26, "processes": 40, "files": 9})
    written = {path.name: path.read_text() for path in (parent / "a-0-1").iterdir()}
    assert written == {
        "cpu.max": "150000 100000",
        "memory.max": str(1 << 26),
        "memory.swap.max": "0",
        "pids.max": "40",
    }
    assert (parent / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_without_limits_there_is_a_group_alone(parent: Path) -> None:
    group = Cgroup.create(parent, "a-0-1", {"cpu": 0})
    assert list((parent / "a-0-1").iterdir()) == []
    group.remove()
    assert not (parent / "a-0-1").exists()


def test_a_process_is_in_it_before_its_exec(parent: Path, tmp_path: Path) -> None:
    group = Cgroup.create(parent, "a-0-1", {})
    procs = parent / "a-0-1" / "cgroup.procs"
    process = spawn(
        [sys.executable, "-S", "-c", f"print(open({str(procs)!r}).read())"],
        folder=tmp_path,
        variables={},
        limits={},
        mark=1 << 61,
        cgroup=group,
    )
    out, _ = process.communicate()
    assert out == b"0\n"


def test_a_group_that_may_not_be_joined_fails_the_launch(parent: Path, tmp_path: Path) -> None:
    group = Cgroup.create(parent, "a-0-1", {})
    (parent / "a-0-1" / "cgroup.procs").mkdir()
    with pytest.raises(LaunchFailed):
        spawn(["/bin/true"], folder=tmp_path, variables={}, limits={}, mark=1 << 61, cgroup=group)


@pytest.mark.parametrize(
    ("text", "expected"), [("oom 3\noom_kill 0\n", False), ("oom 3\noom_kill 2\n", True)]
)
def test_a_kill_for_memory_is_noticed(parent: Path, text: str, expected: bool) -> None:
    group = Cgroup.create(parent, "a-0-1", {})
    assert not group.ran_out_of_memory()
    (parent / "a-0-1" / "memory.events").write_text(text)
    assert group.ran_out_of_memory() is expected


def test_a_folder_that_is_none_has_no_controllers(tmp_path: Path) -> None:
    assert controllers(tmp_path) == frozenset()

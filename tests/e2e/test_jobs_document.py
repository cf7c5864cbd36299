"""The commands of docs/apis/jobs.md, and that of the README, typed into one shell as they stand there,
against a suite that was just started and runs real processes. Only its ports are others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import DEADLINE, HOST, ROOT, Up, environment

PAGE = (ROOT / "docs/apis/jobs.md").read_text()
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "--- that was all ---"
SETTINGS = {
    "ROUNDHOUSE_JOBS_RUNTIME": "process",
    "ROUNDHOUSE_JOBS_ALLOW_ROOT": "true",
    "ROUNDHOUSE_JOBS_LIMITS": "advisory",
}


def blocks(language: str) -> list[str]:
    return [body for name, body in _FENCE.findall(PAGE) if name == language]


def commands(block: str) -> list[str]:
    """A line that is indented goes on with the one before."""
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", block, re.MULTILINE)


class Shell:
    """One that goes on, in a folder whose `var` is the suite's data."""

    def __init__(self, folder: Path, up: Up) -> None:
        self._address = f"http://{HOST}:{up.http_port('jobs')}"
        path = f"{Path(sys.executable).parent}:{environment()['PATH']}"
        self.process = subprocess.Popen(
            ["sh"],
            cwd=folder,
            env=environment(PATH=path, ROUNDHOUSE_BASE_PORT=str(up.base_port)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str) -> str:
        """What it prints when it ends well."""
        assert self.process.stdin is not None and self.process.stdout is not None
        command = command.rstrip("\n").replace("http://127.0.0.1:8731", self._address)
        self.process.stdin.write(f"{command}\necho; echo '{_END}' $?\n")
        self.process.stdin.flush()
        lines: list[str] = []
        for line in self.process.stdout:
            if line.startswith(_END):
                assert line.split()[-1] == "0", (command, lines)
                return "".join(lines).strip()
            lines.append(line)
        raise AssertionError(f"the shell ended: {lines}")

    def told(self, command: str) -> Any:
        return json.loads(self.run(command))

    def until(self, command: str, *words: str) -> str:
        """Asked again and again, until it prints all of the words."""
        end = time.monotonic() + DEADLINE
        while not all(word in (found := self.run(command)) for word in words):
            assert time.monotonic() < end, found
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Up(tmp_path / "var", "--only", "jobs", "--no-console", **SETTINGS) as up:
        found = Shell(tmp_path, up.ready())
        try:
            yield found
        finally:
            found.process.kill()
            found.process.communicate()


def test_the_commands_of_the_page(tmp_path: Path, shell: Shell) -> None:
    creating, changing, pools = blocks("sh")
    *assigned, create, follow = commands(creating)
    for command in assigned:
        assert shell.run(command) == ""
    created = shell.told(create)
    assert created["version"] == {"value": "1-1-1"}
    clock = shell.run(f"{follow.rstrip()} | head -n 2")
    assert len(re.findall(r"\d\d:\d\d:\d\d", clock)) == 2
    shell.until('curl -s -H "$token" $jobs/jobs/$id/workflows', "WORKFLOW_STATE_SUCCEEDED")

    patch, workflows, query, delete = commands(changing)
    assert shell.told(patch) == {"version": {"value": "2-1-2"}}
    assert len(json.loads(shell.until(workflows, '"workflowInfos"'))["workflowInfos"]) == 2
    shell.until(query, '"total":3')
    assert "podId" in shell.run(query) and "entrypoint" not in shell.run(query)
    # In the text: what the command line is said to read.
    mentioned = re.findall(r"`(roundhouse list \w+)`", PAGE)
    listings = {command: shell.run(command) for command in mentioned}
    assert created["jobId"]["value"] in listings["roundhouse list jobs"]
    assert shell.told(delete) == {}

    (tmp_path / "pools.yaml").write_text(blocks("yaml")[0])
    apply, listed = commands(pools)
    assert "2 changed" in shell.run(apply)
    paths = [pool["path"]["value"] for pool in shell.told(listed)["respools"]]
    assert paths == ["/", "/DefaultResPool", "/ml", "/ml/train"]

    readme = (ROOT / "README.md").read_text()
    [create] = [
        body for name, body in _FENCE.findall(readme) if name == "sh" and ":8731/v1alpha/jobs" in body
    ]
    assert shell.told(create)["version"] == {"value": "1-1-1"}
    shell.until("roundhouse list job_pods", *(f"-{instance}" for instance in range(3)))

"""The commands of docs/apis/meta.md, run by a shell as they stand there, against a suite that was just
started. Only its ports are others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import DEADLINE, HOST, ROOT, Up, environment

PAGE = (ROOT / "docs/apis/meta.md").read_text()
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [body for name, body in _FENCE.findall(PAGE) if name == language]


def commands(program: str) -> list[str]:
    return [
        line for block in blocks("sh") for line in block.splitlines() if line.split(maxsplit=1)[0] == program
    ]


class Shell:
    """In a folder whose `var` is the suite's data."""

    def __init__(self, folder: Path, up: Up) -> None:
        self._folder = folder
        self._up = up

    def _asked(self, command: str) -> dict[str, Any]:
        path = f"{Path(sys.executable).parent}:{environment()['PATH']}"
        address = f"http://{HOST}:{self._up.http_port('meta')}"
        return {
            "args": ["sh", "-c", command.replace("http://127.0.0.1:8711", address)],
            "cwd": self._folder,
            "env": environment(PATH=path, ROUNDHOUSE_BASE_PORT=str(self._up.base_port)),
        }

    def run(self, command: str) -> str:
        """What it prints when it ends well."""
        found = subprocess.run(
            **self._asked(command), capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert found.returncode == 0, (command, found.stderr)
        return found.stdout

    @contextmanager
    def following(self, command: str) -> Iterator[Iterator[str]]:
        """The lines of a command that does not end."""
        command = f"exec timeout {DEADLINE:g} {command}"
        with subprocess.Popen(**self._asked(command), stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            try:
                yield iter(running.stdout)
            finally:
                running.terminate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Up(tmp_path / "var", "--only", "meta") as up:
        yield Shell(tmp_path, up.ready())


def test_the_commands_of_the_page(tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "catalogue.yaml").write_text(blocks("yaml")[0])
    listing, watching = commands("curl")
    preview, apply, prune = commands("roundhouse")

    with shell.following(watching) as lines:
        first = json.loads(next(lines))["result"]
        assert [told(change) for change in first["regionChanges"]] == [("current", "regions/local")]
        assert first["isCurrent"] and first["resumeToken"]
        assert "5 would change" in shell.run(preview)
        assert "5 changed, 0 unchanged" in shell.run(apply)
        second = json.loads(next(lines))["result"]
        names = ["regions/eu-west", "regions/us-east"]
        assert sorted(map(told, second["regionChanges"])) == [("current", name) for name in names]

    assert listed(shell, listing) == ["regions/us-east", "regions/eu-west"]
    assert "- region regions/local\n" in shell.run(prune)
    assert listed(shell, listing.replace("page_size=2&", "")) == ["regions/us-east", "regions/eu-west"]


def listed(shell: Shell, command: str) -> list[str]:
    return [region["name"] for region in json.loads(shell.run(command))["regions"]]


def told(change: dict[str, Any]) -> tuple[str, str]:
    """(which change, name of the region)."""
    ((kind, part),) = change.items()
    return kind, part["name"] if kind == "removed" else part["region"]["name"]

"""`roundhouse import` against a running service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.pods_yard import CLUSTER, deployment_id, id_of
from tests.e2e.process import Up

pytestmark = pytest.mark.xdist_group("cli-pods")


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data = tmp_path_factory.mktemp("cli") / "data"
    with Up(data, "--only", "pods", "--no-console") as process:
        process.ready()
        yield process


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def bare(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": id_of(number), "clusterId": CLUSTER, "name": f"web-{number}", **fields}


def test_imports(yard: Up, tmp_path: Path) -> None:
    file = tmp_path / "pods.ndjson"
    running = [{"containerName": "a", "finished": "2026-01-01T00:00:00Z"}]
    file.write_text(
        lines(
            *({"result": {"pod": bare(number)}} for number in range(1500)), bare(2000, liveInstances=running)
        )
    )
    result = yard.command("import", "pods", str(file))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("1501 stored, 0 unchanged, revision ")

    # The instance that ended is among the terminated ones by now; --replace puts it back.
    replaced = yard.command(
        "import", "pods", "-", "--replace", stdin=lines(bare(2000, liveInstances=running))
    )
    assert replaced.stdout.startswith("1 stored, 0 unchanged, revision ")
    shown = json.loads(yard.command("get", "pod", id_of(2000), "-o", "json").stdout)
    assert len(shown["body"]["pod"]["live_instances"]) == 1

    row = {"kind": "deployment", "id": deployment_id(1), "name": "shop"}
    stored = yard.command("import", "inventory", "-", stdin=lines(row))
    assert stored.stdout.startswith("1 stored, 0 unchanged, revision ")

    # What is wrong is named with its line, and what belongs to another source is left alone.
    wrong = yard.command("import", "pods", "-", stdin=lines(bare(1), {"id": "x"}))
    assert wrong.returncode == 2 and "line 2: id: must be a UUID" in wrong.stderr
    other = yard.command("import", "pods", "-", "--source", "lab", stdin=lines(bare(1, name="x"), bare(5000)))
    assert other.returncode == 1 and "1 stored" in other.stdout
    assert f"error: 1 belong to another source: {id_of(1)} is of 'import'" in other.stderr
    usage = yard.command("import", "inventory", "-", "--replace", stdin=lines(row))
    assert usage.returncode == 2 and "--replace and --source are for pods" in usage.stderr
    for failed in (wrong, other, usage):
        assert "Traceback" not in failed.stderr

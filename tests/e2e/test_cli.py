"""The command line against running services: what it prints, and how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.e2e.process import DEADLINE, HOST, Background, Up, free_base_port, roundhouse

# One running suite is enough for them all.
pytestmark = pytest.mark.xdist_group("cli")

MANIFEST = """
experiments:
  - {experiment_id: cli-one, display_name: one, description: "first: with a colon"}
  - {experiment_id: cli-two, display_name: two, created_at: 2024-02-29T12:00:00Z}
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("cli") / "data") as process:
        yield process.ready()


def good(yard: Up, *arguments: str, stdin: str = "") -> str:
    result = yard.command(*arguments, stdin=stdin)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def bad(yard: Up, *arguments: str, stdin: str = "", code: int = 1) -> str:
    """The one line of an error."""
    result = yard.command(*arguments, stdin=stdin)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.rstrip("\n").split("\n")
    if code == 1:
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
    return lines[-1]


def test_a_manifest_is_applied_compared_and_pruned(yard: Up, tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(MANIFEST)
    planned = good(yard, "apply", "-f", str(path), "--dry-run")
    assert "+ experiment cli-one\n+ experiment cli-two\n" in planned
    assert "pipelines: 2 would change, 0 unchanged" in planned
    assert "cli-one" not in good(yard, "list", "experiments")

    assert "pipelines: 2 changed, 0 unchanged" in good(yard, "apply", "-f", str(path))
    assert "pipelines: 0 changed, 2 unchanged" in good(yard, "apply", "-f", "-", stdin=MANIFEST)
    got = yaml.safe_load(good(yard, "get", "experiment", "cli-one"))
    assert (got["display_name"], got["description"]) == ("one", "first: with a colon")
    two = json.loads(good(yard, "get", "Experiments", "cli-two", "-o", "json"))
    assert (two["kind"], two["name"]) == ("experiment", "cli-two")
    assert two["body"]["created_at"] == "2024-02-29T12:00:00Z"

    changed = MANIFEST.replace("with a colon", "changed")
    assert "~ experiment cli-one: description\n" in good(yard, "apply", "-f", "-", stdin=changed)

    exported = good(yard, "export", "experiments")
    assert {"cli-one", "cli-two"} <= {e["experiment_id"] for e in yaml.safe_load(exported)["experiments"]}
    assert "0 changed" in good(yard, "apply", "-f", "-", "--prune", stdin=exported)
    assert yaml.safe_load(good(yard, "export"))["experiments"] == yaml.safe_load(exported)["experiments"]
    kept = yaml.safe_load(exported)["experiments"]
    fewer = yaml.safe_dump({"experiments": [e for e in kept if e["experiment_id"] != "cli-two"]})
    assert "- experiment cli-two\n" in good(yard, "apply", "-f", "-", "--prune", stdin=fewer)
    assert "cli-two" in bad(yard, "get", "experiment", "cli-two")

    rows = good(yard, "history", "experiment", "cli-one").splitlines()
    assert rows[0].split() == ["REVISION", "TIME", "WHO", "ACTION", "CHANGED"]
    assert rows[1].split()[2] == "operator"
    assert rows[1].endswith("description")
    assert "- experiment cli-two" in good(yard, "audit", "--kind", "experiment", "--name", "cli-two")
    assert "CreateSignInCode" in good(yard, "audit", "--access") or "create" in good(
        yard, "audit", "--access"
    )


def test_lists_page_filter_order_and_limit(yard: Up) -> None:
    entries = [{"experiment_id": f"page-{n}", "display_name": f"page {n}"} for n in range(7)]
    good(yard, "apply", "-f", "-", stdin=yaml.safe_dump({"experiments": entries}))
    name = json.dumps({"predicates": [{"key": "name", "operation": "IS_SUBSTRING", "string_value": "page"}]})
    arguments = ["list", "experiment", "--filter", name, "--order-by", "name desc", "-o", "json"]
    names = [entry["name"] for entry in json.loads(good(yard, *arguments, "--page-size", "2"))]
    assert names == [f"page-{n}" for n in reversed(range(7))]
    assert [e["name"] for e in json.loads(good(yard, *arguments, "--limit", "3"))] == names[:3]
    assert good(yard, *arguments[:-1], "name").splitlines() == names

    table = good(yard, "list", "experiments", "--filter", name).splitlines()
    assert table[0].split()[:3] == ["NAME", "REVISION", "DISPLAY_NAME"]
    assert len(table) == 8
    listed = yaml.safe_load(good(yard, "list", "experiments", "--filter", name, "-o", "yaml"))
    assert len(listed["experiments"]) == 7
    assert good(yard, "delete", "experiment", "page-0").startswith("- experiment page-0 (revision ")
    assert "NOT_FOUND" in bad(yard, "delete", "experiment", "page-0")
    assert "ABORTED" in bad(yard, "delete", "experiment", "page-1", "--revision", "1")


def test_exporters_are_chosen_by_labels(yard: Up) -> None:
    exporters = [
        {"name": f"namespaces/lab/exporters/{id}", "labels": labels}
        for id, labels in (("a", {"board": "rpi4"}), ("b", {"board": "rpi4", "broken": "yes"}), ("c", {}))
    ]
    good(yard, "apply", "-f", "-", stdin=yaml.safe_dump({"exporters": exporters}))

    def chosen(*options: str) -> list[str]:
        return good(yard, "list", "exporters", "-o", "name", *options).split()

    assert chosen("-l", "board=rpi4,!broken") == ["namespaces/lab/exporters/a"]
    assert len(chosen("--selector", "board in (rpi4, rpi5)")) == 2
    assert chosen("-l", "board", "--filter", 'name = "namespaces/lab/exporters/b"') == [
        "namespaces/lab/exporters/b"
    ]
    # What is written of them by the server is no part of a manifest.
    again = good(yard, "apply", "-f", "-", "--prune", "--dry-run", stdin=good(yard, "export"))
    assert set(re.findall(r"(\w+): (\d+) would change", again)) == {
        (name, "0") for name in ("meta", "jumpstarter", "jobs", "pipelines")
    }
    listed = yaml.safe_load(good(yard, "list", "exporters", "-o", "yaml"))
    assert listed == {"exporters": [{k: v for k, v in entry.items() if v} for entry in exporters]}
    with Background("watch", "exporters", "-l", "broken=yes", *yard.where) as watching:
        watching.wait_for(r"^\+ namespaces/lab/exporters/b")
        exporters[1]["labels"] = {}
        good(yard, "apply", "-f", "-", stdin=yaml.safe_dump({"exporters": exporters}))
        watching.wait_for(r"^- namespaces/lab/exporters/b$")


def test_the_audit_can_leave_out_what_services_do_by_themselves(yard: Up) -> None:
    spec = {
        "instanceCount": 1,
        "defaultSpec": {"containers": [{"name": "main", "entrypoint": {"value": "x"}}]},
    }
    pool = good(yard, "list", "resource_pools", "--filter", 'path != "/"', "-o", "name").strip()
    spec["respoolId"] = {"value": pool}
    status, answer = yard.request("jobs", "POST", "/v1alpha/jobs", {"spec": spec}, token=yard.token())
    assert status == 200, answer
    audit = ["audit", "--kind", "job"]
    end = time.monotonic() + DEADLINE
    while "controller:job:reconcile" not in good(yard, *audit):
        assert time.monotonic() < end
    written = good(yard, *audit, "--no-steps")
    assert "controller:job:reconcile" not in written
    (action,) = {line.split()[4] for line in written.splitlines()[1:]}
    assert len(good(yard, *audit, "--no-steps", "--exclude-action", action).splitlines()) == 1
    assert action not in good(yard, *audit, "--exclude-action", action)


def test_watch_shows_changes_survives_a_restart_and_ends_quietly(yard: Up) -> None:
    with (
        Background("watch", "experiments", *yard.where) as people,
        Background("watch", "experiment", *yard.where, "-o", "json") as programs,
    ):
        people.wait_for(r"^\+ \S+  .*display_name=Default")
        identifier = yard.experiment("watched")
        people.wait_for(rf"^\+ {identifier}  .*display_name=watched")
        programs.wait_for(rf'"change": "added", "name": "{identifier}"')
        seen = len(people.lines)
        os.kill(yard.pid("pipelines"), 9)
        people.wait_for(r"^connection lost: ", after=seen)
        yard.wait_for(r"^pipelines is ready again")
        path = f"/apis/v2beta1/experiments/{identifier}"
        assert yard.request("pipelines", "POST", f"{path}:archive", token=yard.token())[0] == 200
        people.wait_for(rf"^~ {identifier}  .*ARCHIVED", after=seen)
        assert yard.request("pipelines", "DELETE", path, token=yard.token())[0] == 200
        people.wait_for(rf"^- {identifier}$", after=seen)
        line = programs.wait_for(rf'^{{.*"removed", "name": "{identifier}".*').group(0)
        assert json.loads(line) == {"change": "removed", "name": identifier}
        assert people.interrupt() == 130
        # A shell may pass on what the whole group gets.
        for _ in range(3):
            programs.process.send_signal(signal.SIGINT)
        assert programs.interrupt() == 130
    assert "(a bug" not in programs.output
    assert [line for line in people.lines if line][-1] == f"- {identifier}"


def test_tokens_and_roles(yard: Up, tmp_path: Path) -> None:
    text = good(yard, "token", "create", "--subject", "ann", "--role", "viewer", "--ttl", "1h").strip()
    file = tmp_path / "ann.token"
    file.write_text(text + "\n")
    as_ann = ["--token-file", str(file)]
    assert "Default" in good(yard, "list", "experiments", *as_ann)
    refused = bad(yard, "apply", "-f", "-", *as_ann, stdin=MANIFEST)
    assert "PERMISSION_DENIED" in refused
    assert "needs permission" in refused

    rows = [row.split() for row in good(yard, "token", "list", "--subject", "ann").splitlines()[1:]]
    assert [row[1:3] for row in rows] == [["ann", "viewer"]]
    assert good(yard, "token", "revoke", rows[0][0]) == f"revoked {rows[0][0]} of ann\n"
    assert "UNAUTHENTICATED" in bad(yard, "list", "experiments", *as_ann)
    assert "no token in" in bad(yard, "list", "experiments", "--token-file", str(tmp_path / "none"))
    for content in (b"", b"two\nlines", b"\xff\xfe", "ä".encode()):
        file.write_bytes(content)
        assert f"{file} " in bad(yard, "list", "experiments", *as_ann)
    assert "role" in bad(yard, "token", "create", "--subject", "bob", "--role", "emperor")
    assert "ttl" in bad(yard, "token", "create", "--subject", "bob", "--role", "viewer", "--ttl", "500d")

    link = good(yard, "sign-in").strip()
    assert link.startswith(f"http://{HOST}:{yard.base_port}/sign-in?code=")


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["list", "unicorns"], "", "no kind 'unicorns'; there are:"),
        (
            ["get", "experiment", "nobody"],
            "",
            "error: NOT_FOUND from pipelines: experiment 'nobody' not found",
        ),
        (["delete", "region", "regions/x"], "", "error: NOT_FOUND from meta: "),
        (["token", "revoke", "nothing"], "", "error: NOT_FOUND from meta: there is no token 'nothing'"),
        (["history", "experiment", "nobody"], "", "pipelines has no version of experiment 'nobody'"),
        (["list", "experiments", "--filter", "{"], "", "INVALID_ARGUMENT from pipelines: filter"),
        (
            ["list", "exporters", "-l", "a in ("],
            "",
            "INVALID_ARGUMENT from jumpstarter: selector: at position",
        ),
        (["list", "experiments", "-l", "a=b"], "", "selector: experiments have no labels"),
        (["watch", "experiments", "-l", "a=b"], "", "selector: experiments have no labels"),
        (["list", "experiments", "--order-by", "height"], "", "height"),
        (["apply", "-f", "-"], "dragons: []", "dragons: no service keeps such a list"),
        (["apply", "-f", "-"], "experiments: [{display_name: [1]}]", "experiments[0]"),
        (["apply", "-f", "/nowhere/manifest.yaml"], "", "No such file"),
    ],
)
def test_errors_are_one_clear_line(yard: Up, arguments: list[str], stdin: str, message: str) -> None:
    assert message in bad(yard, *arguments, stdin=stdin)


def test_nothing_runs(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.b.c")
    base = free_base_port()
    where = ["--base-port", str(base), "--token-file", str(token), "--data", str(tmp_path / "data")]
    result = roundhouse("list", "experiments", *where)
    assert result.returncode == 1
    assert f"UNAVAILABLE from meta: nothing answers at {HOST}:{base + 10}" in result.stderr
    doctor = roundhouse("doctor", *where)
    assert doctor.returncode == 0, doctor.stdout
    assert "not running; start it with `make run-all`" in doctor.stdout


def test_another_base_port_is_found_by_the_data(yard: Up) -> None:
    where = ["--data", str(yard.data), "--base-port", str(free_base_port())]
    hint = f"use --base-port {yard.base_port}"
    result = roundhouse("list", "experiments", *where)
    assert result.returncode == 1
    assert f"UNAVAILABLE from meta: nothing answers at {HOST}:" in result.stderr
    assert hint in result.stderr
    doctor = roundhouse("doctor", *where)
    assert doctor.returncode == 1
    assert hint in doctor.stdout
    assert "1 of " in doctor.stdout


def test_doctor_names_what_is_wrong(yard: Up, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.b.c")
    token.chmod(0o644)
    result = yard.command("doctor", "--token-file", str(token))
    assert result.returncode == 1
    assert f"others may read {token}; chmod 600" in result.stdout
    assert "UNAUTHENTICATED" in result.stdout


def test_a_backup_is_a_working_copy(yard: Up, tmp_path: Path) -> None:
    identifier = yard.experiment("in the backup")
    folder = tmp_path / "backup"
    printed = good(yard, "backup", str(folder))
    assert "pipelines.db" in printed
    assert "access.db" in printed
    assert "not an empty folder" in roundhouse("backup", str(folder), "--data", str(yard.data)).stderr
    # The ports may be named like everywhere else: those of another suite are a mistake.
    assert "not an empty folder" in bad(yard, "backup", str(folder))
    other = ["--data", str(yard.data), "--base-port", str(free_base_port())]
    refused = roundhouse("backup", str(tmp_path / "other"), *other)
    assert refused.returncode == 1
    assert f"is the data of the `up` at base port {yard.base_port}, not {other[-1]}" in refused.stderr
    assert not (tmp_path / "other").exists()
    for path in folder.glob("*.db"):
        assert path.stat().st_mode & 0o077 == 0
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Up(folder, "--no-console") as restored:
        restored.ready()
        status, answer = restored.request(
            "pipelines", "GET", f"/apis/v2beta1/experiments/{identifier}", token=yard.token()
        )
        assert (status, answer["display_name"]) == (200, "in the backup")


def test_only_sqlite_is_backed_up(tmp_path: Path) -> None:
    result = roundhouse("backup", str(tmp_path / "b"), ROUNDHOUSE_STORE="mongodb://user:secret@host/")
    assert result.returncode == 1
    assert "the store is mongodb, not sqlite" in result.stderr
    assert "secret" not in result.stderr

"""Jumpstarter's own command line and exporter against the service."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.interop.jmp import NAMESPACE, POWER, Jmp, Lab, RealExporter, conditions, jmp, lab

pytestmark = [
    pytest.mark.interop,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("jmp"),
]

MANIFEST = {
    "exporters": [
        {
            "name": f"{NAMESPACE}/exporters/bench-1",
            "labels": {"board": "rpi4", "lab": "berlin", "rack": "r1"},
        },
        {"name": f"{NAMESPACE}/exporters/bench-2", "labels": {"board": "rpi5", "lab": "berlin"}},
        # Nothing runs for these two.
        {"name": f"{NAMESPACE}/exporters/bench-3", "labels": {"board": "jetson", "lab": "paris"}},
        {"name": f"{NAMESPACE}/exporters/bench-4", "labels": {"board": "broken"}, "enabled": False},
    ],
    "clients": [{"name": f"{NAMESPACE}/clients/alice"}, {"name": f"{NAMESPACE}/clients/bob"}],
}
SETTINGS = {"jumpstarter_hidden_labels": "rack", "jumpstarter_deprecated_labels": "lab=use site"}
AVAILABLE = "EXPORTER_STATUS_AVAILABLE"
# It would give up after some six seconds without a server, less than a busy machine takes to start one.
PATIENT = {"failureDetection": {"maxRapidFailures": 60}}
# Without our settings for it, a server hangs up on pings this frequent after seven seconds.
PING_MS = 1000
# A server with default settings cuts an idle exporter off after 60 s.
IDLE_SECONDS = 90.0


@dataclass
class Bench:
    """`plain` and `hooked` are the exporters bench-1 and bench-2."""

    lab: Lab
    jmp: Jmp
    plain: RealExporter
    hooked: RealExporter
    folder: Path

    async def free(self, name: str) -> None:
        """Until that exporter can be leased."""
        await self.lab.until(f"exporters/{name}", lambda found: found.get("status") == AVAILABLE)

    async def names(self, *arguments: str, client: str = "alice") -> list[str]:
        return (await self.jmp("get", *arguments, "-o", "name", client=client)).split()


def hook(folder: Path, name: str, on_failure: str) -> dict[str, Any]:
    """Writes down that it ran and for whom. While there is a pipe `fail-NAME` it fails, once it has
    read a line from it."""
    note = f"echo {name} $LEASE_NAME $CLIENT_NAME >> {folder}/ran; echo in {name}"
    fail = f"{folder}/fail-{name}"
    return {
        "script": f"{note}; test ! -p {fail} || {{ read line < {fail}; exit 1; }}",
        "onFailure": on_failure,
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("jmp")
    async with lab(folder / "data", MANIFEST, **SETTINGS) as found, jmp(folder / "home") as command:
        alice, bob, first, second = await asyncio.gather(
            found.roundhouse("jumpstarter", "config", "client", "default/alice"),
            found.roundhouse("jumpstarter", "config", "client", "default/bob"),
            found.config("exporter", "bench-1", "--driver", f"power={POWER['type']}"),
            found.config("exporter", "bench-2"),
        )
        # As they are printed.
        command.client_file("alice").write_text(alice)
        command.client_file("bob").write_text(bob)
        assert first["endpoint"] == found.endpoint
        plain = {
            **first,
            **PATIENT,
            "export": {**first["export"], "rack": {"children": {"relay": POWER}}},
        }
        hooked = {
            **second,
            **PATIENT,
            "tls": {"ca": "", "insecure": True},
            "grpcOptions": {"grpc.keepalive_time_ms": PING_MS},
            "export": {"power": POWER},
            "hooks": {
                "beforeLease": hook(folder, "before", "endLease"),
                "afterLease": hook(folder, "after", "warn"),
            },
        }
        async with (
            RealExporter(command, plain, script=True) as one,
            RealExporter(command, hooked) as two,
        ):
            yield Bench(found, command, one, two, folder)


async def test_exporters_are_listed_in_every_form(bench: Bench) -> None:
    def get(*more: str) -> Any:
        return bench.jmp("get", "exporters", *more)

    table, names, as_json, as_yaml, every, leased = await asyncio.gather(
        bench.jmp.start("get", "exporters", client="alice"),
        get("-o", "name"),
        get("-o", "json"),
        get("-o", "yaml"),
        get("--allow-disabled", "--show-hidden-labels", "--with", "online,status", "-o", "json"),
        get("--with", "leases,online,status"),
    )
    assert names.split() == ["bench-1", "bench-2", "bench-3"]
    shown = await table.ended()
    assert "label 'lab' on exporter 'bench-1' is deprecated: use site" in shown.err
    assert [line.split() for line in shown.out.splitlines()] == [
        ["NAME", "LABELS"],
        ["bench-1", "board=rpi4"],
        ["bench-2", "board=rpi5"],
        ["bench-3", "board=jetson"],
    ]
    deprecated = {"lab": "use site"}
    plain = json.loads(as_json)["exporters"]
    assert plain == yaml.safe_load(as_yaml)["exporters"]
    assert plain[0] == {
        "namespace": "default",
        "name": "bench-1",
        "labels": {"board": "rpi4"},
        "deprecated_labels": deprecated,
    }
    assert [
        (x["name"], x["labels"], x["online"], x["status"], x["enabled"])
        for x in json.loads(every)["exporters"]
    ] == [
        ("bench-1", {"board": "rpi4", "lab": "berlin", "rack": "r1"}, True, 2, True),
        ("bench-2", {"board": "rpi5", "lab": "berlin"}, True, 2, True),
        ("bench-3", {"board": "jetson", "lab": "paris"}, False, None, True),
        ("bench-4", {"board": "broken"}, False, None, False),
    ]
    # With leases it says of no exporter what its status is, whatever the server answers.
    assert leased.splitlines()[1].split() == ["bench-1", "yes", "UNKNOWN", "board=rpi4", "Available"]


async def test_exporters_are_filtered_by_labels(bench: Bench) -> None:
    def names(selector: str) -> Any:
        return bench.names("exporters", "-l", selector)

    # Hidden and deprecated labels can still be asked for.
    assert await asyncio.gather(
        names("board=rpi4"),
        names("lab in (berlin),board!=rpi4"),
        names("rack=r1"),
        names("!rack,lab"),
        names("board=none"),
    ) == [["bench-1"], ["bench-2"], ["bench-1"], ["bench-2", "bench-3"], []]
    wrong = await bench.jmp("get", "exporters", "-l", "board in ()", fails=True)
    assert "INVALID_ARGUMENT" in wrong
    assert "10: the list of values is empty" in wrong


async def test_leases_are_created_listed_updated_and_deleted(bench: Bench) -> None:
    """Of an exporter that is not there: they stay pending."""
    jmp, lab = bench.jmp, bench.lab

    def create(name: str, *more: str, **options: Any) -> Any:
        return jmp("create", "lease", *([f"--lease-id={name}"] if name else []), *more, **options)

    begin = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    wanted = "board==jetson,lab!=rome"
    tagged, by_name, later, shown = await asyncio.gather(
        create("", "-l", wanted, "--duration=1h", "--tag=build=7", "--tag=who=ci", "-o", "name"),
        create("by-name", "-n", "bench-3", "--duration=30m", "-o", "json"),
        create(
            "later",
            "-l",
            "board=jetson",
            "--duration=1h",
            f"--begin-time={begin:%FT%TZ}",
            "-o",
            "yaml",
            client="bob",
        ),
        create("shown", "-l", "board=jetson", "--duration=1d"),
    )
    tagged = tagged.strip()
    made = json.loads(by_name)
    assert (made["namespace"], made["name"], made["client"]) == ("default", "by-name", "alice")
    assert (made["exporter_name"], made["exporter"], made["duration"]) == ("bench-3", "", 1800.0)
    assert datetime.fromisoformat(yaml.safe_load(later)["begin_time"]) == begin
    assert shown.splitlines()[1].split()[:2] == ["shown", "board=jetson"]
    again = await create("by-name", "-n", "bench-3", "--duration=30m", fails=True)
    assert "ALREADY_EXISTS" in again
    pending = conditions(await lab.until("leases/by-name", conditions))
    assert pending == {"Pending": ("True", "Offline")}

    def leases(*more: str, client: str = "alice") -> Any:
        return bench.names("leases", *more, client=client)

    assert await asyncio.gather(
        leases(),
        leases(client="bob"),
        leases("-A"),
        leases("-l", "board=jetson"),
        leases("-l", "board=jetson,lab notin (rome)"),
        leases("--tag-filter", "build=7"),
        leases("--tag-filter", "build in (7,8),who"),
        leases("--tag-filter", "!build"),
    ) == [
        sorted([tagged, "by-name", "shown"]),
        ["later"],
        sorted([tagged, "by-name", "later", "shown"]),
        sorted([tagged, "shown"]),
        [tagged],
        [tagged],
        [tagged],
        ["by-name", "shown"],
    ]
    wrong, table, as_json, as_yaml = await asyncio.gather(
        jmp("get", "leases", "--tag-filter", "build=7,,", fails=True),
        jmp("get", "leases"),
        jmp("get", "leases", "-o", "json"),
        jmp("get", "leases", "-o", "yaml"),
    )
    assert "INVALID_ARGUMENT" in wrong
    assert " ".join(table.split("\n")[0].split()) == (
        "NAME SELECTOR EXPIRES AT REMAINING CLIENT EXPORTER TAGS"
    )
    listed = {lease["name"]: lease for lease in json.loads(as_json)["leases"]}
    assert listed == {lease["name"]: lease for lease in yaml.safe_load(as_yaml)["leases"]}
    assert listed[tagged]["selector"] == "board=jetson,lab notin (rome)"
    assert listed[tagged]["tags"] == {"build": "7", "who": "ci"}

    longer = await jmp("update", "lease", "by-name", "--duration=2h", "-o", "json")
    assert json.loads(longer)["duration"] == 7200.0
    foreign, early = await asyncio.gather(
        jmp("update", "lease", "by-name", "--duration=3h", client="bob", fails=True),
        jmp("update", "lease", "by-name", "--to-client=bob", fails=True),
    )
    assert "PERMISSION_DENIED" in foreign
    assert "FAILED_PRECONDITION" in early

    assert await jmp("delete", "leases", "by-name") == 'lease "by-name" deleted\n'
    twice = await jmp("delete", "leases", "by-name", fails=True)
    assert "FAILED_PRECONDITION" in twice
    assert "NOT_FOUND" in await jmp("delete", "leases", "unknown", fails=True)
    deleted = await jmp("delete", "leases", "-l", "board=jetson", "-o", "name")
    assert deleted.split() == sorted([tagged, "shown"])
    assert await jmp("get", "leases") == "No resources found.\n"
    assert set(await leases("-a")) >= {tagged, "by-name", "shown"}
    assert (await jmp("delete", "leases", "--all", "-o", "name", client="bob")).split() == ["later"]


async def test_a_shell_on_a_lease(bench: Bench) -> None:
    jmp = bench.jmp
    made = json.loads(await jmp("create", "lease", "-l", "board=rpi4", "--duration=1h", "-o", "json"))
    name = made["name"]
    # Assigned in the answer: no command has to ask again.
    assert made["exporter"] == "bench-1"
    assert [(c["type"], c["status"]) for c in made["conditions"]] == [("Ready", "True")]
    # With the same selector it is the same lease.
    script = "j power on && j power read && echo $JMP_EXPORTER $JMP_LEASE $JMP_EXPORTER_LABELS"
    out = await jmp("shell", "--lease", name, "-l", "board=rpi4", "--", "sh", "-c", script)
    assert "voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA" in out
    assert f"\nbench-1 {name} board=rpi4\n" in out
    await bench.plain.running.says("MockPower:power on")

    # It lasts, and the only one needs no name.
    only, table = await asyncio.gather(
        jmp("shell", "--", "sh", "-c", "echo on $JMP_LEASE"), jmp("get", "exporters", "--with", "leases")
    )
    assert f"on {name}" in only
    assert table.splitlines()[1].split()[:4] == ["bench-1", "board=rpi4", "alice", "In-Use"]
    foreign = await jmp("shell", "--lease", name, "--", "true", client="bob", fails=True)
    assert f"lease {name} belongs to client 'alice'" in foreign
    await jmp("delete", "leases", name)
    await bench.free("bench-1")
    released = await jmp("shell", "--lease", name, "--", "true", fails=True)
    assert f"lease {name} released" in released


async def held(bench: Bench, name: str, *more: str, client: str = "alice", after: str = "true") -> Any:
    """A shell that has begun and runs `after` once `FOLDER/NAME` is written to."""
    pipe = bench.folder / name
    os.mkfifo(pipe)
    script = f"echo begun; read line < {pipe}; {after}"
    shell = await bench.jmp.start("shell", *more, "--", "sh", "-c", script, client=client)
    await shell.says("^begun$|\nbegun\n")
    return shell


def let_go(bench: Bench, name: str) -> None:
    """The shell that waits there, and has the pipe open."""
    (bench.folder / name).write_text("on\n")


async def test_the_second_shell_waits_for_the_first(bench: Bench) -> None:
    first = await held(bench, "first", "-l", "board=rpi4", after="j power on")
    waiting = await bench.jmp.start("shell", "-n", "bench-1", "--", "j", "rack", "relay", "on", client="bob")
    name = (await waiting.says(r"Acquiring lease (\S+) for"))[1]
    lease = await bench.lab.until(f"leases/{name}", conditions)
    assert conditions(lease) == {"Pending": ("True", "NotAvailable")}
    let_go(bench, "first")
    one, two = await asyncio.gather(first.ended(), waiting.ended())
    assert (one.status, two.status) == (0, 0), one.text + two.text
    ended = await bench.lab.get(f"leases/{name}")
    assert conditions(ended)["Ready"] == ("False", "Released")
    assert ended["exporter"] == f"{NAMESPACE}/exporters/bench-1"
    assert await bench.names("leases", "-A") == []
    await bench.free("bench-1")


async def test_a_transferred_lease(bench: Bench) -> None:
    jmp = bench.jmp
    name = (await jmp("create", "lease", "-n", "bench-1", "--duration=1h", "-o", "name")).strip()
    os.mkfifo(bench.folder / "seen")
    # What `j` begins with. It would wait twenty seconds for an answer.
    connect = "import os, socket; socket.socket(socket.AF_UNIX).connect(os.environ['JUMPSTARTER_HOST'])"
    after = f"""{jmp.python} -c "{connect}; open('{bench.folder}/seen').read()"; exit 7"""
    shell = await held(bench, "transferred", "--lease", name, after=after)
    given = await jmp("update", "lease", name, "--to-client=bob", "-o", "json")
    assert json.loads(given)["client"] == "bob"
    let_go(bench, "transferred")
    await shell.says("has been transferred to another client")
    let_go(bench, "seen")
    assert (await shell.ended()).status == 7
    refused, driven = await asyncio.gather(
        jmp("delete", "leases", name, fails=True),
        jmp("shell", "--lease", name, "--", "j", "power", "read", client="bob"),
    )
    assert "PERMISSION_DENIED" in refused
    assert "voltage=5.0 V" in driven
    await jmp("delete", "leases", name, client="bob")
    await bench.free("bench-1")


async def test_a_lease_that_ends_ends_its_shell(bench: Bench) -> None:
    started = time.monotonic()
    command = ["shell", "-n", "bench-1", "--duration=4s", "--", "sleep", "60"]
    shell = await bench.jmp.start(*command, client="alice")
    name = (await shell.says(r"Acquiring lease (\S+) for"))[1]
    assert (await shell.ended()).status != 0
    assert 4 <= time.monotonic() - started < 30
    assert conditions(await bench.lab.get(f"leases/{name}"))["Ready"] == ("False", "Expired")
    await bench.free("bench-1")
    shell_again, update = await asyncio.gather(
        bench.jmp("shell", "--lease", name, "--", "true", fails=True),
        bench.jmp("update", "lease", name, "--duration=1h", fails=True),
    )
    assert "not in pending" in shell_again
    assert "FAILED_PRECONDITION" in update
    # Any error that speaks of something expired sends people to sign in anew.
    assert "re-authentication" not in update


async def test_an_interrupted_shell_releases_its_lease(bench: Bench) -> None:
    shell = await held(bench, "interrupted", "-l", "board=rpi4")
    assert (await shell.interrupt()).status != 0
    assert await bench.names("leases") == []
    await bench.free("bench-1")


async def test_hooks_run_around_a_lease(bench: Bench) -> None:
    ran = bench.folder / "ran"
    command = ["shell", "-l", "board=rpi5", "--", "sh", "-c", f"echo shell >> {ran}"]
    said = await bench.jmp(*command)
    assert [line.split()[0] for line in ran.read_text().splitlines()] == ["before", "shell", "after"]
    assert {line.split()[-1] for line in ran.read_text().splitlines()} == {"alice", "shell"}
    assert "in before" in said
    assert "in after" in said
    assert await bench.names("leases") == []
    await bench.free("bench-2")


# In this order: one second after its first hook failed, an exporter releases whatever lease it has by
# then, also one that is not that hook's.
@pytest.mark.parametrize("name", ["after", "before"])
async def test_a_hook_that_fails(bench: Bench, name: str) -> None:
    ran, fail = bench.folder / "ran", bench.folder / f"fail-{name}"
    ran.unlink(missing_ok=True)
    os.mkfifo(fail)
    shell = await bench.jmp.start(
        "shell", "-l", "board=rpi5", "--", "sh", "-c", f"echo shell >> {ran}", client="alice"
    )
    lease = (await shell.says(r"Acquiring lease (\S+) for"))[1]
    try:
        status = f"EXPORTER_STATUS_{name.upper()}_LEASE_HOOK"
        await bench.lab.until("exporters/bench-2", lambda found: found["status"] == status)
        await shell.says("Waiting for ready connection")
        let_go(bench, fail.name)
    finally:
        fail.unlink()
    found = await bench.lab.until(f"leases/{lease}", lambda found: found.get("effectiveEndTime"))
    assert conditions(found)["Ready"] == ("False", "Released")
    await bench.free("bench-2")
    # The exporter shows its failure for one second: a client that looks too late waits for minutes.
    ended = await shell.interrupt(after=10)
    assert (ended.status == 0) == (name == "after"), ended.text
    order = [line.split()[0] for line in ran.read_text().splitlines()]
    assert order == (["before"] if name == "before" else ["before", "shell", "after"])


async def test_a_disabled_exporter(bench: Bench) -> None:
    jmp = bench.jmp
    named, selected, foreign, none = await asyncio.gather(
        jmp("shell", "-n", "bench-4", "--", "true", fails=True),
        jmp("shell", "-l", "board=broken", "--", "true", fails=True),
        jmp("shell", "-n", "bench-1", "-l", "board=rpi5", "--", "true", fails=True),
        jmp("shell", "-l", "board=none", "--", "true", fails=True),
    )
    for said in (named, selected, foreign, none):
        assert "the lease cannot be satisfied: " in said
    assert "disabled" in named
    assert "disabled" in selected
    given = await jmp("create", "lease", "-n", "bench-4", "--allow-disabled", "--duration=1h", "-o", "name")
    lease = await bench.lab.until(f"leases/{given.strip()}", conditions)
    assert conditions(lease) == {"Pending": ("True", "Offline")}
    await jmp("delete", "leases", given.strip())


async def test_tokens_rotate_and_end(bench: Bench) -> None:
    jmp = bench.jmp
    file = jmp.client_file("bob")
    before = yaml.safe_load(file.read_text())
    jmp.client_file("before").write_text(yaml.safe_dump(before))
    assert "Token rotated. New expiry: " in await jmp("auth", "rotate", client="bob")
    after = yaml.safe_load(file.read_text())
    assert after["token"] != before["token"]
    assert "Token rotated" in await jmp("auth", "rotate", client="bob")
    assert yaml.safe_load(file.read_text())["token"] not in (before["token"], after["token"])
    printed = await bench.lab.roundhouse("token", "jumpstarter", "client", "default/bob")
    jmp.client_file("printed").write_text(yaml.safe_dump({**before, "token": printed.strip()}))
    status, *same = await asyncio.gather(
        jmp("auth", "status", client="bob"),
        *(bench.names("exporters", client=alias) for alias in ("bob", "before", "printed")),
    )
    assert "Status: Valid (87" in status  # 365 days are 8760 hours
    assert "Subject: client:default:bob:" in status
    assert same == [["bench-1", "bench-2", "bench-3"]] * 3


async def test_an_expired_token_leads_to_a_new_sign_in(bench: Bench) -> None:
    jmp = bench.jmp
    config = yaml.safe_load(jmp.client_file("alice").read_text())
    printed = await bench.lab.roundhouse("token", "jumpstarter", "client", "default/alice", "--ttl", "1s")
    jmp.client_file("late").write_text(yaml.safe_dump({**config, "token": printed.strip()}))
    async with asyncio.timeout(30):
        while "Status: EXPIRED" not in await jmp("auth", "status", client="late"):
            await asyncio.sleep(0.2)
    said = await jmp("get", "leases", client="late", fails=True)
    # It is sent to the token's issuer; it would break down before if the error had other words.
    assert "Token is expired, triggering re-authentication" in said
    assert "ReauthenticationFailed: " in said
    jmp.client_file("foreign").write_text(yaml.safe_dump({**config, "token": config["token"] + "x"}))
    said = await jmp("get", "leases", client="foreign", fails=True)
    assert "UNAUTHENTICATED" in said
    assert "re-authentication" not in said


async def test_a_certificate_that_is_taken_on_trust(bench: Bench) -> None:
    jmp = bench.jmp
    config = yaml.safe_load(jmp.client_file("alice").read_text())
    assert config["tls"]["ca"]
    assert not config["tls"]["insecure"]
    # Neither trusts what the system trusts ...
    jmp.client_file("system").write_text(yaml.safe_dump({**config, "tls": {"ca": "", "insecure": False}}))
    assert "CERTIFICATE_VERIFY_FAILED" in await jmp("get", "exporters", client="system", fails=True)
    # ... and by both names of this machine, the second from the environment alone, as CI has it.
    trusting = {
        **config,
        "endpoint": config["endpoint"].replace("127.0.0.1", "localhost"),
        "tls": {"ca": "", "insecure": True},
    }
    jmp.client_file("trusting").write_text(yaml.safe_dump(trusting))
    assert await bench.names("exporters", client="trusting") == ["bench-1", "bench-2", "bench-3"]
    alone = await jmp.execute(
        *("shell", "-n", "bench-1", "--", "j", "power", "read"),
        JMP_ENDPOINT=config["endpoint"],
        JMP_TOKEN=config["token"],
        JMP_NAMESPACE="default",
        JMP_NAME="alice",
        JMP_GRPC_INSECURE="1",
        JMP_DRIVERS_ALLOW="UNSAFE",
    )
    ended = await alone.ended()
    assert (ended.status, "voltage=5.0 V" in ended.out) == (0, True), ended.text
    await bench.free("bench-1")


async def test_an_idle_exporter_keeps_its_stream(bench: Bench) -> None:
    """bench-2 pings every second, bench-1 every twenty as it comes. What has passed since it was started
    counts."""
    left = IDLE_SECONDS - (time.monotonic() - bench.plain.started_at)
    for exporter, within in ((bench.plain, max(left, 0.1)), (bench.hooked, 0.1)):
        with pytest.raises(TimeoutError):
            await exporter.running.says("stream interrupted", within=within)


async def test_a_restarted_server_is_found_again(bench: Bench) -> None:
    jmp = bench.jmp
    name = (await jmp("create", "lease", "-l", "board=rpi4", "--duration=1h", "-o", "name")).strip()
    await bench.lab.until("exporters/bench-1", lambda found: found["status"] == "EXPORTER_STATUS_LEASE_READY")
    await bench.lab.stop()
    for exporter in (bench.plain, bench.hooked):
        await exporter.running.says("Status stream interrupted")
    await bench.lab.start()
    read, _ = await asyncio.gather(
        jmp("shell", "--lease", name, "--", "j", "power", "read"),
        jmp("shell", "-l", "board=rpi5", "--", "true", client="bob"),
    )
    assert "voltage=5.0 V" in read
    await jmp("delete", "leases", name)
    await bench.free("bench-1")


async def test_an_exporter_that_ends_is_offline_and_comes_back_to_its_lease(bench: Bench) -> None:
    jmp, lab = bench.jmp, bench.lab
    name = (await jmp("create", "lease", "-n", "bench-1", "--duration=1h", "-o", "name")).strip()
    await lab.until("exporters/bench-1", lambda found: found["status"] == "EXPORTER_STATUS_LEASE_READY")
    said = (await bench.plain.stop()).text
    assert "Controller unregistration completed successfully" in said
    gone = await lab.get("exporters/bench-1")
    assert (gone.get("online", False), gone["status"]) == (False, "EXPORTER_STATUS_OFFLINE")
    assert gone["statusMessage"] == "Exporter shutdown"
    assert conditions(await lab.get(f"leases/{name}"))["Ready"] == ("True", "Ready")
    await bench.plain.start()
    assert "voltage=5.0 V" in await jmp("shell", "--lease", name, "--", "j", "power", "read")
    await jmp("delete", "leases", name)
    await bench.free("bench-1")

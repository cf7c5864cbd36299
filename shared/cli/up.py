"""`roundhouse up`: the services and the console under a supervisor, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click

from shared.cli import lock, ports, suite, supervisor
from shared.cli.logs import Follower, tail, warnings
from shared.cli.signals import Signals
from shared.cli.suite import Program
from shared.cli.supervisor import Died, Event, Reader, Said, Spawned
from shared.cli.yard import CommandError, Yard, load, run
from shared.errors import InvalidArgument
from shared.service.config import CONSOLE, Config

# Seconds: between two looks at something, until a slow start or end is mentioned, beyond `stop_grace`.
_POLL: Final = 0.05
_SLOW: Final = 20.0
_SOON: Final = 0.5
_EXTRA: Final = 3
# Settings of a single process make no sense for all of them.
_SINGLE: Final = ("grpc_port", "http_port", "ports_file")


@click.command("up")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of databases and logs.  [default: var]")
@click.option("--base-port", type=click.IntRange(1, 65000), help="Port of the console.  [default: 8700]")
@click.option("--store", help="`sqlite` or a mongodb:// URL.  [default: sqlite]")
@click.option("--only", help="Services to run, between commas.  [default: all]")
@click.option("--no-console", is_flag=True, help="Run the services alone.")
@click.option("--demo", is_flag=True, help="Also run a simulated lab of a dozen exporters.")
def up(
    data: Path | None,
    base_port: int | None,
    store: str | None,
    only: str | None,
    no_console: bool,
    demo: bool,
) -> None:
    """Run the services and the console until Ctrl-C; restart what dies.

    Every setting can also be given as ROUNDHOUSE_<NAME>; see docs/configuration.md.
    """
    if only is not None:
        suite.check_only(filter(None, (name.strip() for name in only.split(","))))
    yard = load(data=data, base_port=base_port, store=store, only=only)
    check(yard.config)
    programs = suite.programs(yard.config, console=not no_console, demo=demo)
    if not programs:
        raise CommandError("nothing to run: no service is part of this set")
    raise SystemExit(run(Up(yard, programs).run()))


def check(config: Config) -> None:
    """Raise InvalidArgument for settings that `up` cannot give to all its processes."""
    for name in _SINGLE:
        if getattr(config, name) not in (None, ""):
            raise InvalidArgument.at(f"ROUNDHOUSE_{name.upper()}", "is for a single process; use --base-port")
    if config.store == "memory":
        raise InvalidArgument.at("--store", "memory is for tests of one process: these could not share it")
    if config.store != "sqlite" and not config.store.startswith(("mongodb://", "mongodb+srv://")):
        raise InvalidArgument.at("--store", f"{config.store!r} is neither sqlite nor a mongodb:// URL")
    if "%" in str(config.data.absolute()):
        # The supervisor's configuration would take it for a variable.
        raise InvalidArgument.at("--data", f"{config.data.absolute()} must not contain %")
    runs_pods = config.enabled("jobs") and config.jobs_runtime == "process"
    if runs_pods and not config.jobs_allow_root and os.geteuid() == 0:
        raise InvalidArgument.at(
            "ROUNDHOUSE_JOBS_ALLOW_ROOT",
            "pods of jobs would run as root, who may do anything to this host; start this as another user, "
            "set it to true, as `make run-all` does, or leave jobs out with --only",
        )
    if config.tls_cert and not config.tls_ca:
        raise InvalidArgument.at(
            "ROUNDHOUSE_TLS_CA", "must name the authority of tls_cert, for the console and this command"
        )


def say(text: str) -> None:
    """To the terminal. One that is gone must not stop the services: the log files have it all."""
    with contextlib.suppress(OSError):
        click.echo(text)


async def _first(*wanted: asyncio.Task[Any], beside: list[asyncio.Task[None]]) -> None:
    """Until one of `wanted` ends; an error in one `beside` them is raised."""
    pending: set[asyncio.Task[Any]] = {*wanted, *beside}
    while not any(task.done() for task in wanted):
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


@dataclass
class Up:
    """One run. `run()` answers the exit code."""

    yard: Yard
    programs: list[Program]
    reader: Reader = field(default_factory=Reader)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        config = self.yard.config
        self.data = config.data.absolute()
        self.run_folder = self.data / "run"
        self.logs_folder = self.data / "logs"
        self.followers: dict[str, Follower] = {}
        self.recovering: set[asyncio.Task[None]] = set()
        self.signals = Signals()

    async def run(self) -> int:
        self._prepare()
        held = self._lock()
        try:
            self._check_ports()
            self._write_configuration()
            return await self._supervise()
        finally:
            held.release()

    def _serving(self) -> list[Program]:
        return [program for program in self.programs if program.serves]

    def _prepare(self) -> None:
        for folder in (self.data, self.run_folder, self.logs_folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _url(self) -> str:
        first = CONSOLE if any(p.is_console for p in self.programs) else self.programs[0].name
        return suite.base_url(self.yard.config, first)

    def _lock(self) -> lock.Lock:
        note = lock.Note(os.getpid(), self.yard.config.base_port, self._url())
        try:
            return lock.Lock(self.run_folder, note)
        except lock.Held as error:
            who = error.note
            text = f"pid {who.pid}, at {who.url}" if who else "it is starting or stopping"
            raise CommandError(
                f"Roundhouse already runs with the data in {self.data} ({text}); "
                "stop it with Ctrl-C there, or choose other --data and --base-port"
            ) from error

    def _check_ports(self) -> None:
        config = self.yard.config
        taken = []
        for program in self._serving():
            grpc, http = config.counted_ports(program.name)
            uses = [("HTTP", http)] if program.is_console else [("gRPC", grpc), ("REST", http)]
            if tls := config.tls_port(program.name):
                uses.append(("gRPC over TLS", tls))
            for use, port in uses:
                if ports.is_taken(config.host, port):
                    taken.append(f"  {port} ({program.name} {use}) by {ports.holder(port)}")
        if taken:
            lines = "\n".join(taken)
            raise CommandError(
                f"ports are taken; end what holds them or choose another --base-port:\n{lines}"
            )

    def _write_configuration(self) -> None:
        text = supervisor.configuration(
            self.programs,
            run=self.run_folder,
            logs=self.logs_folder,
            stop_seconds=int(self.yard.config.stop_grace.total_seconds()) + _EXTRA,
        )
        path = self.run_folder / supervisor.CONFIGURATION
        path.write_text(text)
        path.chmod(0o600)
        (self.run_folder / supervisor.SOCKET).unlink(missing_ok=True)
        self.followers = {p.name: Follower(self.logs_folder / f"{p.name}.log") for p in self.programs}

    def _environment(self) -> dict[str, str]:
        """What the children get: our variables, and the options given here."""
        config = self.yard.config
        return os.environ | config.environment(
            data=str(self.data),
            base_port=str(config.base_port),
            store=config.store,
            only=config.only,
            pods_jobs=config.pods_jobs or self._jobs(),
            catalogue=config.catalogue or suite.catalogue(),
        )

    def _jobs(self) -> str:
        """Where the pods service finds the jobs whose pods it exports; empty when none run here."""
        running = any(program.name == "jobs" for program in self.programs)
        return suite.targets(self.yard.config)["jobs"] if running else ""

    async def _supervise(self) -> int:
        self.signals.listen()
        names = ", ".join(program.name for program in self.programs)
        say(f"starting {names} (data in {self.data})")
        process = await supervisor.start(self.run_folder, self._environment())
        tasks = [
            asyncio.create_task(self._read(process)),
            asyncio.create_task(self._wake(process)),
            asyncio.create_task(self._follow()),
            asyncio.create_task(self._announce()),
        ]
        ended = asyncio.create_task(process.wait())
        asked = asyncio.create_task(self.signals.stop.wait())
        try:
            await _first(ended, asked, beside=tasks)
            if ended.done():
                return self._supervisor_died(ended.result())
            tasks[-1].cancel()
            return await self._stop(process, ended)
        finally:
            await self._end(process)
            await self._end_pods()
            left = [*tasks, asked, *self.recovering]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            event = self.reader.event(line.decode(errors="replace").rstrip())
            if event is not None and not self.signals.stop.is_set():
                self._tell(event)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Died):
            say(f"{event}; its log: {self.logs_folder / event.program}.log")
            follower = self.followers[event.program]
            for line in tail(follower.path, 5, after=follower.start):
                say(f"    {line}")
        elif isinstance(event, Spawned):
            self.followers[event.program].mark()
            if event.again:
                say(f"{event.program} is started again (pid {event.pid})")
                if any(program.name == event.program for program in self._serving()):
                    task = asyncio.create_task(self._recovered(event))
                    self.recovering.add(task)
                    task.add_done_callback(self.recovering.discard)
        elif isinstance(event, Said):
            say(f"supervisor: {event.text}")

    async def _wake(self, process: asyncio.subprocess.Process) -> None:
        """supervisord sleeps a second before it spawns anything, unless its socket is touched."""
        while process.returncode is None and not self.reader.pids:
            supervisor.wake(self.run_folder)
            await asyncio.sleep(_POLL)

    async def _follow(self) -> None:
        while True:
            for name, follower in self.followers.items():
                for line in follower.read():
                    say(f"{name}: {line}")
            await asyncio.sleep(0.5)

    async def _announce(self) -> None:
        """Wait for every /readyz, then say where everything is."""
        await self._ready()
        config = self.yard.config
        seconds = time.monotonic() - self.started
        lines = [f"Roundhouse is ready in {seconds:.1f} s; data and logs are in {self.data}"]
        for program in self._serving():
            if program.is_console:
                lines.append(f"  console      {await self._sign_in()}")
            else:
                url = suite.base_url(config, program.name)
                lines.append(f"  {program.name:<12} gRPC {suite.targets(config)[program.name]}, REST {url}")
        for name, follower in self.followers.items():
            lines += [f"  {name} warns: {said}" for said in warnings(follower.path, after=follower.start)]
        lines.append("Ctrl-C stops everything.")
        say("\n".join(lines))

    async def _recovered(self, event: Spawned) -> None:
        """Say when a process that was started again is ready, unless it died again meanwhile."""
        from shared.cli.readiness import Prober

        url = suite.base_url(self.yard.config, event.program)
        async with Prober(tls_ca=self.yard.config.tls_ca) as prober:
            while self.reader.pids.get(event.program) == event.pid:
                if not await prober.problem(url):
                    say(f"{event.program} is ready again")
                    return
                await asyncio.sleep(_POLL)

    async def _ready(self) -> None:
        from shared.cli.readiness import Prober

        waiting = {program.name: "" for program in self._serving()}
        mention = time.monotonic() + _SLOW
        async with Prober(tls_ca=self.yard.config.tls_ca) as prober:
            while waiting:
                urls = [suite.base_url(self.yard.config, name) for name in waiting]
                problems = await asyncio.gather(*[prober.problem(url) for url in urls])
                waiting = {name: why for name, why in zip(waiting, problems, strict=True) if why}
                if waiting and time.monotonic() > mention:
                    mention += _SLOW
                    for name, why in waiting.items():
                        say(f"still waiting for {name}: {why}; its log: {self.logs_folder / name}.log")
                await asyncio.sleep(_POLL)

    async def _sign_in(self) -> str:
        """The console's URL, with a code that signs in once where tokens are asked for."""
        url = self.yard.config.public_url or suite.base_url(self.yard.config, CONSOLE)
        if not self.yard.config.auth:
            return f"{url} (open to everyone: authentication is switched off)"
        from shared.cli.access import sign_in_link
        from shared.rpc.client import CallFailed

        try:
            link = await sign_in_link(self.yard, subject="operator", role="admin", ttl=timedelta(minutes=10))
        except (CallFailed, click.ClickException) as error:
            return f"{url} (no sign-in link: {error}; try `roundhouse sign-in`)"
        return f"{link}\n{'':<15}signs in once within 10 minutes; `roundhouse sign-in` prints another"

    async def _stop(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> int:
        say("stopping; once more kills")
        began = time.monotonic()
        self._signal(process.pid, signal.SIGTERM)
        hurry = asyncio.create_task(self.signals.hurry.wait())
        grace = self.yard.config.stop_grace.total_seconds() + 2 * _EXTRA
        while not ended.done() and not hurry.done() and time.monotonic() - began < grace:
            supervisor.wake(self.run_folder)
            await asyncio.wait([ended, hurry], timeout=_POLL, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not ended.done():
            await self._end(process)
        if not await self._end_pods() or not ended.done():
            say("killed")
            return 1
        say(f"stopped in {time.monotonic() - began:.1f} s")
        return 0

    def _supervisor_died(self, code: int) -> int:
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        say(f"the supervisor died ({how}); stopping what it ran; its log: {self.run_folder}/supervisord.log")
        for line in tail(self.run_folder / "supervisord.log", 5):
            say(f"    {line}")
        return 1

    async def _end_pods(self) -> bool:
        """What the jobs service runs outlives it, but not this: it runs again with the next start. False:
        it had to be killed."""
        from services.jobs.runtime.keeper_process import KeeperProcess

        runs = any(program.name == "jobs" for program in self.programs)
        keeper = KeeperProcess.of(self.data / "pods") if runs else None
        if keeper is None:
            return True
        with keeper:
            keeper.end()
            ended, hurry = asyncio.create_task(keeper.wait()), asyncio.create_task(self.signals.hurry.wait())
            await asyncio.wait([ended], timeout=max(_SOON, self.signals.deaf()))
            if not ended.done() and not self.signals.hurry.is_set():
                say("waiting for the pods to end; once more kills them")
            await asyncio.wait([ended, hurry], return_when=asyncio.FIRST_COMPLETED)
            gentle = not self.signals.hurry.is_set()
            hurry.cancel()
            if not ended.done():
                keeper.end()
                await asyncio.wait([ended], timeout=_EXTRA)
            if not ended.done():
                keeper.kill()
            await ended
        return gentle

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Leave nothing behind, whatever went wrong. Does nothing after an orderly stop."""
        left = dict(self.reader.pids)
        if process.returncode is None:
            self._signal(process.pid, signal.SIGKILL)
            await process.wait()
        elif process.returncode == 0:
            return
        grace = self.yard.config.stop_grace.total_seconds() + _EXTRA
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 1.0)):
            left = {name: pid for name, pid in left.items() if self._signal(pid, number)}
            end = time.monotonic() + seconds
            while left and time.monotonic() < end and not self.signals.hurry.is_set():
                left = {name: pid for name, pid in left.items() if self._signal(pid, 0)}
                await asyncio.sleep(_POLL)

    @staticmethod
    def _signal(pid: int, number: int) -> bool:
        """False when the process is gone."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

"""Speaks to the keeper of a folder, and starts it when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

import services
from services.jobs.runtime.keeper import protocol
from services.jobs.runtime.port import RuntimeUnavailable, UnknownAttempt

_MODULE: Final = "services.jobs.runtime.keeper"
_ROOT: Final = Path(services.__path__[0]).parent
# Seconds for the keeper to serve, to answer, and until it is asked again whether it serves.
_START: Final = 30.0
_ANSWER: Final = 30.0
_PAUSE: Final = 0.05
_TRIES: Final = 10
# Of the service's environment, what the keeper and its pods may see.
_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
_SAID: Final = 2000

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class KeeperClient:
    """`configuration`: what every keeper that is reached is told first. Calls raise
    RuntimeUnavailable; the next one tries to reach it again."""

    def __init__(self, home: Path, configuration: Mapping[str, Any]) -> None:
        self._home = home
        self._folder = home / ".keeper"
        self._configuration = dict(configuration)
        self._link: _Link | None = None
        self._reaching = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Reach it, starting it when there is none."""
        self._closed = False
        await self._reached()

    async def close(self) -> None:
        self._closed = True
        if self._link is not None:
            await self._link.close()

    async def call(self, op: str, **arguments: Any) -> tuple[dict[str, Any], bytes]:
        """Raises UnknownAttempt as well, and ValueError for arguments that it does not take."""
        link = await self._reached()
        try:
            return await link.call(op, arguments)
        except _Gone:
            # It may have gone long ago; everything may be asked twice.
            return await (await self._reached()).call(op, arguments)

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Records, until the keeper is gone; then RuntimeUnavailable."""
        await self._reached()
        reader, writer = await self._connect()
        try:
            writer.write(protocol.frame({"op": "watch"}))
            while (found := await protocol.read(reader)) is not None:
                yield found[0]["event"]
        except (OSError, ValueError) as error:
            raise RuntimeUnavailable(f"the keeper of {self._home} cannot be understood: {error}") from error
        finally:
            writer.transport.abort()
        raise RuntimeUnavailable(f"the keeper of {self._home} is gone")

    async def _reached(self) -> _Link:
        async with self._reaching:
            if self._closed:
                raise RuntimeUnavailable("the runtime is closed")
            if self._link is None or self._link.gone:
                if self._link is not None:
                    await self._link.close()
                self._link = None
                link = _Link(*await self._connect_or_start())
                try:
                    await link.call("configure", self._configuration)
                except BaseException:
                    await link.close()
                    raise
                self._link = link
            return self._link

    async def _connect_or_start(self) -> Connection:
        try:
            async with asyncio.timeout(_START):
                while True:
                    with contextlib.suppress(_NotThere):
                        return await self._connect()
                    # Another one may have the folder, which does not serve yet, or is about to end.
                    await self._start()
                    for _ in range(_TRIES):
                        with contextlib.suppress(_NotThere):
                            return await self._connect()
                        await asyncio.sleep(_PAUSE)
        except TimeoutError:
            raise RuntimeUnavailable(f"the keeper of {self._home} does not serve: {self._said()}") from None

    async def _connect(self) -> Connection:
        """Raises _NotThere and RuntimeUnavailable."""
        connecting = socket.socket(socket.AF_UNIX)
        connecting.setblocking(False)
        try:
            with protocol.address(self._folder) as path:
                await asyncio.get_running_loop().sock_connect(connecting, path)
        except OSError as error:
            connecting.close()
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN):
                raise _NotThere(f"no keeper serves {self._home}") from error
            raise RuntimeUnavailable(f"the keeper of {self._home} cannot be reached: {error}") from error
        except BaseException:
            connecting.close()
            raise
        reader, writer = await asyncio.open_unix_connection(sock=connecting, limit=protocol.MAX_LINE)
        found = await protocol.read(reader)
        if found is None:
            writer.transport.abort()
            raise _NotThere(f"the keeper of {self._home} ended just now")
        version, pid = found[0].get("version"), found[0].get("pid")
        if version != protocol.VERSION:
            writer.transport.abort()
            raise RuntimeUnavailable(
                f"process {pid} keeps the pods of {self._home} and speaks version {version}; this service "
                f"speaks {protocol.VERSION}. Its pods go on. Send it SIGTERM to end them, and they are run "
                "again here"
            )
        return reader, writer

    async def _start(self) -> None:
        """Returns when one serves, or soon will."""
        variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        command = [sys.executable, "-X", "utf8", "-S", "-P", "-m", _MODULE, str(self._home.absolute())]
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            # It returns at once and has nothing to do with this process from then on.
            started = await asyncio.to_thread(
                subprocess.run,
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**variables, "PYTHONPATH": str(_ROOT)},
                start_new_session=True,
                timeout=_START,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeUnavailable(f"the keeper of {self._home} does not start: {error}") from error
        if started.returncode:
            said = started.stderr.decode(errors="replace").strip()[-_SAID:] or self._said()
            raise RuntimeUnavailable(f"the keeper of {self._home} does not start: {said}")

    def _said(self) -> str:
        try:
            return (self._folder / "log").read_text(errors="replace")[-_SAID:]
        except OSError as error:
            return str(error)


class _NotThere(RuntimeUnavailable):
    """Nobody listens."""


class _Gone(RuntimeUnavailable):
    """The connection broke."""


class _Link:
    """One connection; requests wait for their answers side by side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        # A write has failed: the reader need not have noticed yet.
        self._broken = False
        self._task = asyncio.create_task(self._listen(), name="keeper's answers")

    @property
    def gone(self) -> bool:
        return self._broken or self._task.done()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def call(self, op: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        if self.gone:
            raise _Gone("the keeper is gone")
        id = next(self._ids)
        answer = self._waiting[id] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(protocol.frame({"id": id, "op": op, **arguments}))
            async with asyncio.timeout(_ANSWER):
                await self._writer.drain()
                content, payload = await answer
        except TimeoutError:
            raise RuntimeUnavailable(f"the keeper did not answer within {_ANSWER:g} s") from None
        except ConnectionError as error:
            self._broken = True
            raise _Gone(f"the keeper is gone: {error}") from error
        finally:
            self._waiting.pop(id, None)
        match content.get("error"):
            case None:
                return content, payload
            case protocol.UNKNOWN:
                raise UnknownAttempt(arguments.get("pod_id"))
            case protocol.INVALID:
                raise ValueError(content.get("text"))
            case _:
                raise RuntimeUnavailable(str(content.get("text")))

    async def _listen(self) -> None:
        try:
            while (found := await protocol.read(self._reader)) is not None:
                answer = self._waiting.get(found[0].get("id", 0))
                if answer is not None and not answer.done():
                    answer.set_result(found)
        finally:
            self._writer.transport.abort()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_Gone("the keeper is gone"))

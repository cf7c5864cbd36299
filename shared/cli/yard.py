"""Where the services are and as whom a command calls them."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from shared.cli import failures, lock, suite
from shared.rpc.client import CallFailed, Client
from shared.service.config import Config

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])

TOKEN_FILE: Final = "operator.token"
# The characters of a JWT: others would not even travel as a header.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._=-]*")


class CommandError(click.ClickException):
    """What a command says before it ends with exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.message}", err=True, file=file)


@dataclass(frozen=True, slots=True)
class Yard:
    config: Config
    token_file: Path

    @property
    def token(self) -> str:
        """The bearer token. CommandError when the file cannot be read, unless none is asked for."""
        try:
            text = self.token_file.read_text(errors="replace").strip()
        except OSError as error:
            if not self.config.auth:
                return ""
            raise CommandError(
                f"no token in {self.token_file} ({error.strerror}); the first `make run-all` writes it, "
                "or name another file with --token-file"
            ) from error
        if not text and self.config.auth:
            raise CommandError(f"{self.token_file} is empty; it must hold a token")
        if not _TOKEN.fullmatch(text):
            raise CommandError(
                f"{self.token_file} holds no token, which is one word of letters, digits, '.', '-' and '_'; "
                "`roundhouse token create` prints one"
            )
        return text

    def targets(self) -> dict[str, str]:
        return suite.targets(self.config)

    def elsewhere(self) -> str:
        """Where the `up` on this data is when it is not here; empty when it is, or when there is none."""
        note = lock.read(self.config.data / "run")
        if note is None or note.base_port == self.config.base_port:
            return ""
        return f"the `up` on {self.config.data} counts from another port: use --base-port {note.base_port}"

    def client(self, service: str) -> Client:
        target, tls_ca = self.targets()[service], self.config.tls_ca
        return Client(target, token=self.token, tls_ca=tls_ca, service=service)


def load(
    *, data: Path | None, base_port: int | None, token_file: Path | None = None, **overrides: Any
) -> Yard:
    """From the ROUNDHOUSE_* variables and the options given. Raises InvalidArgument."""
    given = {"data": data, "base_port": base_port, **overrides}
    config = Config.load(**{key: value for key, value in given.items() if value is not None})
    return Yard(config, token_file or config.data / TOKEN_FILE)


def where(command: Command) -> Command:
    """Adds --base-port, --data and --token-file to a command, which gets the Yard they lead to. A call
    that it lets fail becomes a CommandError."""

    @click.option("--base-port", type=click.IntRange(1, 65000), help="Port that all others are counted from.")
    @click.option("--data", type=click.Path(path_type=Path), help="Folder that `up` keeps its data in.")
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="File with the token to call with.  [default: DATA/operator.token]",
    )
    @wraps(command)
    def wrapper(
        *args: Any, base_port: int | None, data: Path | None, token_file: Path | None, **options: Any
    ) -> Any:
        yard = load(data=data, base_port=base_port, token_file=token_file)
        try:
            return command(yard, *args, **options)
        except CallFailed as error:
            told = failures.line(
                error.failure, service=error.service, target=error.target, elsewhere=yard.elsewhere()
            )
            raise CommandError(told) from error

    return wrapper  # type: ignore[return-value]


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """To its end. Raises KeyboardInterrupt at Ctrl-C; once is enough, more of them change nothing."""

    async def interruptible() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupted(number: int, frame: object) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            loop.call_soon_threadsafe(task.cancel)

        signal.signal(signal.SIGINT, interrupted)
        try:
            return await work
        finally:
            if signal.getsignal(signal.SIGINT) is interrupted:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def each(work: dict[str, Awaitable[Result]]) -> dict[str, Result | BaseException]:
    """All at once; a failure stands in the place of its result."""
    results = await asyncio.gather(*work.values(), return_exceptions=True)
    return dict(zip(work, results, strict=True))

"""The console script `roundhouse`: exit code 0, 1 (it failed, in one line), 2 (usage), 130 (Ctrl-C)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from shared import errors

# Command -> module and name in it. Imported when used: `up` starts without grpc, `--help` at once.
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "up": ("up", "up", "Run the services and the console until Ctrl-C."),
    "apply": ("manifest", "apply", "Make the stored objects what a manifest says."),
    "get": ("objects", "get", "Show one object."),
    "list": ("objects", "list_", "List the objects of a kind."),
    "watch": ("watching", "watch", "Follow the objects of a kind."),
    "delete": ("objects", "delete", "Delete one object."),
    "export": ("objects", "export", "Write objects as a manifest that apply takes back."),
    "import": ("imports", "import_", "Read pods or an inventory from a file."),
    "history": ("trail", "history", "Show the versions of one object."),
    "audit": ("trail", "audit", "Show who wrote what."),
    "token": ("access", "token", "Create, list and revoke tokens."),
    "user": ("users", "user", "Store users: their roles and namespaces."),
    "jumpstarter": ("jumpstarter", "jumpstarter", "Connect clients and exporters of a lab."),
    "sign-in": ("access", "sign_in", "Print a link that signs in to the console, once."),
    "doctor": ("doctor", "doctor", "Check the installation and the running services."),
    "backup": ("backup", "backup", "Copy the databases, keys and tokens, consistently."),
}


class Commands(click.Group):
    """Loads a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        return getattr(importlib.import_module(f"shared.cli.{module}"), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="roundhouse")
@click.option("--traceback", is_flag=True, help="Show where in the program an error comes from.")
def cli(traceback: bool) -> None:
    """One operator's yard for five wire-compatible control-plane APIs."""
    _SHOW["traceback"] = traceback


_SHOW = {"traceback": False}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    try:
        result = cli.main(args=arguments, prog_name="roundhouse", standalone_mode=False)
        sys.stdout.flush()
        raise SystemExit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        if _SHOW["traceback"] and error.__cause__ is not None:
            raise
        error.show()
        raise SystemExit(error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader (head, less) has enough. Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        if _SHOW["traceback"]:
            raise
        message, code = explain(error)
        click.echo(f"error: {message}", err=True)
        raise SystemExit(code) from None


def explain(error: Exception) -> tuple[str, int]:
    """One line about what went wrong, and the exit code."""
    if isinstance(error, errors.InvalidArgument):
        return str(error), 2
    if isinstance(error, errors.ApiError):
        return str(error), 1
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error), 1
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} (a bug; `roundhouse --traceback ...` shows where)", 1


if __name__ == "__main__":
    main()

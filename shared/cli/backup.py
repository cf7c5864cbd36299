"""`backup`: a consistent copy of the data folder of embedded SQLite, while everything runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from shared.cli import lock
from shared.cli.yard import TOKEN_FILE, CommandError, Yard, where

# Beside the databases: without the keys no token in them is good any more.
_FOLDERS: Final = ("keys", "tls")


@click.command("backup")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@where
def backup(yard: Yard, folder: Path) -> None:
    """Copy the databases, keys and tokens to DIR, which must be new or empty.

    Services may go on writing: each database is copied as of one moment. To restore, stop
    everything and start with `--data DIR`, or copy DIR to where the data was.

    The files alone are read, so that no token is needed. With --base-port the data must not be that
    of an `up` elsewhere.
    """
    store = yard.config.store
    if store != "sqlite":
        kind = store.partition(":")[0]
        raise CommandError(
            f"the store is {kind}, not sqlite; use its own tools (for MongoDB: mongodump --oplog)"
        )
    source = yard.config.data
    _check_port(source, click.get_current_context().params["base_port"])
    databases = sorted(source.glob("*.db"))
    if not databases:
        raise CommandError(f"{source} holds no databases; name the data folder with --data")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} is not an empty folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in databases:
        size = copy(path, folder / path.name)
        click.echo(f"{path.name}: {size:,} bytes")
    for name in _FOLDERS:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name)
            click.echo(f"{name}/")
    if (source / TOKEN_FILE).is_file():
        shutil.copy2(source / TOKEN_FILE, folder / TOKEN_FILE)
        click.echo(TOKEN_FILE)


def _check_port(source: Path, wanted: int | None) -> None:
    """Who names a port means the suite that is there. Raises CommandError for another one's data."""
    note = lock.read(source / "run")
    if wanted is not None and note is not None and note.base_port != wanted:
        raise CommandError(
            f"{source} is the data of the `up` at base port {note.base_port}, not {wanted}; "
            f"name the folder of the one at {wanted} with --data"
        )


def copy(source: Path, target: Path) -> int:
    """Copy one database as of one moment, durably, and check the copy. Answers its size in bytes.

    One step holds one read transaction: writers of the same file are not disturbed, and cannot
    make it start over. Raises CommandError.
    """
    try:
        with (
            closing(sqlite3.connect(source.absolute().as_uri() + "?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new, pages=-1)
            # A copy is one file: it needs no log of its own.
            new.execute("PRAGMA journal_mode=DELETE")
            verdict = new.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise CommandError(f"{source}: {error}") from error
    if verdict != "ok":
        raise CommandError(f"{target}: the copy is damaged: {verdict}")
    target.chmod(0o600)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return target.stat().st_size

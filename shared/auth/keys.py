"""Signing keys on disk: `0001.key`, `0002.key`, ... in one folder that every process reads.

The highest number signs, all verify, so a key is rotated by adding a file and retired by deleting
one once the tokens that it signed have expired. The number is the `kid` of a token's header.

The keys are symmetric (HS256). Whoever verifies tokens here is a process of this installation and
may issue them as well, so a public half would protect nothing; in exchange a check costs
microseconds. Nobody outside is ever given a key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 32
_NAME: Final = re.compile(r"(?P<number>[0-9]{4,9})\.key")
# Group may read (secrets mounted for a service account), nobody else may do anything.
_FORBIDDEN_MODE: Final = 0o027

log = logging.getLogger(__name__)


class KeyFault(Exception):
    """A key file that must not be used, or a folder without any. Names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    kid: str
    secret: bytes = field(repr=False)


class KeyRing:
    """The keys of one folder. Rereads it when asked to sign and when it meets an unknown `kid`."""

    def __init__(self, directory: Path) -> None:
        """Use `KeyRing.open`, which makes sure that there is a key."""
        self._directory = directory
        self._keys: dict[str, SigningKey] = {}

    @classmethod
    def open(cls, directory: Path) -> KeyRing:
        """The keys of `directory`, which is created, with a first key, when there is none.

        Several processes may do this at once: they end up with the same key. Raises KeyFault for a
        file that others may read or that holds no key.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ring = cls(directory)
        if not ring._files():
            with contextlib.suppress(FileExistsError):  # a peer was first: its key is ours
                ring._write(1)
        for path in ring._files():
            ring._keys[path.stem] = _read(path)
        return ring

    def newest(self) -> SigningKey:
        """The key that signs. Raises KeyFault when all were taken away."""
        self._reread()
        if not self._keys:
            raise KeyFault(f"{self._directory} holds no signing key any more")
        return self._keys[max(self._keys, key=int)]

    def find(self, kid: str) -> SigningKey | None:
        """The key a token names, which may be younger than this process."""
        if kid not in self._keys:
            self._reread()
        return self._keys.get(kid)

    def rotate(self) -> SigningKey:
        """Add a key, which signs from now on in every process. Earlier ones go on verifying."""
        while True:
            number = max((int(path.stem) for path in self._files()), default=0) + 1
            with contextlib.suppress(FileExistsError):
                self._write(number)
                return self.newest()

    def _files(self) -> list[Path]:
        found = (path for path in self._directory.iterdir() if _NAME.fullmatch(path.name))
        return sorted(found, key=lambda path: int(path.stem))

    def _reread(self) -> None:
        """Follow the folder. A bad new file is left aside with a warning: the old keys go on."""
        found: dict[str, SigningKey] = {}
        for path in self._files():
            known = self._keys.get(path.stem)
            try:
                found[path.stem] = known or _read(path)
            except (KeyFault, OSError) as error:
                log.warning("a signing key is left aside", extra={"error": str(error)})
        self._keys = found

    def _write(self, number: int) -> None:
        """A new key, whole or not at all; FileExistsError when the number is taken."""
        target = self._directory / f"{number:04}.key"
        temporary = self._directory / f".{secrets.token_hex(8)}.tmp"
        write_private(temporary, base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        try:
            # Unlike a rename, a link never replaces what is there.
            os.link(temporary, target)
        finally:
            temporary.unlink()
        sync_directory(self._directory)


def _read(path: Path) -> SigningKey:
    mode = path.stat().st_mode & 0o777
    if mode & _FORBIDDEN_MODE:
        raise KeyFault(f"{path} has mode {mode:04o}: others may read it; chmod 600 it, or replace it")
    try:
        secret = base64.urlsafe_b64decode(path.read_bytes().strip())
    except (binascii.Error, ValueError) as error:
        raise KeyFault(f"{path} is not base64") from error
    if len(secret) < KEY_BYTES:
        raise KeyFault(f"{path} holds {len(secret)} bytes; a key has at least {KEY_BYTES}")
    return SigningKey(path.stem, secret)


def write_private(path: Path, content: bytes) -> None:
    """Create `path` with mode 0600 and `content`, on the disk when this returns. Raises
    FileExistsError when there is such a file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make a created or renamed entry of `path` survive power loss."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

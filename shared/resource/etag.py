"""Entity tags: the revision of a resource's last write, opaque to callers."""

from __future__ import annotations

from shared.errors import Aborted, InvalidArgument


def etag(revision: int) -> str:
    return f'"r{revision}"'


def revision(text: str, *, parameter: str = "etag") -> int:
    """The revision in an etag. Raises InvalidArgument naming `parameter`."""
    digits = text.removeprefix('"r').removesuffix('"')
    if etag_of(digits) != text:
        raise InvalidArgument.at(parameter, f"{text!r} is no etag of this server")
    return int(digits)


def etag_of(digits: str) -> str:
    return etag(int(digits)) if digits.isascii() and digits.isdigit() else ""


def check(text: str, current: int, *, kind: str, name: str) -> None:
    """Nothing when `text` is empty or the etag of `current`; Aborted otherwise."""
    if text and revision(text) != current:
        raise Aborted(f"{name} was changed meanwhile; read it again", kind=kind, name=name)

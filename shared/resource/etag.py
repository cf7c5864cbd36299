"""Entity tags: the revision of a resource's last write, opaque to callers."""

from __future__ import annotations

import re

from shared.errors import Aborted, InvalidArgument

_FORM = re.compile(r'"r(0|[1-9][0-9]{0,18})"')


def etag(revision: int) -> str:
    return f'"r{revision}"'


def revision(text: str, *, parameter: str = "etag") -> int:
    """The revision in an etag. Raises InvalidArgument naming `parameter`."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidArgument.at(parameter, f"{text[:100]!r} is no etag of this server")
    return int(match[1])


def check(text: str, current: int, *, kind: str, name: str) -> None:
    """Nothing when `text` is empty or the etag of `current`; Aborted otherwise."""
    if text and revision(text) != current:
        raise Aborted(f"{name} was changed meanwhile; read it again", kind=kind, name=name)

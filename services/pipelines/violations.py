"""Names of stored fields as the caller's API version spells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shared.errors import InvalidArgument, Violation


@contextmanager
def renamed(paths: Mapping[str, str]) -> Iterator[None]:
    """Turn the field names in an InvalidArgument raised within into those of `paths`."""
    try:
        yield
    except InvalidArgument as error:
        named = [Violation(paths.get(v.field, v.field), v.description) for v in error.violations]
        raise (InvalidArgument.of(named) if named else error) from error

"""Names and marks of the documents that the MongoDB store keeps."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from shared.storage.mongo_driver import Document, size_of
from shared.storage.port import Author, Kind

# `until` of a version that is current, and of one that is still being written: no revision is below
# 0, so nobody sees it.
OPEN = 2**63 - 1
PENDING = 0

# MongoDB holds 16 MiB a document; the rest is for names, marks and the wire.
LARGEST_DOCUMENT = 16 * 2**20 - 256 * 2**10
_DEEPEST = 80
_ESCAPES = str.maketrans({"%": "%25", ".": "%2E", "$": "%24", "\0": "%00"})
_LOGGER = logging.getLogger(__name__)


def escaped(key: str) -> str:
    """`key` as a field or collection name that MongoDB can hold and query, whatever it contains."""
    return key.translate(_ESCAPES)


def version_id(revision: int, name: str) -> str:
    """The id of the version of `name` that `revision` made."""
    return f"{revision}:{name}"


def author_document(by: Author) -> Document:
    return {"subject": by.subject, "action": by.action, "request_id": by.request_id}


def author_of(document: Mapping[str, str]) -> Author:
    return Author(document["subject"], document["action"], document["request_id"])


def readable(kind: Kind | None, body: bytes, *, room: int) -> Document | None:
    """The message for people to read, if its kind offers one and `room` bytes hold it.

    Nothing reads it back, so one that cannot be made is left out rather than failing a write.
    """
    if kind is None or kind.document is None:
        return None
    try:
        document = _mapping(kind.document(body), _DEEPEST)
        fits = size_of(document) <= room
    except Exception:
        _LOGGER.warning("no readable document of a %s", kind.name, exc_info=True)
        return None
    return document if fits else None


def _mapping(document: Mapping[str, object], depth: int) -> Document:
    return {escaped(str(key)): _plain(value, depth - 1) for key, value in document.items()}


def _plain(value: object, depth: int) -> object:
    if depth <= 0:
        return str(value)
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, bool | float | str | bytes) or value is None:
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return str(value)

"""Protobuf wire format by hand, for answers made of stored bytes: lists that parse nothing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """A non-negative integer as protobuf writes it."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def messages(field: int, bodies: Iterable[bytes]) -> bytes:
    """Elements of a repeated message field, serialized already."""
    tag = varint(field << 3 | 2)
    return b"".join([tag + varint(len(body)) + body for body in bodies])


def text(field: int, value: str) -> bytes:
    """A string field; nothing when empty."""
    data = value.encode()
    return varint(field << 3 | 2) + varint(len(data)) + data if data else b""


def integer(field: int, value: int) -> bytes:
    """A non-negative integer field; nothing when 0."""
    return varint(field << 3) + varint(value) if value else b""

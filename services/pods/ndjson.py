"""What is fed as JSON, an object a line: pods bare or as the export writes them, and inventory rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from shared.errors import InvalidArgument
from shared.pb.roundhouse.podfeed.v1 import podfeed_pb2 as pb
from shared.pb.roundhouse.pods.v1.pods_pb2 import Cluster, Deployment
from shared.pb.storage.pod_pb2 import Pod
from shared.rest import json_reader, scalars
from shared.rest.json_reader import Reading

T = TypeVar("T", bound=Message)
# Bytes of a line.
MAX_LINE: Final = 4 << 20


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """The lines that are not blank, counted from 1. Raises InvalidArgument for one that is too long."""
    splitter = Splitter()
    async for chunk in chunks:
        for line in splitter.feed(chunk):
            yield line
    for line in splitter.end():
        yield line


class Splitter:
    """Cuts pieces of text into its lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise self._too_long(self._number + len(whole) + 1)
        for line in whole:
            yield from self._line(line)

    def end(self) -> Iterator[tuple[int, bytes]]:
        rest, self._rest = self._rest, b""
        yield from self._line(rest)

    def _line(self, line: bytes) -> Iterator[tuple[int, bytes]]:
        self._number += 1
        if len(line) > MAX_LINE:
            raise self._too_long(self._number)
        if line.strip():
            yield self._number, line

    def _too_long(self, number: int) -> InvalidArgument:
        return InvalidArgument.at(place(number), f"is longer than {MAX_LINE} bytes")


def place(number: int) -> str:
    """How errors name a line."""
    return f"line {number}"


def pod(number: int, line: bytes) -> Pod:
    """Raises InvalidArgument; also for what an export answers that failed, be it its last line or, before
    the first one, its whole body."""
    value = _loads(number, line)
    if isinstance(value, dict) and (said := _failure(value)) is not None:
        raise InvalidArgument.at(
            place(number), f"the export that is fed did not end well: {scalars.quoted(said)}"
        )
    if isinstance(value, dict) and isinstance(value.get("result"), dict):
        value = value["result"].get("pod")
    return _read(Pod, value, number)


def _failure(value: dict[str, Any]) -> str | None:
    """What a RuntimeStreamError or a RuntimeError says; None: it is neither."""
    error = value.get("error")
    if isinstance(error, dict):
        return str(error.get("message", ""))
    return error if isinstance(error, str) and "code" in value else None


def inventory_item(number: int, line: bytes) -> pb.InventoryItem:
    """Raises InvalidArgument."""
    value = _loads(number, line)
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "cluster":
        return pb.InventoryItem(cluster=_read(Cluster, value, number))
    if kind == "deployment":
        return pb.InventoryItem(deployment=_read(Deployment, value, number))
    raise InvalidArgument.at(f"{place(number)}: kind", 'must be "cluster" or "deployment"')


def _loads(number: int, line: bytes) -> Any:
    try:
        return json_reader.loads(line)
    except ValueError as error:
        raise InvalidArgument.at(place(number), str(error)) from None


def _read(kind: Callable[[], T], value: Any, number: int) -> T:
    reading, message = Reading("ignore"), kind()
    json_reader.read_message(message, value, reading)
    if reading.errors:
        first = reading.errors[0]
        field = place(number) if first.field == "body" else f"{place(number)}: {first.field}"
        raise InvalidArgument.at(field, first.description)
    return message

"""A light gRPC client: HTTP/2 frames by hand, some 2 µs a message, so that a thousand streams of one
process never are the bottleneck. It speaks to servers on this machine, over plain text only.

It reads no header of an answer: a call that ends without a message has failed.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from typing import Final, Self

from bench.client import BadAnswer

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_WINDOW_MOST: Final = 2**31 - 1
_HEAD: Final = struct.Struct(">HBBBI")
_TIMEOUT: Final = 60.0
# Receives one message; None is the end of its stream.
OnMessage = Callable[[bytes | None], None]


class Connection(asyncio.Protocol):
    """Windows are as wide as they get, so that no server ever waits for this client. Requests must
    fit into one frame, and be few enough that the server's own window is no limit."""

    def __init__(self, port: int) -> None:
        self._authority = f"127.0.0.1:{port}"
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._next = 1
        self._received = 0
        self._streams: dict[int, OnMessage] = {}
        self._parts: dict[int, bytes] = {}

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._streams.clear()
        if self._transport is not None:
            self._transport.close()

    def open(
        self, path: str, message: bytes, headers: Mapping[str, str], heard: OnMessage, *, end: bool = True
    ) -> None:
        """Start a call; with `end` nothing more is sent on it."""
        assert self._transport is not None
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": self._authority,
            "content-type": "application/grpc",
            "te": "trailers",
            **headers,
        }
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        body = b"\0" + len(message).to_bytes(4, "big") + message
        stream, self._next = self._next, self._next + 2
        self._streams[stream] = heard
        self._transport.write(
            _frame(_HEADERS, _END_HEADERS, stream, block)
            + _frame(_DATA, _END_STREAM if end else 0, stream, body)
        )

    async def call(self, path: str, message: bytes, headers: Mapping[str, str]) -> bytes:
        """The answer to a unary call. Raises BadAnswer."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def heard(found: bytes | None) -> None:
            if answer.done():
                return
            if found is None:
                answer.set_exception(BadAnswer(f"{path} failed"))
            else:
                answer.set_result(found)

        self.open(path, message, headers, heard)
        async with asyncio.timeout(_TIMEOUT):
            return await answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # No table of headers, no push, the widest window of each stream.
        settings = struct.pack(">HIHIHI", 1, 0, 2, 0, 4, _WINDOW_MOST)
        window = (_WINDOW_MOST - 65535).to_bytes(4, "big")
        transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, window))

    def connection_lost(self, error: Exception | None) -> None:
        for heard in list(self._streams.values()):
            heard(None)
        self._streams.clear()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while size - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
            end = at + 9 + (high << 8 | low)
            if end > size:
                break
            if kind == _DATA:
                self._data(stream & _WINDOW_MOST, buffer[at + 9 : end], bool(flags & _END_STREAM))
            else:
                self._control(kind, flags, stream & _WINDOW_MOST, buffer[at + 9 : end])
            at = end
        self._buffer = buffer[at:]

    def _data(self, stream: int, payload: bytes, end: bool) -> None:
        assert self._transport is not None
        self._received += len(payload)
        if self._received > 1 << 20:
            self._transport.write(_frame(_WINDOW, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0
        heard = self._streams.get(stream)
        if heard is None:
            return
        payload = self._parts.pop(stream, b"") + payload
        at = 0
        while len(payload) - at >= 5:
            stop = at + 5 + int.from_bytes(payload[at + 1 : at + 5], "big")
            if stop > len(payload):
                break
            heard(payload[at + 5 : stop])
            at = stop
        if at < len(payload):
            self._parts[stream] = payload[at:]
        if end:
            self._ended(stream)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        assert self._transport is not None
        if kind == _SETTINGS and not flags & _ACK:
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _RESET or (kind == _HEADERS and flags & _END_STREAM):
            self._ended(stream)
        elif kind == _GOAWAY:
            self._transport.close()

    def _ended(self, stream: int) -> None:
        heard = self._streams.pop(stream, None)
        if heard is not None:
            heard(None)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def _text(value: str) -> bytes:
    """A header's name or value as a literal of HPACK, not compressed."""
    data, size = value.encode(), len(value.encode())
    if size < 127:
        return bytes((size,)) + data
    out, rest = bytearray((127,)), size - 127
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out) + data

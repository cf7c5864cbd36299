"""Bodies on their way in and out: size limits and gzip."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from shared.errors import InvalidArgument

# Seconds that a client may take to send a body.
RECEIVE_TIMEOUT: Final = 30.0
# Smaller answers are not worth compressing.
GZIP_FROM: Final = 1400
# Seconds that a body which is read as it arrives may stand still.
PAUSE: Final = 300.0
# Bytes of it that are decompressed at a time.
_PIECE: Final = 1 << 20
_GZIP: Final = 16 + zlib.MAX_WBITS
_LEVEL: Final = 5
# Above this, compressing holds the event loop too long.
_THREAD_FROM: Final = 256 * 1024


class BrokenBody(Exception):
    """The body cannot be read; the text completes "body: "."""


_MISCODED: Final = "is not encoded as its headers say"


async def receive(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body, decompressed. Reads no more than the limit: above it, BrokenBody.

    The server must not decompress by itself (SERVER_OPTIONS): where that fails it cuts the
    connection off under the caller's next request, read or not.
    """
    if not request.can_read_body:
        return b""
    too_long = BrokenBody(f"is longer than the limit of {limit} bytes")
    if (request.content_length or 0) > limit:
        raise too_long
    chunks, size = [], 0
    try:
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            while chunk := await request.content.readany():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise too_long
    except TimeoutError:
        raise BrokenBody(f"did not arrive within {RECEIVE_TIMEOUT:.0f} s") from None
    except (web.RequestPayloadError, aiohttp.ClientPayloadError, HttpProcessingError):
        raise BrokenBody(_MISCODED) from None
    data = _decoded(b"".join(chunks), request.headers.get("Content-Encoding", "").strip().lower(), limit)
    if len(data) > limit:
        raise too_long
    return data


async def pieces(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """The body as it arrives, decompressed, without a limit to all of it. Raises InvalidArgument; a
    client that went away cancels whoever reads."""
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise InvalidArgument.at("body", f"is encoded as {coding[:50]!r}; gzip is understood")
    decoder = zlib.decompressobj(_GZIP) if coding not in ("", "identity") else None
    try:
        while True:
            async with asyncio.timeout(PAUSE):
                data = await request.content.readany()
            if not data:
                break
            while data:
                yield data if decoder is None else decoder.decompress(data, _PIECE)
                data = b"" if decoder is None else decoder.unconsumed_tail
        if decoder is not None:
            yield decoder.flush()
    except TimeoutError:
        raise InvalidArgument.at("body", f"nothing more of it arrived for {PAUSE:.0f} s") from None
    except (zlib.error, web.RequestPayloadError, aiohttp.ClientPayloadError, HttpProcessingError):
        raise InvalidArgument.at("body", _MISCODED) from None
    if decoder is not None and (not decoder.eof or decoder.unused_data):
        raise InvalidArgument.at("body", _MISCODED)


def _decoded(data: bytes, coding: str, limit: int) -> bytes:
    """At most one byte more than the limit."""
    if not data or coding in ("", "identity"):
        return data
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise BrokenBody(f"is encoded as {coding[:50]!r}; gzip and deflate are understood")
    # Some clients send deflate without the zlib header that the standard asks for.
    bare = coding == "deflate" and data[0] & 0x0F != 8
    decoder = zlib.decompressobj(-zlib.MAX_WBITS if bare else 32 + zlib.MAX_WBITS)
    try:
        found = decoder.decompress(data, limit + 1)
    except zlib.error:
        raise BrokenBody(_MISCODED) from None
    if len(found) <= limit and (not decoder.eof or decoder.unused_data):
        raise BrokenBody(_MISCODED)
    return found


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the header names gzip (or "*") with a quality above 0."""
    if not accept_encoding:
        return False
    for item in accept_encoding.lower().split(","):
        name, _, parameters = item.partition(";")
        if name.strip() in ("gzip", "*"):
            quality = parameters.replace(" ", "").removeprefix("q=")
            return not quality.startswith("0") or quality.strip("0.") != ""
    return False


async def compressed(data: bytes) -> bytes:
    if len(data) > _THREAD_FROM:
        return await asyncio.to_thread(_compress, data)
    return _compress(data)


def _compress(data: bytes) -> bytes:
    compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)
    return compressor.compress(data) + compressor.flush()


class GzipStream:
    """Compresses piece by piece; what was put in can be read at once at the other end."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)

    def piece(self, data: bytes) -> bytes:
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._compressor.flush()

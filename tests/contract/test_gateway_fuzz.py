"""Whatever bytes arrive over HTTP, the answer is never INTERNAL or UNKNOWN."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.gateway_server import DEADLINE, EXPERIMENTS, serving

ROUTES = [EXPERIMENTS.encode(), b"/admin/v1/experiment:watch", b"/v1/export/pods"]
KNOWN = [b"apis", b"v1beta1", b"experiments", b"admin", b"v1", b"x:watch", b"x:archive", b"export", b"pods"]
ODD = [b"%2F", b"%", b"%FF", b":", b"..", b"", b"\xff\xfe", b"*", b"{id}", b"signInCodes:redeem", b"access"]
SEGMENT = st.sampled_from([*KNOWN, *ODD])
PATH = st.one_of(
    st.lists(SEGMENT, max_size=5).map(lambda parts: b"/" + b"/".join(parts)),
    st.sampled_from(ROUTES),
    SEGMENT.map(lambda segment: ROUTES[0] + b"/" + segment),
)
FIELDS = [
    b"page_size",
    b"pageSize",
    b"filter",
    b"resource_reference_key.type",
    b"resource_reference_key",
    b"id",
]
ODD_NAMES = [b"=&", b"%", b"", b"..", b"pretty", b"resume_token", b"%00", b"resourceReferenceKey.id"]
VALUES = [b"1", b"-1", b"99999999999999999999", b"NAMESPACE", b"%ff", b"%zz", b"fails", b"bad", b""]
PRINTABLE = st.binary(max_size=6).map(lambda data: bytes(b for b in data if b > 32 and b not in b"#\x7f"))
PAIR = st.tuples(st.sampled_from([*FIELDS, *ODD_NAMES]), st.sampled_from(VALUES) | PRINTABLE)
QUERY = st.lists(PAIR.map(b"=".join), max_size=4).map(b"&".join)
KEYS = st.sampled_from(["name", "id", "createdAt", "resource_references", "key", "type", "code", "x", ""])
SCALAR = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text("ab\0é☃", max_size=4)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
BROKEN = [b"", b"{", b"{}", b"null", b"[[[[", b'{"name":', b'{"name":null}', b"\xef\xbb\xbf{}"]
BODY = st.binary(max_size=40) | st.sampled_from(BROKEN) | JSON.map(orjson.dumps)
HEADERS = [
    b"Accept: text/event-stream",
    b"Accept-Encoding: gzip",
    b"Accept-Encoding: ;;,q=",
    b"Authorization: \xff",
    b"Content-Encoding: br",
    b"Content-Encoding: gzip",
    b"Content-Length: 5",
    b"Content-Type: multipart/form-data; boundary=x",
    b"Expect: 100-continue",
    b"Expect: much",
    b"Last-Event-ID: \xff",
    b"Transfer-Encoding: gzip",
    b"Upgrade: websocket",
    b"X-Request-Id: \xff",
]
VERB = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS", b"TRACE", b"FOO"])


async def test_never_internal_or_unknown_whatever_the_bytes(scale: Callable[[int, int], int]) -> None:
    """Requests are drawn in a thread, so that one server and one loop serve all of them."""
    loop = asyncio.get_running_loop()
    seen: set[int] = set()
    async with serving() as server:

        @settings(max_examples=scale(400, 4000), deadline=None, derandomize=True)
        @given(
            verb=VERB,
            path=PATH,
            query=QUERY,
            headers=st.lists(st.sampled_from(HEADERS), max_size=3),
            body=BODY,
        )
        def check(verb: bytes, path: bytes, query: bytes, headers: list[bytes], body: bytes) -> None:
            head = [
                verb + b" " + path + (b"?" + query if query else b"") + b" HTTP/1.1",
                b"Host: x",
                *headers,
            ]
            head += [b"Content-Length: " + str(len(body)).encode(), b"Connection: close"]
            if not any(header.startswith(b"Authorization") for header in headers):
                head.append(b"Authorization: Bearer good")
            data = b"\r\n".join(head) + b"\r\n\r\n" + body
            answer = asyncio.run_coroutine_threadsafe(server.raw(data), loop).result(2 * DEADLINE)
            answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
            status = int(answer.split(b" ", 2)[1])
            seen.add(status)
            # 501 is how the style of the export says "wrong verb".
            assert status < 500 or (status == 501 and path == b"/v1/export/pods"), answer[:500]
            top, _, text = answer.partition(b"\r\n\r\n")
            if status >= 400 and verb != b"HEAD" and b"application/json" in top:
                assert orjson.loads(text)["code"] not in (2, 13), answer[:500]

        await asyncio.to_thread(check)
    # Without one of these the requests are not what they are meant to be.
    assert {200, 400, 404, 405} <= seen

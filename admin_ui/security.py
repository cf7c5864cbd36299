"""What browsers are told, and which writes are believed to come from our own pages."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Everything comes from the console itself; nothing inline runs; nobody frames it.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Same-origin, not none: a browser then sends Origin with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_LOOPS: Final = ("/sign-in", "/sign-out")


class CrossSite(web.HTTPForbidden):
    """A write that did not come from one of the console's own pages."""


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """On every response, streams included. Pages are private: only files may be kept."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")


def same_origin(public_url: str = "") -> Middleware:
    """Middleware that raises CrossSite for an unsafe method unless the browser says that one of our
    own pages sent it: by Sec-Fetch-Site, which pages cannot forge, else by Origin."""
    public = urlsplit(public_url).netloc.lower()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in SAFE_METHODS and not _is_own(request, public):
            raise CrossSite
        return await handler(request)

    return middleware


def _is_own(request: web.Request, public: str) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = urlsplit(request.headers.get("Origin", "")).netloc.lower()
    return bool(origin) and origin in (request.host.lower(), public)


def safe_next(target: str | None, default: str = "/") -> str:
    """`target` when it is a path of this console, else `default`: never another host, never a page
    that signs in or out."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return default
    # Browsers drop tabs and line ends, and read a backslash as a slash.
    if any(ord(character) < 0x20 or character in "\\\x7f" for character in target):
        return default
    try:
        parts = urlsplit(target)
    except ValueError:
        return default
    if parts.scheme or parts.netloc or parts.path.rstrip("/") in _LOOPS:
        return default
    return target

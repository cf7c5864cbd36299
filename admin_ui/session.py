"""Who is signed in: an encrypted cookie that holds the bearer token, and what the services say of it."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from aiohttp import web
from aiohttp_session import get_session, new_session
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet

from admin_ui.clients import Caller, Clients
from shared.pb.roundhouse.admin.v1 import access_pb2
from shared.rpc.client import CallFailed
from shared.service.config import Config

KEY_FILE: Final = "console.key"
# Seconds for which an answer of WhoAmI is believed. Services decide about every call anyway.
BELIEVED: Final = 5.0
REMEMBERED: Final = 1000

# Seconds since 1970.
Clock = Callable[[], float]
CLOCK: Final[web.AppKey[Clock]] = web.AppKey("clock")

_TOKEN: Final = "token"
_SUBJECT: Final = "subject"
_ROLE: Final = "role"
_UNTIL: Final = "until"
_OWNED: Final = "owned"
_FLASH: Final = "flash"


def load_key(folder: Path) -> bytes:
    """The key of the session cookie, made at first use with mode 0600.

    Of several processes that start at once one makes it and all use it.
    """
    path = folder / KEY_FILE
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder / f".{KEY_FILE}.{os.getpid()}"
    if not path.exists():
        fresh.touch(mode=0o600)
        fresh.write_bytes(Fernet.generate_key())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass  # a peer was first: its key counts
        finally:
            fresh.unlink()
    return path.read_bytes().strip()


def is_secure(config: Config) -> bool:
    """People reach the console over https, directly or through a proxy."""
    return bool(config.tls_cert) or config.public_url.startswith("https:")


def cookie_name(config: Config) -> str:
    """Browsers do not tell ports apart: two consoles of one host need two names."""
    name = f"roundhouse_{config.ports('console')[1]}"
    return f"__Host-{name}" if is_secure(config) else name


def storage(config: Config, key: bytes) -> EncryptedCookieStorage:
    return EncryptedCookieStorage(
        Fernet(key),
        cookie_name=cookie_name(config),
        max_age=int(config.console_session.total_seconds()),
        path="/",
        httponly=True,
        secure=is_secure(config),
        samesite="Lax",
    )


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks at a page. `verified` False: no service could say; nothing is permitted then."""

    subject: str
    role: str
    permissions: frozenset[str] = field(default_factory=frozenset)
    expires_at: float | None = None
    token_id: str = ""
    verified: bool = True

    def may(self, permission: str) -> bool:
        return permission in self.permissions


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What the cookie holds. `owned`: the token was made for this session and ends with it."""

    token: str
    subject: str
    role: str
    until: float
    owned: bool


async def signed_in(request: web.Request) -> SignedIn | None:
    """The session of this request, if there is one that has not ended."""
    session = await get_session(request)
    token = session.get(_TOKEN)
    if not isinstance(token, str):
        return None
    found = SignedIn(
        token,
        str(session.get(_SUBJECT, "")),
        str(session.get(_ROLE, "")),
        float(session.get(_UNTIL, 0)),
        bool(session.get(_OWNED)),
    )
    return found if request.app[CLOCK]() < found.until else None


async def sign_in(request: web.Request, token: str, person: Person, *, lasts: float, owned: bool) -> None:
    """Starts a new session, never one that was there before."""
    until = request.app[CLOCK]() + lasts
    if person.expires_at is not None:
        until = min(until, person.expires_at)
    session = await new_session(request)
    session.update(
        {_TOKEN: token, _SUBJECT: person.subject, _ROLE: person.role, _UNTIL: until, _OWNED: owned}
    )


async def sign_out(request: web.Request) -> None:
    (await get_session(request)).invalidate()


async def flash(request: web.Request, text: str, *, tone: str = "ok", **extra: Any) -> None:
    """Shown once, on the next page. `extra` may hold `undo` and `link` (see flash.html)."""
    session = await get_session(request)
    session[_FLASH] = [*session.get(_FLASH, [])[-2:], {"text": text[:500], "tone": tone, **extra}]


async def take_flashes(request: web.Request) -> list[dict[str, Any]]:
    session = await get_session(request)
    if not session.get(_FLASH):
        return []
    found: list[dict[str, Any]] = session[_FLASH]
    del session[_FLASH]
    return found


async def remember(request: web.Request, name: str, value: str) -> None:
    """For this session; the cookie is written only when the value is new."""
    session = await get_session(request)
    if session.get(name) != value:
        session[name] = value


async def recall(request: web.Request, name: str) -> str:
    return str((await get_session(request)).get(name, ""))


class People:
    """What the services say of a token, believed for a few seconds."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: OrderedDict[str, tuple[float, Person]] = OrderedDict()

    async def who(self, caller: Caller, *, fresh: bool = False) -> Person:
        """Raises CallFailed: UNAUTHENTICATED for a token that is not (or no longer) valid, and
        UNAVAILABLE when no service answers and the token was never seen."""
        known = self._known.get(caller.token)
        if known is not None and not fresh and time.monotonic() - known[0] < BELIEVED:
            return known[1]
        try:
            answer = await caller.access("WhoAmI", access_pb2.WhoAmIRequest())
        except CallFailed as error:
            if error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
                self._known.pop(caller.token, None)
            elif known is not None:
                return known[1]
            raise
        person = Person(
            subject=answer.subject,
            role=answer.role,
            permissions=frozenset(answer.permissions),
            expires_at=answer.expire_time.seconds if answer.HasField("expire_time") else None,
            token_id=answer.token_id,
        )
        self._known[caller.token] = (time.monotonic(), person)
        self._known.move_to_end(caller.token)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return person

    def forget(self, token: str) -> None:
        self._known.pop(token, None)

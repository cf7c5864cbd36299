"""Bearer tokens: JWTs that this installation signs and nobody else reads.

Claims: `iss` (always "roundhouse"), `sub`, `role`, `jti`, `iat`, `exp`; all are required and other
ones are ignored. Times are whole seconds since 1970.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

from shared.auth.keys import KeyRing
from shared.errors import InvalidArgument, Unauthenticated

ISSUER: Final = "roundhouse"
# Pinned: what a token's header says about its algorithm is never believed.
ALGORITHM: Final = "HS256"
MIN_TTL: Final = timedelta(seconds=1)
MAX_TTL: Final = timedelta(days=400)
# Far above any token of ours; bounds the work on a forged one.
MAX_LENGTH: Final = 4096

# Seconds since 1970.
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Claims:
    subject: str
    role: str
    token_id: str
    issued_at: int
    expires_at: int


def new_token_id() -> str:
    """128 random bits."""
    return secrets.token_hex(16)


class Tokens:
    """Issues and verifies with the keys of a ring."""

    def __init__(
        self, keys: KeyRing, clock: Clock = time.time, new_id: Callable[[], str] = new_token_id
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._new_id = new_id

    def issue(self, subject: str, role: str, ttl: timedelta) -> tuple[str, Claims]:
        """A signed token and what it says. It lives at least `ttl` and less than a second longer.

        Raises InvalidArgument at "ttl" outside MIN_TTL..MAX_TTL.
        """
        if fault := ttl_fault(ttl.total_seconds()):
            raise InvalidArgument.at("ttl", fault)
        now = self._clock()
        expires_at = math.ceil(now + ttl.total_seconds())
        claims = Claims(subject, role, self._new_id(), int(now), expires_at)
        key = self._keys.newest()
        payload = {
            "iss": ISSUER,
            "sub": claims.subject,
            "role": claims.role,
            "jti": claims.token_id,
            "iat": claims.issued_at,
            "exp": claims.expires_at,
        }
        text = jwt.encode(payload, key.secret, algorithm=ALGORITHM, headers={"kid": key.kid})
        return text, claims

    def verify(self, text: str) -> Claims:
        """What `text` says, once its signature, issuer, claims and expiry are right.

        Raises Unauthenticated otherwise, saying which without showing anything of the token.
        """
        claims = self._decode(text)
        if self._clock() >= claims.expires_at:
            raise Unauthenticated(expired(claims.expires_at))
        return claims

    def _decode(self, text: str) -> Claims:
        if len(text) > MAX_LENGTH or not text.isascii():
            raise Unauthenticated("the bearer token is malformed")
        try:
            kid = jwt.get_unverified_header(text).get("kid")
            key = self._keys.find(kid) if isinstance(kid, str) else None
            if key is None:
                raise Unauthenticated("the bearer token is not signed with a key of this installation")
            payload = jwt.decode(
                text,
                key.secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                # Expiry is checked against the injected clock instead.
                options={
                    "require": ["iss", "sub", "role", "jti", "iat", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_aud": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise Unauthenticated("the signature of the bearer token is wrong") from None
        # Beside its own errors PyJWT lets some of json's pass, deep nesting among them.
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated("the bearer token is malformed") from None
        return _claims(payload)


def _claims(payload: dict[str, Any]) -> Claims:
    claims = Claims(payload["sub"], payload["role"], payload["jti"], payload["iat"], payload["exp"])
    texts = (claims.subject, claims.role, claims.token_id)
    times = (claims.issued_at, claims.expires_at)
    if not all(isinstance(text, str) and text for text in texts) or not all(type(at) is int for at in times):
        raise Unauthenticated("the claims of the bearer token are malformed")
    return claims


def ttl_fault(seconds: float, longest: timedelta = MAX_TTL) -> str:
    """What is wrong with a time to live; "" when nothing is."""
    if seconds < MIN_TTL.total_seconds():
        return "must be at least 1 second"
    if seconds > longest.total_seconds():
        return f"must be at most {int(longest.total_seconds())} seconds"
    return ""


def expired(at: float) -> str:
    """The message about a token that expired then. Jumpstarter's client offers a new sign-in when
    it reads "token is expired" (docs)."""
    return f"the bearer token is expired since {datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"

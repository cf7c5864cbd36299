"""Tokens with which a client and an exporter meet at a router (jumpstarter contract, section 4).

JWTs, HS256. The key is derived from the installation's signing keys, so that all processes agree and
a router token is never taken for a caller's token, nor the other way round.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import jwt

from shared.auth.keys import KeyRing, SigningKey
from shared.auth.tokens import ALGORITHM, MAX_LENGTH
from shared.errors import Unauthenticated
from shared.rpc.method import Metadata

ISSUER: Final = "https://jumpstarter.dev/stream"
AUDIENCE: Final = "https://jumpstarter.dev/router"
LIFETIME: Final = timedelta(minutes=30)
_PURPOSE: Final = b"roundhouse jumpstarter router"
_BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a good token says: the stream that it lets two callers meet at, and until when they may
    come (seconds since 1970)."""

    stream: str
    expires_at: int


class RouterTokens:
    """Issues and verifies. `clock` answers nanoseconds since 1970."""

    def __init__(self, keys: KeyRing, clock: Callable[[], int]) -> None:
        self._keys = keys
        self._clock = clock

    def issue(self, stream: str, at: int) -> str:
        """For `stream`, as of `at` (nanoseconds since 1970). The same for the same, in every process:
        what a token says need not be stored."""
        key, now = self._keys.newest(), at // 1_000_000_000
        claims = {
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "sub": stream,
            "jti": stream,
            "iat": now,
            "nbf": now,
            "exp": now + int(LIFETIME.total_seconds()),
        }
        return jwt.encode(claims, _secret(key), algorithm=ALGORITHM, headers={"kid": key.kid})

    def verify(self, metadata: Metadata) -> Ticket:
        """Of the token in `authorization`. Raises Unauthenticated, saying what is wrong."""
        text = metadata.get("authorization", "")
        if "authorization" in metadata.repeated:
            raise Unauthenticated("send one router token: there are several authorization headers")
        if text[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("send the router token of a Dial or Listen as `authorization: Bearer ...`")
        claims = self._decode(text[len(_BEARER) :].strip())
        stream, expires_at = claims["sub"], claims["exp"]
        if not isinstance(stream, str) or not stream or type(expires_at) is not int:
            raise Unauthenticated("the claims of the router token are malformed")
        if self._clock() >= expires_at * 1_000_000_000:
            raise Unauthenticated("the router token is expired; dial again")
        return Ticket(stream, expires_at)

    def _decode(self, text: str) -> dict[str, Any]:
        if len(text) > MAX_LENGTH or not text.isascii():
            raise Unauthenticated("the router token is malformed")
        try:
            kid = jwt.get_unverified_header(text).get("kid")
            key = self._keys.find(kid) if isinstance(kid, str) else None
            if key is None:
                raise Unauthenticated("the router token is not signed with a key of this installation")
            return jwt.decode(
                text,
                _secret(key),
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                # Expiry is checked against the injected clock; issuers' clocks may be ahead of it.
                options={
                    "require": ["iss", "aud", "sub", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise Unauthenticated("the signature of the router token is wrong") from None
        # Beside its own errors PyJWT lets some of json's pass, deep nesting among them.
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated("the router token is malformed, or not for this router") from None


def _secret(key: SigningKey) -> bytes:
    return hmac.digest(key.secret, _PURPOSE, hashlib.sha256)

"""Tokens: what was issued verifies until it expires; nothing else ever does."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from shared.auth.keys import KeyRing
from shared.auth.tokens import MAX_LENGTH, MAX_TTL, Tokens
from shared.errors import InvalidArgument, Unauthenticated

NOW = 1_750_000_000.25
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing.open(tmp_path / "keys")


@pytest.fixture
def tokens(keys: KeyRing, clock: Clock) -> Tokens:
    return Tokens(keys, clock)


PAYLOAD = {"iss": "roundhouse", "sub": "ann", "role": "admin", "jti": "1", "iat": 1, "exp": int(NOW) + 60}


def forge(keys: KeyRing, payload: dict[str, Any], **header: Any) -> str:
    """A token with the right signature and whatever content."""
    key = keys.newest()
    data = json.dumps(payload).encode()  # jwt.encode would refuse some of what a test wants
    return jwt.api_jws.encode(data, key.secret, algorithm="HS256", headers={"kid": key.kid, **header})


def part(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def test_round_trip(tokens: Tokens) -> None:
    text, claims = tokens.issue("ann@example.org", "operator", HOUR)
    assert tokens.verify(text) == claims
    assert (claims.subject, claims.role) == ("ann@example.org", "operator")
    assert claims.issued_at == int(NOW)
    assert claims.expires_at == int(NOW) + 3601  # never less than what was asked for
    assert len(claims.token_id) == 32


def test_claims_and_header_are_the_documented_ones(tokens: Tokens) -> None:
    text, claims = tokens.issue("ann", "viewer", HOUR)
    header = jwt.get_unverified_header(text)
    assert header == {"alg": "HS256", "kid": "0001", "typ": "JWT"}
    assert jwt.decode(text, options={"verify_signature": False}) == {
        "iss": "roundhouse",
        "sub": "ann",
        "role": "viewer",
        "jti": claims.token_id,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
    }


def test_every_token_has_its_own_id(tokens: Tokens) -> None:
    assert len({tokens.issue("ann", "viewer", HOUR)[1].token_id for _ in range(20)}) == 20


def test_expires_with_the_injected_clock(tokens: Tokens, clock: Clock) -> None:
    text, claims = tokens.issue("ann", "viewer", HOUR)
    clock.now = claims.expires_at - 0.001
    assert tokens.verify(text) == claims
    clock.now = claims.expires_at
    with pytest.raises(Unauthenticated, match=r"token is expired since 2025-06-15T16:06:41Z"):
        tokens.verify(text)


@pytest.mark.parametrize("ttl", [timedelta(seconds=1), MAX_TTL])
def test_shortest_and_longest_life(tokens: Tokens, ttl: timedelta) -> None:
    _, claims = tokens.issue("ann", "viewer", ttl)
    assert 0 <= claims.expires_at - NOW - ttl.total_seconds() < 1


@pytest.mark.parametrize(
    "ttl", [timedelta(0), timedelta(seconds=0.999), timedelta(seconds=-5), MAX_TTL + timedelta(seconds=1)]
)
def test_other_lives_are_refused(tokens: Tokens, ttl: timedelta) -> None:
    with pytest.raises(InvalidArgument) as caught:
        tokens.issue("ann", "viewer", ttl)
    assert [violation.field for violation in caught.value.violations] == ["ttl"]


def test_tokens_of_an_earlier_key_stay_good(tokens: Tokens, keys: KeyRing) -> None:
    before, _ = tokens.issue("ann", "viewer", HOUR)
    keys.rotate()
    after, _ = tokens.issue("ann", "viewer", HOUR)
    assert jwt.get_unverified_header(after)["kid"] == "0002"
    assert tokens.verify(before).subject == tokens.verify(after).subject == "ann"


def test_token_of_another_installation(tokens: Tokens, tmp_path: Path, clock: Clock) -> None:
    text, _ = Tokens(KeyRing.open(tmp_path / "other"), clock).issue("ann", "admin", HOUR)
    with pytest.raises(Unauthenticated, match="signature"):
        tokens.verify(text)


def test_one_changed_character_anywhere_is_noticed(tokens: Tokens) -> None:
    text, _ = tokens.issue("ann", "viewer", HOUR)
    # The last character of each part holds unused bits, so change those before it.
    for at in range(0, len(text) - 1, 7):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(Unauthenticated):
            tokens.verify(changed)


def test_payload_of_one_token_under_the_signature_of_another(tokens: Tokens) -> None:
    viewer, _ = tokens.issue("ann", "viewer", HOUR)
    head, _, signature = viewer.split(".")
    claims = {**PAYLOAD, "role": "admin"}
    with pytest.raises(Unauthenticated, match="signature"):
        tokens.verify(f"{head}.{part(claims)}.{signature}")


def test_unsigned_token_is_refused(tokens: Tokens) -> None:
    for algorithm in ("none", "None", "NONE"):
        with pytest.raises(Unauthenticated):
            tokens.verify(f"{part({'alg': algorithm, 'kid': '0001'})}.{part(PAYLOAD)}.")


def test_other_algorithms_are_refused_even_with_the_right_key(tokens: Tokens, keys: KeyRing) -> None:
    key = keys.newest()
    for algorithm in ("HS384", "HS512"):
        text = jwt.encode(PAYLOAD, key.secret * 2, algorithm=algorithm, headers={"kid": key.kid})
        with pytest.raises(Unauthenticated):
            tokens.verify(text)


@pytest.mark.parametrize("claim", sorted(PAYLOAD))
def test_every_claim_is_required(tokens: Tokens, keys: KeyRing, claim: str) -> None:
    assert tokens.verify(forge(keys, PAYLOAD)).subject == "ann"
    without = {name: value for name, value in PAYLOAD.items() if name != claim}
    with pytest.raises(Unauthenticated):
        tokens.verify(forge(keys, without))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", "someone"),
        ("iss", ["roundhouse"]),
        ("sub", ""),
        ("sub", 7),
        ("role", ["admin"]),
        ("role", ""),
        ("jti", None),
        ("jti", 1),
        ("iat", "1"),
        ("iat", True),
        ("exp", "tomorrow"),
        ("exp", 1e300),
        ("exp", None),
    ],
)
def test_claims_of_the_wrong_type(tokens: Tokens, keys: KeyRing, claim: str, value: object) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify(forge(keys, {**PAYLOAD, claim: value}))


@pytest.mark.parametrize("kid", ["0002", "../0001", "", "0001\n", "１２３４", "9" * 500])
def test_unknown_key_ids(tokens: Tokens, keys: KeyRing, kid: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify(forge(keys, PAYLOAD, kid=kid))


DEEP = "[" * 1400
MALFORMED = [
    "",
    "x",
    "a.b",
    "a.b.c",
    "a.b.c.d",
    "..",
    " ",
    f"{part({'alg': 'HS256'})}.{part(PAYLOAD)}.AAAA",
    f"{part({'alg': 'HS256', 'kid': 1})}.{part(PAYLOAD)}.AAAA",
    f"{part({'alg': 'HS256', 'kid': None})}.{part(PAYLOAD)}.AAAA",
    f"{part('7')}.{part(PAYLOAD)}.AAAA",
    f"{part(DEEP)}.{part(PAYLOAD)}.AAAA",
    f"{part({'alg': 'HS256', 'kid': '0001'})}.{part(DEEP)}.AAAA",
    f"{part({'alg': 'HS256', 'kid': '0001', 'b64': False, 'crit': ['b64']})}.{part(PAYLOAD)}.AAAA",
    "é.b.c",
    "\udcff.b.c",
    "a" * (MAX_LENGTH + 1),
]


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_text(tokens: Tokens, text: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        tokens.verify(text)
    assert len(caught.value.message) < 100  # nothing of the token is repeated


def test_deep_json_under_a_right_signature(tokens: Tokens, keys: KeyRing) -> None:
    key = keys.newest()
    text = jwt.api_jws.encode(DEEP.encode(), key.secret, algorithm="HS256", headers={"kid": key.kid})
    with pytest.raises(Unauthenticated, match="malformed"):
        tokens.verify(text)

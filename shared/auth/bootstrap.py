"""The operator's own token, for the command line and the console of a fresh installation."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Final

from shared.auth.access import Access
from shared.auth.keys import sync_directory, write_private
from shared.auth.permissions import ADMIN
from shared.auth.tokens import MAX_TTL
from shared.errors import Unauthenticated
from shared.storage.port import Author

FILE: Final = "operator.token"
SUBJECT: Final = "operator"
# A token that ends sooner is renewed, so that a restart a month is enough.
RENEW_BEFORE: Final = timedelta(days=30)
_AUTHOR: Final = Author(SUBJECT, "bootstrap:token:create")

log = logging.getLogger(__name__)


async def ensure_operator_token(data: Path, access: Access) -> str:
    """The token in `data`/operator.token (mode 0600, nothing else in it): role admin, 400 days.

    A new one is written, whole or not at all, when the file is missing or its token is not good
    any more: expired or about to, revoked, unknown to the access store, signed with a lost key.
    Whoever may write into `data` holds the signing keys as well, so this hands out nothing new.
    """
    path = data / FILE
    text = await asyncio.to_thread(_read, path)
    if text and await _good(text, access):
        return text
    text, _ = await access.issue(SUBJECT, ADMIN, MAX_TTL, creator=SUBJECT, by=_AUTHOR)
    await asyncio.to_thread(_replace, path, text)
    log.info("wrote a new operator token", extra={"path": str(path)})
    return text


async def _good(text: str, access: Access) -> bool:
    try:
        claims = access.tokens.verify(text)
    except Unauthenticated:
        return False
    record = await access.records.token(claims.token_id)
    return (
        record is not None
        and not record.HasField("revoke_time")
        and claims.role == ADMIN
        and claims.expires_at - access.clock() > RENEW_BEFORE.total_seconds()
    )


def _read(path: Path) -> str:
    """What the file holds; "" when it is missing or not text. Takes away what others may do."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    if path.stat().st_mode & 0o077:
        log.warning("others could use the operator token; its mode is 0600 again", extra={"path": str(path)})
        path.chmod(0o600)
    return text


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    try:
        write_private(temporary, text.encode())
        os.replace(temporary, path)  # noqa: PTH105 - the rename is the point
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)

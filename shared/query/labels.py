"""What Kubernetes allows as label keys and values, and which values are integers."""

from __future__ import annotations

import re
from typing import Final

MAX_NAME: Final = 63
MAX_PREFIX: Final = 253
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)
_SUBDOMAIN: Final = re.compile(
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII
)
_INTEGER: Final = re.compile(rf"[+-]?[0-9]{{1,{MAX_NAME}}}", re.ASCII)
_NAME_RULE: Final = "of letters, digits, '-', '_' and '.', a letter or digit at both ends"


def name_fault(text: str) -> str:
    """What is wrong with a key without a prefix; "" when nothing is."""
    if len(text) <= MAX_NAME and _NAME.fullmatch(text):
        return ""
    return f"{_shown(text)} is no label name: 1 to {MAX_NAME} characters {_NAME_RULE}"


def key_fault(text: str) -> str:
    """What is wrong with a key, `name` or `prefix/name`; "" when nothing is."""
    prefix, slash, name = text.rpartition("/")
    if slash and not (len(prefix) <= MAX_PREFIX and _SUBDOMAIN.fullmatch(prefix)):
        return (
            f"{_shown(text)} is no label key: before the '/' stand at most {MAX_PREFIX} of a-z, 0-9, '-' and "
            "'.', a letter or digit around each dot and at both ends"
        )
    if name_fault(name):
        return f"{_shown(text)} is no label key: its name is 1 to {MAX_NAME} characters {_NAME_RULE}"
    return ""


def value_fault(text: str) -> str:
    """What is wrong with a value; "" when nothing is."""
    if not text or not name_fault(text):
        return ""
    return f"{_shown(text)} is no label value: empty, or at most {MAX_NAME} characters {_NAME_RULE}"


def integer(text: str) -> int | None:
    """The number that a value means when it is compared as one; None when it is no int64."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _shown(text: str) -> str:
    """Messages stay short whatever is sent."""
    return repr(text if len(text) <= 300 else f"{text[:300]}...")

"""Index values as a backend stores them: one plain type per index, in the port's order.

Encoded values compare with `<` and `=` in every backend exactly as the port orders them
(missing < NULL < value), so no backend needs null logic of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence

from shared.storage.port import NULL, Group, Index, Value

_TEXT_MISSING = "0"
_TEXT_NULL = "1"
_TEXT_VALUE = "2"
# Below every int64, in this order; both backends compare integers with doubles exactly.
_INT_MISSING = -math.inf
_INT_NULL = -sys.float_info.max

Encoded = str | int | float


def encode(index: Index, value: Value | None) -> Encoded:
    """`value` (None: missing) for storing under `index`. TypeError when it is of another type,
    ValueError when it is an integer beyond int64."""
    text = index.type == "text"
    if value is None:
        return _TEXT_MISSING if text else _INT_MISSING
    if value is NULL:
        return _TEXT_NULL if text else _INT_NULL
    if text and isinstance(value, str):
        return _TEXT_VALUE + value
    if not text and isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"index {index.name!r} holds int64; got {value}")
        return int(value)
    raise TypeError(f"index {index.name!r} is {index.type}; got {type(value).__name__}")


def decode_group(indexes: Sequence[Index], stored: Iterable[Encoded]) -> Group:
    return tuple(decode(index, value) for index, value in zip(indexes, stored, strict=True))


def decode(index: Index, stored: Encoded) -> Value | None:
    """The value that `encode` stored."""
    if index.type == "text":
        text = str(stored)
        return {_TEXT_MISSING: None, _TEXT_NULL: NULL}.get(text[:1], text[1:])
    if isinstance(stored, float) and stored <= _INT_NULL:
        return None if stored == _INT_MISSING else NULL
    return int(stored)

"""Regular expressions that callers write: tests in time proportional to the text, whatever they write.

RE2 never backtracks. What it would need too much memory for is refused when it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import re2

MAX_CHARACTERS: Final = 1000
# Of a compiled expression, and of what a test may remember of it.
_MEMORY: Final = 1 << 20


@lru_cache(256)
def compiled(expression: str) -> Callable[[str], bool]:
    """Whether a text has a match anywhere, letter case ignored. Raises ValueError saying why an
    expression is none."""
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"has more than {MAX_CHARACTERS} characters")
    options = re2.Options()
    options.case_sensitive = False
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        search = re2.compile(expression, options=options).search
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError(_reason(error)) from None
    return lambda text: search(text) is not None


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    if isinstance(reason, bytes):
        return reason.decode(errors="replace")
    return "is no valid Unicode" if isinstance(error, UnicodeEncodeError) else str(reason)

"""The JSON forms of protobuf's scalars and of the well-known types that are a string in JSON.

Readers take a JSON value (or the text of a query parameter) and raise ValueError with the rest of a
sentence that starts with the field's name. Writers give what proto3 JSON says.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import math
import re
import struct
from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
INT64S: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
NANO: Final = 1_000_000_000
# Seconds since 1970 of 0001-01-01T00:00:00Z and of 9999-12-31T23:59:59Z.
TIMESTAMP_MIN, TIMESTAMP_MAX = -62_135_596_800, 253_402_300_799
DURATION_MAX: Final = 315_576_000_000
_DAY: Final = 86_400
_EPOCH_DAY: Final = datetime.date(1970, 1, 1).toordinal()
_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
_MASK_PATH = re.compile(r"[A-Za-z0-9_.]+")
_CAPITAL = re.compile(r"[A-Z]")
_UNDERSCORE = re.compile(r"_([a-z0-9])")


def quoted(value: Any) -> str:
    """A value as an error message shows it: short, and free of control characters."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def kind_of(value: Any) -> str:
    """The JSON name of a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, dict) else "an array"


def read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {kind_of(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid Unicode: it has a lone surrogate") from None
    return value


def read_integer(value: Any, low: int, high: int) -> int:
    """A number without a fraction, or a string of one."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value) if _INTEGER.fullmatch(value) else float(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be an integer, not {_shown(value)}")
    if not low <= value <= high:
        raise ValueError(f"{value} is not between {low} and {high}")
    return value


def read_number(value: Any, *, single: bool) -> float:
    """A number, a string of one, or "NaN", "Infinity", "-Infinity". `single`: of 32 bits."""
    if isinstance(value, str):
        if value in _SPECIAL:
            return _SPECIAL[value]
        if not _NUMBER.fullmatch(value):
            raise ValueError(f"must be a number, not {quoted(value)}")
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, not {_shown(value)}")
    number = float(value)
    if not math.isfinite(number) or (single and _single(number) is None):
        raise ValueError(f"{quoted(value)} is too large")
    return number


def _single(value: float) -> float | None:
    """The nearest 32-bit number; None when it is too large for one."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return None


def read_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_shown(value)}")
    return value


def read_bytes(value: Any) -> bytes:
    """Base64, standard or URL-safe, padded or not."""
    text = read_text(value).translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None


_STANDARD = str.maketrans("-_", "+/")


def read_enum(value: Any, enum: EnumDescriptor) -> int:
    """A name or a number. A number without a name is taken, as proto3's enums are open."""
    if isinstance(value, str):
        named = enum.values_by_name.get(value)
        if named is not None:
            return named.number
        if not _INTEGER.fullmatch(value):
            names = ", ".join(list(enum.values_by_name)[:20])
            raise ValueError(f"{quoted(value)} is not one of {names}")
    number = read_integer(value, *RANGES[FieldDescriptor.CPPTYPE_INT32])
    if enum.is_closed and number not in enum.values_by_number:
        raise ValueError(f"{number} is not a value of {enum.full_name}")
    return number


def read_timestamp(value: Any) -> tuple[int, int]:
    """RFC 3339 with "Z" or an offset; (seconds since 1970, nanoseconds)."""
    found = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"must be an RFC 3339 time such as 2024-03-01T12:00:00Z, not {_shown(value)}")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    fraction, sign, hours, minutes = found.groups()[6:]
    try:
        ordinal = datetime.datetime(year, month, day, hour, minute, second).toordinal()
    except ValueError:
        raise ValueError(f"{quoted(value)} is not a time that exists") from None
    offset = 0
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise ValueError(f"{quoted(value)} has an offset that does not exist")
        offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
    seconds = (ordinal - _EPOCH_DAY) * _DAY + hour * 3600 + minute * 60 + second - offset
    if not TIMESTAMP_MIN <= seconds <= TIMESTAMP_MAX:
        raise ValueError(f"{quoted(value)} is not between the years 1 and 9999")
    return seconds, int((fraction or "").ljust(9, "0"))


def read_duration(value: Any) -> tuple[int, int]:
    """Seconds with a trailing "s"; (seconds, nanoseconds), of the same sign."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'must be a duration in seconds such as "300s" or "1.5s", not {_shown(value)}')
    sign = -1 if found[1] else 1
    seconds, nanos = int(found[2]), int((found[3] or "").ljust(9, "0"))
    if seconds > DURATION_MAX or (seconds == DURATION_MAX and nanos):
        raise ValueError(f"{quoted(value)} is longer than {DURATION_MAX}s")
    return sign * seconds, sign * nanos


def read_mask(value: Any) -> list[str]:
    """Comma-separated paths in camelCase or snake_case; as proto paths."""
    text = read_text(value)
    paths = [path.strip() for path in text.split(",")] if text.strip() else []
    for path in paths:
        if not _MASK_PATH.fullmatch(path):
            raise ValueError(f"{quoted(path)} is not a field path")
    return [path if "_" in path else _CAPITAL.sub(lambda m: "_" + m[0].lower(), path) for path in paths]


def _shown(value: Any) -> str:
    shows = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return quoted(value) if shows else kind_of(value)


_SECONDS: Final = tuple(f"{second:02}Z" for second in range(60))
_MINUTES: Final = tuple(f"T{minute // 60:02}:{minute % 60:02}:" for minute in range(1440))


@lru_cache(maxsize=8192)
def _date(days: int) -> str:
    """The date so many days after 1970 began."""
    return datetime.date.fromordinal(_EPOCH_DAY + days).isoformat()


def write_timestamp(seconds: int, nanos: int) -> str | None:
    """RFC 3339 in UTC with 0, 3, 6 or 9 digits of fraction; None for what RFC 3339 cannot say."""
    if not (TIMESTAMP_MIN <= seconds <= TIMESTAMP_MAX and 0 <= nanos < NANO):
        return None
    days, second = divmod(seconds, _DAY)
    if nanos:
        return f"{_date(days)}{_MINUTES[second // 60]}{second % 60:02}{fraction_of(nanos)}Z"
    return _date(days) + _MINUTES[second // 60] + _SECONDS[second % 60]


def write_duration(seconds: int, nanos: int) -> str | None:
    """Seconds with a trailing "s"; None for what is not a valid google.protobuf.Duration."""
    if abs(seconds) > DURATION_MAX or abs(nanos) >= NANO or seconds * nanos < 0:
        return None
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{fraction_of(abs(nanos)) if nanos else ''}s"


def fraction_of(nanos: int) -> str:
    """ "." and 3, 6 or 9 digits."""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03}"
    if nanos % 1_000 == 0:
        return f".{nanos // 1_000:06}"
    return f".{nanos:09}"


def write_mask(paths: Any) -> str:
    return ",".join(_UNDERSCORE.sub(lambda m: m[1].upper(), path) for path in paths)


def write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def write_double(value: float) -> float | str:
    """JSON has no number for the three special values: strings, as proto3 JSON says."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def write_float(value: float) -> float | str:
    """The shortest decimal that is the same 32-bit number: 0.1, not 0.10000000149011612."""
    if not math.isfinite(value):
        return write_double(value)
    for digits in (6, 7, 8, 9):
        short = float(f"{value:.{digits}g}")
        if _single(short) == value:
            return short
    return value

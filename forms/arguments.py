"""Reads the arguments of text calls: what forms have in common, with errors that say what was expected."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence

from forms.datum import Datum, Symbol, unquoted
from forms.errors import BadArgument, BeyondLimit
from forms.writer import write_datum

HEX = re.compile(r"[0-9a-fA-F]+\Z")
MAX_OUT_BYTES = 65_536


def expect_count(form: str, arguments: Sequence[Datum], least: int, most: int) -> None:
    """Raises BadArgument unless there are so many."""
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise BadArgument(f"{form}: expected {wanted} arguments, got {len(arguments)}")


def read_list(datum: Datum, what: str) -> list[Datum]:
    """A list, quoted or not. Raises BadArgument."""
    items = unquoted(datum)
    if not isinstance(items, list):
        raise BadArgument(f"expected a list of {what}, got {shown(datum)}")
    return items


def read_integer(datum: Datum, what: str, least: int, most: int) -> int:
    """An integer in a range. Raises BadArgument."""
    if isinstance(datum, bool) or not isinstance(datum, int) or not least <= datum <= most:
        raise BadArgument(f"{what}: expected an integer from {least} to {most}, got {shown(datum)}")
    return datum


def read_symbol(datum: Datum, what: str, allowed: Sequence[str]) -> str:
    """One of some names. Raises BadArgument."""
    if not isinstance(datum, Symbol) or str(datum) not in allowed:
        raise BadArgument(f"{what}: expected {' or '.join(allowed)}, got {shown(datum)}")
    return str.__str__(datum)


def read_byte_strings(datum: Datum) -> list[bytes]:
    """A list of byte strings in hex. Raises BadArgument."""
    items = read_list(datum, "byte strings in hex")
    try:
        return list(map(binascii.unhexlify, items))  # type: ignore[arg-type]
    except (binascii.Error, TypeError, ValueError):
        wrong = next(item for item in items if not _is_byte_string(item))
        raise BadArgument(f'expected a byte string in hex such as "00ff", got {shown(wrong)}') from None


def read_number(datum: Datum, what: str, bits: int) -> int:
    """A number in hex, most significant digit first, that fits `bits`. Raises BadArgument."""
    if not isinstance(datum, str) or isinstance(datum, Symbol) or not HEX.match(datum):
        raise BadArgument(f'{what}: expected a number in hex such as "1f", got {shown(datum)}')
    if len(datum.lstrip("0")) > bits // 4 + 1 or (value := int(datum, 16)).bit_length() > bits:
        raise BadArgument(f"{what}: expected at most {bits} bits, got {shown(datum)}")
    return value


def check_reply(length: int, limit_bytes: int) -> None:
    """Raises BeyondLimit when the answer would be too long."""
    if length > limit_bytes:
        raise BeyondLimit(f"the reply would take {length} bytes; the limit is {limit_bytes}")


def hex_rows(rows: bytes | memoryview, width: int) -> list[Datum]:
    """Rows of `width` bytes as lower-case hex."""
    digits = rows.hex()
    return [digits[start : start + 2 * width] for start in range(0, len(digits), 2 * width)]


def shown(datum: Datum) -> str:
    """The beginning of a datum, for messages."""
    if isinstance(datum, list):
        return f"a list of {len(datum)}"
    text = write_datum(datum)
    return text if len(text) <= 40 else text[:40] + "…"


def _is_byte_string(item: Datum) -> bool:
    if not isinstance(item, str) or isinstance(item, Symbol):
        return False
    try:
        binascii.unhexlify(item)
    except (binascii.Error, ValueError):
        return False
    return True

"""Refresh the tables of docs/protocol.md from the code's types: `python -m tools.protocol`, or `just docs`.

The page says where a table stands; the code says what is in it:

    <!-- fields transport.handshake.ServerHello -->      a struct's fields, their types, limits and defaults
    <!-- codes transport.errors.ResetCode -->            the members of an enum
    <!-- values transport.credit WAN_WINDOW_BYTES … -->  constants of a module
    <!-- openers -->                                     which role may open which stream
    …
    <!-- end -->

The last column of each table, what a row means, is written on the page by hand and kept; a dash says that the name
says it all. A test compares page and code, and demands a meaning for every row, a place on the page for every struct
and a golden vector for each.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from meshd.permission import OPENERS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "protocol.md"
PACKAGES = ("transport", "gossip", "llm", "forms", "meshd")

_BLOCK = re.compile(r"<!-- (fields|codes|values|openers)(?: ([^>]*?))? -->\n(.*?)<!-- end -->\n", re.DOTALL)
_POWERS = {1 << power: f"2^{power}" for power in range(16, 65)}

Row = tuple[str, ...]
"""Cells, but for the meaning. The first names the row."""


def refreshed(page: str) -> str:
    """`page` with every table as the code has it now."""
    return _BLOCK.sub(_block, page)


def structs_on(page: str) -> set[type[msgspec.Struct]]:
    """Every struct that has a table on `page`."""
    return {_find(path) for kind, path, _ in _BLOCK.findall(page) if kind == "fields"}


def structs_in_code() -> set[type[msgspec.Struct]]:
    """Every struct that the packages define; imports each module that speaks of msgspec."""
    for path in sorted(one for package in PACKAGES for one in (ROOT / package).rglob("*.py")):
        if "msgspec" in path.read_text("utf-8"):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    return {struct for struct in _subclasses(msgspec.Struct) if struct.__module__.partition(".")[0] in PACKAGES}


def rows_without_meaning(page: str) -> list[str]:
    """Rows whose last cell is empty."""
    return [line for _, _, body in _BLOCK.findall(page) for line in body.splitlines() if line.endswith("|  |")]


def type_text(kind: inspect.Type) -> str:
    """How the page spells a type and its limits."""
    match kind:
        case inspect.BytesType(low, high):
            return f"bytes{_length(low, high)}"
        case inspect.StrType(low, high, pattern):
            return f"text{_length(low, high)}" + (f", `{_cell(pattern)}`" if pattern else "")
        case inspect.IntType():
            return f"integer{_range(kind)}"
        case inspect.FloatType():
            return f"float{_range(kind)}"
        case inspect.BoolType():
            return "bool"
        case inspect.NoneType():
            return "nil"
        case inspect.EnumType(enum):
            return "one of " + ", ".join(_member(one) for one in enum)
        case inspect.LiteralType(values):
            return "one of " + ", ".join(f"`{value}`" for value in values)
        case inspect.UnionType(types):
            return " or ".join(type_text(one) for one in sorted(types, key=_is_nil))
        case inspect.StructType(struct):
            return f"`{struct_name(struct)}`"
        case inspect.TupleType(types):
            return "array of " + ", then ".join(type_text(one) for one in types)
        case inspect.VarTupleType(item, low, high) | inspect.ListType(item, low, high):
            return f"array{_length(low, high)} of ({type_text(item)})"
    raise TypeError(f"docs/protocol.md cannot spell {kind}: say how in tools/protocol.py")


def struct_name(struct: type[msgspec.Struct]) -> str:
    """What the page calls a struct."""
    return struct.__name__.lstrip("_")


def main() -> None:
    """Write the page anew; say whether that changed anything."""
    before = PAGE.read_text("utf-8")
    after = refreshed(before)
    PAGE.write_text(after, "utf-8")
    print("docs/protocol.md was up to date" if after == before else "docs/protocol.md was refreshed")


# Blocks


def _block(found: re.Match[str]) -> str:
    kind, argument, body = found.groups()
    meanings = _meanings(body)
    header = f"<!-- {kind}{' ' + argument if argument else ''} -->"
    return f"{header}\n{_KINDS[kind](argument or '', meanings)}<!-- end -->\n"


def _fields(path: str, meanings: dict[str, str]) -> str:
    kind = inspect.type_info(_find(path))
    assert isinstance(kind, inspect.StructType)
    rows = [(f"`{field.encode_name}`", _field_type(field)) for field in kind.fields]
    table = _table(("field", "type", "meaning"), rows, meanings) if rows else ""
    return _shape(kind) + "\n" + (f"\n{table}" if rows else "")


def _codes(path: str, meanings: dict[str, str]) -> str:
    enum: type[Enum] = _find(path)
    rows = [(_value(one.value), f"`{one.name}`") for one in enum]
    return _table(("value", "name", "meaning"), rows, meanings)


def _values(argument: str, meanings: dict[str, str]) -> str:
    module, *names = argument.split()
    rows = [(f"`{name.lstrip('_')}`", _value(_constant(module, name))) for name in names]
    return _table(("name", "value", "meaning"), rows, meanings)


def _openers(_: str, meanings: dict[str, str]) -> str:
    rows = [(f"`{protocol}`", ", ".join(sorted(role.value for role in roles))) for protocol, roles in OPENERS.items()]
    return _table(("protocol", "who may open it", "meaning"), rows, meanings)


_KINDS: dict[str, Callable[[str, dict[str, str]], str]] = {
    "fields": _fields,
    "codes": _codes,
    "values": _values,
    "openers": _openers,
}


# Parts of a block


def _shape(kind: inspect.StructType) -> str:
    """How the struct as a whole is spelled."""
    more = "" if kind.forbid_unknown_fields else "; more are skipped"
    if kind.array_like:
        tag = f", the first of them {_value(kind.tag)}" if kind.tag is not None else ""
        return f"Array of {len(kind.fields) + (kind.tag is not None)}{tag}{more}."
    tag = f" with `{kind.tag_field}` = {_value(kind.tag)}" if kind.tag is not None else ""
    return f"Map{tag}{'' if kind.forbid_unknown_fields else '; other keys are skipped'}."


def _field_type(field: inspect.Field) -> str:
    if field.required:
        return type_text(field.type)
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"{type_text(field.type)}; when missing, {_value(default)}"


def _table(header: Row, rows: Sequence[Row], meanings: dict[str, str]) -> str:
    lines = [header, ("---",) * len(header), *((*row, meanings.get(row[0], "")) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _meanings(body: str) -> dict[str, str]:
    """The hand-written last cell of every row, by the first."""
    rows = [line.removeprefix("| ").removesuffix("|").strip().split(" | ") for line in body.splitlines()]
    return {row[0]: row[-1] for row in rows if len(row) > 2}


def _length(low: int | None, high: int | None) -> str:
    if low is not None and low == high:
        return f", {low}"
    if high is None:
        return f", ≥ {low}" if low else ""
    return f", {low} … {high}" if low else f", ≤ {high}"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.gt is not None or (kind.lt is not None and kind.ge is None):
        raise TypeError(f"docs/protocol.md cannot spell the range of {kind}: say how in tools/protocol.py")
    if kind.ge is None:
        return ""
    low = _number(kind.ge)
    if kind.lt is not None:
        return f", {low} … {_number(kind.lt)}" + (" − 1" if isinstance(kind, inspect.IntType) else ", less than that")
    return f", ≥ {low}" if kind.le is None else f", {low} … {_number(kind.le)}"


def _number(value: float) -> str:
    return _POWERS.get(int(value), f"{value:g}" if isinstance(value, float) else str(value))


def _value(value: object) -> str:
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case int() | float():
            return _number(value)
        case bytes():
            return f"`{value.decode('ascii')}`"
        case () | "":
            return "empty"
        case str():
            return f"`{value}`"
    raise TypeError(f"docs/protocol.md cannot spell {value!r}")


def _member(one: Enum) -> str:
    return f"`{one.value}`" if isinstance(one.value, str) else f"{one.value} ({one.name})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _is_nil(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.NoneType)


def _find(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _constant(module: str, name: str) -> object:
    """`NAME`, or what one holds: `LAN.probe_s`, `Patience().cut_s`."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part.removesuffix("()"))
        found = found() if part.endswith("()") else found
    return found


def _subclasses(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in struct.__subclasses__():
        yield one
        yield from _subclasses(one)


if __name__ == "__main__":
    main()

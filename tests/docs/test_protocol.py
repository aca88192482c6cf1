"""docs/protocol.md says what the code does: its tables are the code's types, and no message is left out."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from msgspec import inspect

from tests.golden import PACKAGES, find_struct, struct_path, vectors
from tools import protocol

PAGE = protocol.PAGE.read_text("utf-8")

NO_MESSAGES = {
    "llm.openai._Body": "what we read of an OpenAI request",
    "transport.countersigned._AnyForm": "looks at the first item of a certificate",
    "transport.invite._AnyVersion": "looks at the first item of an invite",
}


class Inner(msgspec.Struct, array_like=True, tag=7, forbid_unknown_fields=True):
    """For the spelling."""

    when: Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
    what: tuple[Annotated[str, msgspec.Meta(pattern="a|b")], ...] = ()


class Outer(msgspec.Struct, tag="outer"):
    """For the spelling."""

    inner: Inner | None = None


def test_every_table_is_what_the_code_says() -> None:
    assert protocol.refreshed(PAGE) == PAGE, "run just docs, and read what changed"


def test_every_row_has_a_meaning() -> None:
    assert protocol.rows_without_meaning(PAGE) == [], "say it on the page; a dash where the name says it all"


def test_every_struct_has_a_table() -> None:
    on_page = {struct_path(struct) for struct in protocol.structs_on(PAGE)}
    in_code = {struct_path(struct) for struct in protocol.structs_in_code()}
    missing = sorted(in_code - on_page - NO_MESSAGES.keys())
    assert not missing, f"add `<!-- fields {missing[0]} -->` and `<!-- end -->` to docs/protocol.md, then just docs"
    assert NO_MESSAGES.keys() <= in_code - on_page


def test_every_struct_has_a_golden_vector() -> None:
    seen: set[type[msgspec.Struct]] = set()
    for package in PACKAGES:
        for vector in vectors(package):
            seen |= structs_in(vector.value, vector.codec)
    missing = sorted(struct_path(struct) for struct in protocol.structs_on(PAGE) - seen)
    assert not missing, f"no vector holds {missing}: add one to tests/*/examples.py and run python -m tools.vectors"


def structs_in(value: object, codec: str) -> set[type[msgspec.Struct]]:
    """Every struct that occurs in the plain value of a vector."""
    if codec == "address_book":
        codec = "gossip.addressbook._Book"
    if "." not in codec:
        return set()
    outer = find_struct(codec)
    names = set(_names(value))
    return {struct for struct in _reachable(inspect.type_info(outer)) if protocol.struct_name(struct) in names}


def _names(value: object) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _names(item)]
    if isinstance(value, dict):
        return [*value, *(name for item in value.values() for name in _names(item))]
    return []


def _reachable(kind: inspect.Type) -> set[type[msgspec.Struct]]:
    match kind:
        case inspect.StructType(struct, fields):
            return {struct}.union(*(_reachable(field.type) for field in fields))
        case inspect.UnionType(types) | inspect.TupleType(types):
            return set[type[msgspec.Struct]]().union(*map(_reachable, types))
        case inspect.VarTupleType(item) | inspect.ListType(item):
            return _reachable(item)
    return set()


def test_a_struct_is_spelled_with_its_limits() -> None:
    page = f"<!-- fields {__name__}.Inner -->\n<!-- end -->\n<!-- fields {__name__}.Outer -->\n<!-- end -->\n"
    assert protocol.refreshed(page).splitlines() == [
        f"<!-- fields {__name__}.Inner -->",
        "Array of 3, the first of them 7.",
        "",
        "| field | type | meaning |",
        "| --- | --- | --- |",
        "| `when` | integer, 0 … 2^40 − 1 |  |",
        "| `what` | array of (text, `a\\|b`); when missing, empty |  |",
        "<!-- end -->",
        f"<!-- fields {__name__}.Outer -->",
        "Map with `type` = `outer`; other keys are skipped.",
        "",
        "| field | type | meaning |",
        "| --- | --- | --- |",
        "| `inner` | `Inner` or nil; when missing, nil |  |",
        "<!-- end -->",
    ]


def test_a_meaning_stays_when_its_row_changes_and_goes_with_it() -> None:
    page = f"<!-- fields {__name__}.Outer -->\n| `inner` | older | words |\n| `gone` | older | words |\n<!-- end -->\n"
    rows = protocol.refreshed(page).splitlines()
    assert rows[-2] == "| `inner` | `Inner` or nil; when missing, nil | words |"
    assert not any("gone" in row for row in rows)


@pytest.mark.parametrize("kind", [dict[str, int], Annotated[int, msgspec.Meta(gt=3)]])
def test_a_type_that_cannot_be_spelled_is_not_passed_over(kind: object) -> None:
    with pytest.raises(TypeError, match=r"tools/protocol\.py"):
        protocol.type_text(inspect.type_info(kind))

"""docs/protocol.md says what the code does: its tables are the code's types, and no message is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import pytest
from msgspec import inspect

from gossip.message import MAX_MEMBERS, Delta, DeltaEntry, Digest, DigestEntry, decode_reliable
from gossip.view import Status
from meshd.mesh_facts import MAX_DELEGATES, encode_delegates, read_delegates
from tests.golden import PACKAGES, find_struct, struct_path, vectors
from tests.transport.examples import MESH_ID, NOW, ROOT
from tools import protocol
from transport import wire
from transport.interface import NodeId
from transport.revocation import MAX_NAMES, Names, sign_revocations, verify_revocations
from transport.rotation import Roots

PAGE = protocol.PAGE.read_text("utf-8")

NO_MESSAGES = {
    **dict.fromkeys(
        [f"forms.poc.group_job.{name}" for name in ("Found", "Job", "Progress", "Ready")],
        "what a host and the process of one group of devices say",
    ),
    "forms.poc.rate.OpenedSample": "a proof of compute on file",
    "forms.poc.rate.Proof": "a proof of compute on file",
    "gossip.event.Received": "an event of the engine, which is no message",
    "gossip.event.SendDatagram": "an effect of the engine, which is no message",
    "llm.affinity._Prompt": "what we read of an OpenAI request",
    "llm.draft.service.DraftDoor": "what a process of this host answers its agent",
    "llm.engines.model_list._Entry": "what we read of an upstream's model list",
    "llm.engines.model_list._List": "what we read of an upstream's model list",
    "llm.engines.model_list._Meta": "what we read of an upstream's model list",
    "llm.openai._Body": "what we read of an OpenAI request",
    **dict.fromkeys(
        [
            f"llm.sessions.asked.{name}"
            for name in ("Addition", "Chat", "Generation", "Opening", "Policy", "Sampling", "Usage")
        ],
        "what the session engine reads of an HTTP request",
    ),
    "llm.sessions.shelf.KeptSession": "a session in the data directory",
    "meshd.attest.transcript.Judged": "what a process of ours answers",
    "meshd.attest.transcript.Kept": "a transcript in the data directory",
    **dict.fromkeys(
        [
            f"meshd.attest.race_job.{name}"
            for name in ("Failed", "Generate", "Generated", "Judge", "Judgement", "Open", "Opened", "Progress")
        ],
        "what an agent and a process of its own say",
    ),
    "meshd.keys.ApiKey": "a key in the data directory",
    "meshd.keys._File": "the file of keys in the data directory",
    "meshd.planning.PlanRequest": "what `meshd plan` asks on the control socket",
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


def many(count: int) -> tuple[bytes, ...]:
    return tuple(number.to_bytes(32, "big") for number in range(count))


def full_revocations() -> None:
    nodes, serials, tokens = (frozenset(one[-size:] for one in many(MAX_NAMES)) for size in (32, 12, 8))
    encoded = sign_revocations(ROOT, MESH_ID, 1, Names(nodes, serials, tokens), NOW)
    assert verify_revocations(encoded, Roots(ROOT.public), MESH_ID, NOW).names.nodes == nodes


def full_digest() -> None:
    digest = Digest(True, tuple(DigestEntry(node, 1, 0, Status.ALIVE, 0) for node in many(MAX_MEMBERS + 1)))
    assert decode_reliable(wire.encode(digest), ROOT.node) == digest


def full_delta() -> None:
    entries = (DeltaEntry(node, b"", Status.ALIVE, b"", 0.0, ()) for node in many(MAX_MEMBERS + 1))
    delta = Delta(tuple(entries), True)
    assert decode_reliable(wire.encode(delta), ROOT.node) == delta


def full_delegates() -> None:
    delegates = frozenset(map(NodeId, many(MAX_DELEGATES)))
    assert read_delegates(encode_delegates(delegates), ROOT.node) == delegates


FULL = {
    "transport.revocation._Body": full_revocations,
    "gossip.message.Digest": full_digest,
    "gossip.message.Delta": full_delta,
    "meshd.mesh_facts.DelegatesFact": full_delegates,
}


def test_who_may_hold_more_than_a_list_usually_may_is_known() -> None:
    long = {struct_path(struct) for struct in protocol.structs_in_code() if _longest(struct) > wire.MAX_ITEMS}
    assert long == FULL.keys(), "read it with max_items, and show here that a full one is read"


@pytest.mark.parametrize("read_full", FULL.values(), ids=FULL)
def test_the_longest_lists_are_read(read_full: Callable[[], None]) -> None:
    read_full()


def _longest(struct: type[msgspec.Struct]) -> int:
    """Of the arrays that stand in the struct itself."""
    kind = inspect.type_info(struct)
    assert isinstance(kind, inspect.StructType)
    arrays = [field.type for field in kind.fields if isinstance(field.type, inspect.VarTupleType | inspect.ListType)]
    return max((array.max_length or 0 for array in arrays), default=0)


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

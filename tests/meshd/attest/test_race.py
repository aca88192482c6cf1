"""What a race is agreed on by, and what of a transcript is whose word: each edited by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from meshd.attest.epoch import RevealRefused, commitment
from meshd.attest.judging import judge_transcript
from meshd.attest.pairing import fault_of_pledges
from meshd.attest.race import Agreed, Gathering, agree, enter, fault_of_roster, fault_of_terms
from meshd.attest.transcript import Transcript, Void, check_signatures, encode_transcript, race_of, read_digest
from tests.meshd.attest.examples import (
    AGREED,
    ENTRIES,
    MESH_ID,
    OWN,
    PLEDGE,
    PROVER,
    RACE,
    SECRETS,
    TERMS,
    TRANSCRIPT,
    VERIFIER,
)  # fmt: skip
from transport.errors import ProtocolError
from transport.identity import NodeKey
from transport.interface import NodeId

CALLED = float(TERMS.epoch)
replace = msgspec.structs.replace
STRANGER = NodeKey(b"\x09" * 32)


@pytest.mark.parametrize(
    ("terms", "caller", "now", "reason"),
    [
        (TERMS, PROVER.node, CALLED + 10, ""),
        (TERMS, VERIFIER.node, CALLED, "another node's name"),
        (TERMS, PROVER.node, CALLED + 301, "called 301 s ago"),
        (TERMS, PROVER.node, CALLED - 301, "called -301 s ago"),
        (replace(TERMS, profile=b"?" * 32), PROVER.node, CALLED, "profile that is not known"),
    ],
)
def test_terms_that_nobody_takes_part_in(terms: Any, caller: NodeId, now: float, reason: str) -> None:
    fault = fault_of_terms(terms, caller, now)
    assert reason in fault
    assert bool(fault) == bool(reason)


def test_a_roster_lists_who_signed_for_this_round_of_this_race_once_each() -> None:
    assert fault_of_roster(ENTRIES, TERMS, 0, MESH_ID) == ""
    assert "by NodeId" in fault_of_roster(ENTRIES[::-1], TERMS, 0, MESH_ID)
    assert "by NodeId" in fault_of_roster((ENTRIES[0], ENTRIES[0]), TERMS, 0, MESH_ID)
    for terms, number, mesh_id in (
        (replace(TERMS, salt=b"?" * 16), 0, MESH_ID),
        (TERMS, 1, MESH_ID),
        (TERMS, 0, b"?" * 16),
    ):
        assert "did not sign" in fault_of_roster(ENTRIES, terms, number, mesh_id)
    swollen = (replace(ENTRIES[0], vram_gb=80.0), ENTRIES[1])
    assert "did not sign" in fault_of_roster(swollen, TERMS, 0, MESH_ID)


def test_who_commits_in_anothers_name_breaks_the_protocol_and_who_reveals_nothing_is_named() -> None:
    gathering = Gathering.begin(MESH_ID, TERMS, 0)
    with pytest.raises(ProtocolError, match="another's name"):
        gathering.commit(VERIFIER.node, ENTRIES[0])
    assert gathering.roster() is None
    for key, entry in zip((PROVER, VERIFIER), ENTRIES, strict=True):
        gathering.commit(key.node, entry)
    gathering.reveal(PROVER.node, SECRETS[0])
    with pytest.raises(RevealRefused) as refused:
        gathering.conclude()
    assert refused.value.nodes == {VERIFIER.node}
    gathering.reveal(VERIFIER.node, SECRETS[1])
    assert gathering.conclude() == RACE


def test_another_salt_round_or_layout_is_another_race() -> None:
    others = [replace(AGREED, terms=replace(TERMS, salt=b"?" * 16)), replace(AGREED, round=1)]
    entry = enter(TERMS, 0, SECRETS[0], ((2,), 24.0), PROVER, MESH_ID)
    others.append(Agreed(MESH_ID, TERMS, 0, (entry, ENTRIES[1]), SECRETS))
    assert len({RACE.digest, *(agree(other).digest for other in others)}) == 4


def test_a_pledge_counts_for_one_prover_and_what_it_had_committed_to() -> None:
    own = commitment(PROVER.node, OWN)
    assert fault_of_pledges(RACE, PROVER.node, own, (PLEDGE,)) == ""
    assert "did not sign" in fault_of_pledges(RACE, PROVER.node, commitment(PROVER.node, b"x" * 32), (PLEDGE,))
    assert "verifiers'" in fault_of_pledges(RACE, VERIFIER.node, own, (PLEDGE,))
    assert "once each" in fault_of_pledges(RACE, PROVER.node, own, (PLEDGE, PLEDGE))


def edited(**parts: Any) -> Transcript:
    return replace(TRANSCRIPT, **parts)


def test_the_example_is_signed_throughout() -> None:
    assert check_signatures(TRANSCRIPT, race_of(TRANSCRIPT)) >= 0
    judged = judge_transcript(encode_transcript(TRANSCRIPT))
    assert (judged.verdict, judged.reason[:5]) == ("void", "fewer")  # two nonces say nothing


EDITS: dict[str, Callable[[], Transcript]] = {
    "a secret of the race": lambda: edited(agreed=replace(AGREED, secrets=(SECRETS[1], SECRETS[0]))),
    "the round": lambda: edited(agreed=replace(AGREED, round=1)),
    "the prover": lambda: edited(prover=VERIFIER.node),
    "a verifier that was none": lambda: edited(verifier=STRANGER.node),
    "the prover's part of the key": lambda: edited(own=b"x" * 32),
    "a pledge": lambda: edited(pledges=(replace(PLEDGE, commitment=b"x" * 32),)),
    "what was pledged": lambda: edited(claim=replace(TRANSCRIPT.claim, secrets=(b"x" * 32,))),
    "the nonces": lambda: edited(claim=replace(TRANSCRIPT.claim, nonces=bytes(16))),
    "the root": lambda: edited(claim=replace(TRANSCRIPT.claim, root=b"x" * 32)),
    "the secret that picked": lambda: edited(sample=b"x" * 32),
    "what was opened": lambda: edited(openings=replace(TRANSCRIPT.openings, samples=b"\x91\x90")),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_transcript_shows_nothing_of_its_prover(edit: Callable[[], Transcript]) -> None:
    transcript = edit()
    with pytest.raises(Void):
        check_signatures(transcript, race_of(transcript))
    assert judge_transcript(encode_transcript(transcript)).verdict == "void"


def test_a_name_of_a_transcript_is_64_hex_digits() -> None:
    assert read_digest(" " + "AB" * 32 + "\n") == b"\xab" * 32
    for text in ("", "ab" * 31, "g" * 64):
        with pytest.raises(ValueError, match="64 hex digits"):
            read_digest(text)

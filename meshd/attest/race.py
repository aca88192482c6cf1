"""One race as all its claimants agreed on it, and how they come to: signed commitments, then reveals. Pure.

Whoever holds a race can say who verifies whom in it, and whether it was agreed on as it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from forms.poc.profile import Profile
from forms.poc.seeds import derive
from meshd.attest.attestation import CLOCK_SLACK_S, PROFILES, Signer
from meshd.attest.epoch import RevealRefused, commitment, epoch_seed, verifiers_of
from meshd.attest.race_message import MAX_CLAIMANTS, MAX_ROUNDS, Entry, Roster, Terms
from transport import wire
from transport.errors import ProtocolError
from transport.identity import node_id, short, verify
from transport.interface import NodeId

_ENTRY_DOMAIN = b"meshd-poc-entry-v1"


class Agreed(msgspec.Struct, frozen=True, array_like=True):
    """A race as it is kept: who took part, by NodeId, and what each had committed to, in that order."""

    mesh_id: wire.Bytes16
    terms: Terms
    round: Annotated[int, msgspec.Meta(ge=0, lt=MAX_ROUNDS)]
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(min_length=2, max_length=MAX_CLAIMANTS)]
    secrets: Annotated[tuple[wire.Bytes32, ...], msgspec.Meta(min_length=2, max_length=MAX_CLAIMANTS)]


@dataclass(frozen=True, slots=True)
class Race:
    """claimants: by NodeId; the place of each says which nonces are its own."""

    agreed: Agreed
    digest: bytes
    seed: bytes
    claimants: tuple[NodeId, ...]

    @property
    def terms(self) -> Terms:
        return self.agreed.terms

    @property
    def profile(self) -> Profile:
        return PROFILES[self.terms.profile]

    def entry(self, node: NodeId) -> Entry:
        return self.agreed.entries[self.claimants.index(node)]

    def verifiers(self, prover: NodeId) -> tuple[NodeId, ...]:
        """Who checks `prover`, by NodeId."""
        return tuple(sorted(verifiers_of(self.seed, prover, self.claimants)))

    def provers(self, verifier: NodeId) -> tuple[NodeId, ...]:
        """Whom `verifier` checks."""
        return tuple(node for node in self.claimants if node != verifier and verifier in self.verifiers(node))


def enter(
    terms: Terms, number: int, secret: bytes, layout: tuple[tuple[int, ...], float], signer: Signer, mesh_id: bytes
) -> Entry:
    """Commit to `secret` in a round of a race. layout: groups, and GB of VRAM."""
    groups, vram_gb = layout
    hidden = commitment(node_id(signer.public), secret)
    body = _entry_body(terms, number, hidden, groups, vram_gb)
    return Entry(signer.public, hidden, groups, vram_gb, signer.sign(_ENTRY_DOMAIN + mesh_id + body))


def fault_of_terms(terms: Terms, caller: NodeId, now: float) -> str:
    """Why nobody takes part in such a race; "" for nothing."""
    if NodeId(terms.caller) != caller:
        return "it is called in another node's name"
    if abs(terms.epoch - now) > CLOCK_SLACK_S:
        return f"it was called {now - terms.epoch:.0f} s ago: up to {CLOCK_SLACK_S} are allowed"
    if terms.profile not in PROFILES:
        return "it is of a profile that is not known here"
    return ""


def is_own(entry: Entry, terms: Terms, number: int, mesh_id: bytes) -> bool:
    """Whether its claimant signed `entry` for this round."""
    body = _entry_body(terms, number, entry.commitment, entry.groups, entry.vram_gb)
    return verify(entry.public, entry.signature, _ENTRY_DOMAIN + mesh_id + body)


def fault_of_roster(entries: Iterable[Entry], terms: Terms, number: int, mesh_id: bytes) -> str:
    """What is wrong with a list of claimants; "" for nothing."""
    listed = list(entries)
    nodes = [node_id(entry.public) for entry in listed]
    if sorted(set(nodes)) != nodes:
        return "the claimants are not listed once each, by NodeId"
    if not all(is_own(entry, terms, number, mesh_id) for entry in listed):
        return "a claimant did not sign its entry"
    return ""


def agree(agreed: Agreed) -> Race:
    """The race. Raises RevealRefused while a reveal is missing or wrong, and ValueError for what is no race."""
    nodes = [node_id(entry.public) for entry in agreed.entries]
    if len(agreed.secrets) != len(nodes):
        raise ValueError(f"{len(nodes)} claimants and {len(agreed.secrets)} reveals")
    commitments = {node: entry.commitment for node, entry in zip(nodes, agreed.entries, strict=True)}
    seed = epoch_seed(commitments, dict(zip(nodes, agreed.secrets, strict=True)))
    return Race(agreed, derive("poc race", wire.encode(agreed)), seed, tuple(nodes))


@dataclass(slots=True)
class Gathering:
    """One round as its caller holds it: who committed to what, and who revealed it."""

    mesh_id: bytes
    terms: Terms
    number: int
    _entries: dict[NodeId, Entry]
    _secrets: dict[NodeId, bytes]

    @classmethod
    def begin(cls, mesh_id: bytes, terms: Terms, number: int) -> Gathering:
        return cls(mesh_id, terms, number, {}, {})

    def commit(self, node: NodeId, entry: Entry) -> None:
        """Take a claimant's commitment. Raises ProtocolError."""
        if node_id(entry.public) != node or not is_own(entry, self.terms, self.number, self.mesh_id):
            raise ProtocolError(f"node {short(node)} committed to something in another's name")
        self._entries[node] = entry

    def roster(self) -> Roster | None:
        """All who committed; None where there are not two."""
        return Roster(tuple(self._in_order())) if len(self._entries) > 1 else None

    def reveal(self, node: NodeId, secret: bytes) -> None:
        """Take what a claimant reveals; whether it is what it committed to is found in `conclude`."""
        self._secrets[node] = secret

    def conclude(self) -> Race:
        """The race. Raises RevealRefused: begin anew without those."""
        if missing := self._entries.keys() - self._secrets.keys():
            raise RevealRefused(missing)
        secrets = tuple(self._secrets[node] for node in sorted(self._entries))
        return agree(Agreed(self.mesh_id, self.terms, self.number, tuple(self._in_order()), secrets))

    def _in_order(self) -> list[Entry]:
        return [self._entries[node] for node in sorted(self._entries)]


def _entry_body(terms: Terms, number: int, hidden: bytes, groups: tuple[int, ...], vram_gb: float) -> bytes:
    return derive("poc entry", wire.encode(terms), number, hidden, ",".join(map(str, groups)), repr(float(vram_gb)))

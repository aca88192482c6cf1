"""One epoch's race: a seed that nobody could choose, and who verifies whom under it. Pure.

Each claimant commits to random bytes before it sees anybody's. All take part at once, so that one GPU cannot answer
for two of them. What is computed under the seed is `forms.poc`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from forms.poc.profile import Profile
from forms.poc.seeds import derive, derive_key
from transport.interface import NodeId

VERIFIERS = 3


class RevealRefused(Exception):
    """Some claimants revealed nothing, or not what they had committed to: the round starts anew without them."""

    def __init__(self, nodes: Collection[NodeId]) -> None:
        super().__init__(f"{len(nodes)} of the claimants did not reveal what they had committed to")
        self.nodes = frozenset(nodes)


def commitment(node: NodeId, secret: bytes) -> bytes:
    """What `node` shows of its random bytes at first; nobody can pass it off as its own."""
    return derive("poc commitment", node, secret)


def epoch_seed(commitments: Mapping[NodeId, bytes], reveals: Mapping[NodeId, bytes]) -> bytes:
    """The seed of all who committed. Raises RevealRefused while any of them is missing."""
    wrong = {node for node in commitments if commitment(node, reveals.get(node, b"")) != commitments[node]}
    if wrong:
        raise RevealRefused(wrong)
    return derive("poc epoch", *(part for node in sorted(commitments) for part in (node, reveals[node])))


def verifiers_of(seed: bytes, prover: NodeId, claimants: Collection[NodeId]) -> tuple[NodeId, ...]:
    """Who checks `prover`: the highest of the others by rendezvous hash, three where there are so many."""
    others = (node for node in claimants if node != prover)
    return tuple(sorted(others, key=lambda node: derive("poc verifier", seed, prover, node))[:VERIFIERS])


def input_key(seed: bytes, prover: NodeId, own: bytes, theirs: Mapping[NodeId, bytes], profile: Profile) -> int:
    """The key of a prover's inputs: its own random bytes and its verifiers', all committed to before any was shown."""
    said = (part for node in sorted(theirs) for part in (node, theirs[node]))
    return derive_key("poc input", seed, prover, own, profile.digest, *said)

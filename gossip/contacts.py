"""Which nodes this one holds links to, and what it should remember of where they are.

The mesh is fully meshed: every member that has not left is kept, dead ones too, so that a healed
partition is noticed. Seeds are places known before their nodes are: from a join or the address book.
Who has left is remembered without a link, since most who leave only restart.
"""

from __future__ import annotations

from gossip.event import Drop, Effect, Keep, Persist
from transport.interface import Address, NodeId

MAX_SEEDS = 256
MAX_FORMER = 256
MAX_PLACES = 16


class Contacts:
    """Turns what is known of members into links to keep and addresses to remember."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._seeds: dict[NodeId, tuple[Address, ...]] = {}
        self._kept: dict[NodeId, tuple[Address, ...]] = {}
        self._former: dict[NodeId, tuple[Address, ...]] = {}
        self._effects: list[Effect] = []

    def seed(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        """Try to reach `node` there as well, until gossip says where it is. Past `MAX_SEEDS`: left out.

        Anyone can say where a node is supposed to be, so what was known before is tried too. A member may have
        moved while nobody could hear of it: it is looked for there, and not remembered there.
        """
        known = self._kept.get(node) or self._seeds.get(node, ())
        is_full = len(self._seeds) >= MAX_SEEDS and not known
        if node == self._me or is_full or (known and set(addresses) <= set(known)):
            return
        places = tuple(dict.fromkeys(addresses + known))[:MAX_PLACES]
        if node not in self._kept:
            self._seeds[node] = places
        self._effects.append(Keep(node, places))

    def keep(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        """Hold a link to a member, at the addresses that it gives itself."""
        if self._kept.get(node) != addresses:
            self._kept[node] = addresses
            self._seeds.pop(node, None)
            self._former.pop(node, None)
            self._effects.append(Keep(node, addresses))

    def let_go(self, node: NodeId, reason: str) -> None:
        """Hold no link to `node` any longer."""
        addresses = self._kept.pop(node, None) or self._seeds.get(node)
        self._seeds.pop(node, None)
        if addresses is not None:
            self._remember(node, addresses)
            self._effects.append(Drop(node, reason))

    def forget(self, node: NodeId, reason: str) -> None:
        """Hold no link to `node` any longer, nor look for it after a restart."""
        was_kept = self._kept.pop(node, None) is not None
        was_sought = self._seeds.pop(node, None) is not None
        self._former.pop(node, None)
        if was_kept or was_sought:
            self._effects.append(Drop(node, reason))

    def take_effects(self) -> list[Effect]:
        """What is to be done since the last time; whatever was moved is persisted once."""
        effects, self._effects = self._effects, []
        if effects:
            effects.append(Persist(tuple({**self._former, **self._seeds, **self._kept}.items())))
        return effects

    def _remember(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        if len(self._former) >= MAX_FORMER:
            del self._former[next(iter(self._former))]
        self._former[node] = addresses

"""Where a token sends a joiner: to its issuer first, then to others who pass the joiner on to it."""

from __future__ import annotations

from collections.abc import Sequence

from gossip.view import View
from transport.interface import Address
from transport.invite import MAX_ADDRESSES

OWN_FIRST = 3
"""Half of a token's places, so that others find room beside an issuer with many addresses."""


def introducers(own: Sequence[Address], view: View) -> tuple[Address, ...]:
    """At most six addresses: the issuer's own, and one each of linked members, those known longest first."""
    others = [entry for entry in view.nodes[1:] if entry.is_usable and entry.linked and entry.addresses]
    others.sort(key=lambda entry: -entry.known_for_s)
    places = [*own[:OWN_FIRST], *(entry.addresses[0] for entry in others), *own[OWN_FIRST:]]
    return tuple(dict.fromkeys(places))[:MAX_ADDRESSES]

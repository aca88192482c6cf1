"""Who may open which stream: the one table of protocols and roles.

That a peer has a role at all is for `transport.admission` to prove; what a stream then says is for whoever
serves its protocol. A protocol that is not in the table is open to nobody.
"""

from __future__ import annotations

from transport.interface import Role

_MEMBERS = frozenset({Role.OWNER, Role.MEMBER})
_EVERYONE = frozenset(Role)

OPENERS: dict[str, frozenset[Role]] = {
    "gossip/1": _EVERYONE,  # a client reads the route summary
    "chat/1": _EVERYONE,
    "form/1": _EVERYONE,
    "renew/1": _EVERYONE,  # a client's certificate ends as well
    "join/1": _MEMBERS,  # passing on a joiner vouches for its session
    "clock/1": _MEMBERS,
    "lease/1": _MEMBERS,  # a client neither hosts nor works for a host
    "split/1": _MEMBERS,
    "tunnel/1": _MEMBERS,
    "blob/1": _MEMBERS,
    "files/1": _MEMBERS,
    "bulk/1": _MEMBERS,  # answered by the transport itself, where it has bulk lanes
    "session/1": _MEMBERS,
    "draft/1": _MEMBERS,
    "poc/1": _MEMBERS,
}


def may_open(role: Role, protocol: str) -> bool:
    """Whether an admitted peer of `role` may open a stream of `protocol`."""
    return role in OPENERS.get(protocol, frozenset())

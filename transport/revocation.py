"""Who and what the owner of a mesh has shut out: one list, signed by the root, that replaces its predecessor.

It names node ids, certificate serials and token ids. A node id shuts out its key for good, by whatever
certificate or token; a serial one certificate, and all that stand on it; a token id whoever has not joined by
it yet. Delegates cannot sign one: who may invite could else shut out the owner.

Every node keeps the newest list it has seen and passes it on. That is the agent's business, as is closing
the connections that `fallen` names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from transport import wire
from transport.certificate import names_in
from transport.errors import ProtocolError, RefusalCode, Refused
from transport.identity import NodeKey, verify
from transport.interface import NodeId, Peer
from transport.invite import TokenId
from transport.issuance import Serial
from transport.rotation import Root, Roots, retired

MAX_NAMES = 1024
"""Of each kind: as many as a mesh may have members."""

MAX_REVOCATION_BYTES = 64 * 1024
"""What three full kinds take (59 KB), and one gossip fact may hold."""

_DOMAIN = b"meshd-revocation-v1"


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    mesh_id: wire.Bytes16
    version: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
    signed_at: wire.Seconds
    nodes: Annotated[tuple[wire.Bytes32, ...], msgspec.Meta(max_length=MAX_NAMES)]
    serials: Annotated[tuple[Serial, ...], msgspec.Meta(max_length=MAX_NAMES)]
    tokens: Annotated[tuple[TokenId, ...], msgspec.Meta(max_length=MAX_NAMES)]


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: Annotated[bytes, msgspec.Meta(max_length=MAX_REVOCATION_BYTES)]
    signature: wire.Bytes64


@dataclass(frozen=True, slots=True)
class Names:
    """What a list names. The three kinds differ in length, so one set of bytes can hold them all."""

    nodes: frozenset[bytes] = frozenset()
    serials: frozenset[bytes] = frozenset()
    tokens: frozenset[bytes] = frozenset()

    @property
    def every(self) -> frozenset[bytes]:
        """As `Site.revoked` and `gossip.trust` take them."""
        return self.nodes | self.serials | self.tokens

    def __or__(self, other: Names) -> Names:
        return Names(self.nodes | other.nodes, self.serials | other.serials, self.tokens | other.tokens)

    def __sub__(self, other: Names) -> Names:
        return Names(self.nodes - other.nodes, self.serials - other.serials, self.tokens - other.tokens)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list that has been verified. signed_at: by the owner's clock, for people only."""

    version: int
    signed_at: int
    names: Names
    root_public: bytes
    encoded: bytes


def sign_revocations(root: NodeKey, mesh_id: bytes, version: int, names: Names, now: float) -> bytes:
    """Sign a list as the root of the mesh. ValueError for more than 1024 names of a kind."""
    kinds = [tuple(sorted(kind)) for kind in (names.nodes, names.serials, names.tokens)]
    if max(len(kind) for kind in kinds) > MAX_NAMES:
        raise ValueError(f"a revocation list names at most {MAX_NAMES} of a kind; drop serials that have expired")
    body = wire.encode(_Body(mesh_id, version, int(now), *kinds))
    return wire.encode(_Signed(body, root.sign(_DOMAIN + body)))


def verify_revocations(encoded: bytes, roots: Roots, mesh_id: bytes, now: float | None) -> RevocationList:
    """Check a list. now: None for one from our own disk, which a root that counts no more may have signed.

    Raises Refused: BAD_CERTIFICATE, WRONG_MESH, or EXPIRED_CERTIFICATE when its root counts no more.
    """
    signed, body = _read(encoded)
    if body.mesh_id != mesh_id:
        raise Refused(RefusalCode.WRONG_MESH, "this revocation list belongs to another mesh")
    root = _signing_root(signed, roots)
    if now is not None and not root.counts(now):
        raise retired(root, now)
    names = Names(frozenset(body.nodes), frozenset(body.serials), frozenset(body.tokens))
    return RevocationList(body.version, body.signed_at, names, root.public, encoded)


def is_newer(one: RevocationList, other: RevocationList | None, roots: Roots) -> bool:
    """Whether `one` replaces `other`: the later root before the higher version, so that a root out of office
    has the last word no more. Of two lists alike in both (a root key in two places) all nodes keep the same.
    """
    return other is None or _rank(one, roots) > _rank(other, roots)


class Revocations:
    """The list this node goes by. Others read `revoked`; a new list is brought here."""

    def __init__(self, mesh_id: bytes, current: RevocationList | None = None) -> None:
        self._mesh_id = mesh_id
        self.current = current
        self.revoked: frozenset[bytes] = current.names.every if current else frozenset()

    @classmethod
    def from_bytes(cls, data: bytes, roots: Roots, mesh_id: bytes) -> Revocations:
        """Read the list that was kept on disk, `current.encoded`. Raises Refused when it is damaged."""
        return cls(mesh_id, verify_revocations(data, roots, mesh_id, None))

    def receive(self, encoded: bytes, roots: Roots, now: float) -> bool:
        """Take a list that someone passed on; whether it is news. Raises Refused for one that the root did not sign.

        After news: keep it on disk, hand `revoked` to site and gossip, close what `fallen` names, pass it on.
        """
        if self.current is not None and encoded == self.current.encoded:
            return False
        received = verify_revocations(encoded, roots, self._mesh_id, now)
        if not is_newer(received, self.current, roots):
            return False
        self.current = received
        self.revoked = received.names.every
        return True

    def amend(self, root: NodeKey, add: Names, now: float, drop: Names | None = None) -> bytes:
        """Sign the next list as its owner, to be brought to `receive` here and elsewhere.

        Also after a rotation, with nothing to add, so that the list outlives the old root's window. ValueError
        when it grows too long.
        """
        version = 1 + (self.current.version if self.current else 0)
        names = (self.current.names if self.current else Names()) | add
        return sign_revocations(root, self._mesh_id, version, names - (drop or Names()), now)


def fallen(peers: Iterable[Peer], revoked: frozenset[bytes]) -> tuple[NodeId, ...]:
    """Which of these connected peers must go, by the certificates they were admitted with."""
    return tuple(peer.node for peer in peers if not names_in(peer.certificate).isdisjoint(revoked))


def _read(encoded: bytes) -> tuple[_Signed, _Body]:
    """Take a list apart. One list has one spelling: sorted, nothing twice."""
    source = "a revocation list"
    try:
        signed = wire.decode(encoded, _Signed, peer=None, max_bytes=MAX_REVOCATION_BYTES, source=source)
        body = wire.decode(
            signed.body, _Body, peer=None, max_bytes=MAX_REVOCATION_BYTES, max_items=MAX_NAMES, source=source
        )
    except ProtocolError as error:
        raise Refused(RefusalCode.BAD_CERTIFICATE, str(error)) from error
    kinds = (body.nodes, body.serials, body.tokens)
    is_sorted = all(kind == tuple(sorted(set(kind))) for kind in kinds)
    if wire.encode(signed) != encoded or wire.encode(body) != signed.body or not is_sorted:
        raise _bad("its encoding is not the one meshd writes")
    return signed, body


def _signing_root(signed: _Signed, roots: Roots) -> Root:
    for root in roots.every():
        if verify(root.public, signed.signature, _DOMAIN + signed.body):
            return root
    raise _bad("its signature is not by this mesh's root")


def _rank(one: RevocationList, roots: Roots) -> tuple[int, int, bytes]:
    return roots.seniority(one.root_public), one.version, one.encoded


def _bad(reason: str) -> Refused:
    return Refused(RefusalCode.BAD_CERTIFICATE, f"this revocation list is not valid: {reason}")

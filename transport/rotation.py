"""The root keys of a mesh over time: one is in office, and each names its successor.

A succession is signed by the old root, so that who knows that one believes the new; and by the new root, so
that nobody can pass on an office to a key he does not hold. For a window after it both roots count: tokens and
certificates of the old one have time to be used up or renewed.

It replaces a root that was worn, lent or is to move house. It cannot save a mesh whose root was stolen: the
thief can name a successor too, and every node keeps to the one it heard of first. Then found a new mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec

from transport import wire
from transport.errors import ProtocolError, RefusalCode, Refused
from transport.identity import NodeKey, node_id, short, verify
from transport.validity import CLOCK_TOLERANCE_S, span_text

WINDOW_S = 30 * 86400
"""No shorter than a certificate lives: so none that was honestly signed by the old root is cut off."""

MAX_WINDOW_S = 90 * 86400
MAX_SUCCESSIONS = 8
MAX_SUCCESSION_BYTES = 256
_OLD_DOMAIN = b"meshd-root-old-v1"
_NEW_DOMAIN = b"meshd-root-new-v1"

EncodedSuccession = Annotated[bytes, msgspec.Meta(max_length=MAX_SUCCESSION_BYTES)]
Successions = Annotated[tuple[EncodedSuccession, ...], msgspec.Meta(max_length=MAX_SUCCESSIONS)]


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    mesh_id: wire.Bytes16
    old_public: wire.Bytes32
    new_public: wire.Bytes32
    rotated: wire.Seconds
    window_ends: wire.Seconds


class _CrossSigned(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: EncodedSuccession
    by_old: wire.Bytes64
    by_new: wire.Bytes64


@dataclass(frozen=True, slots=True)
class Succession:
    """`new_public` follows `old_public`, which counts until `window_ends`. Both have signed it."""

    old_public: bytes
    new_public: bytes
    rotated: int
    window_ends: int
    encoded: bytes


class Root(NamedTuple):
    """A root key and until when it counts (unix seconds): None for the one in office."""

    public: bytes
    until: int | None

    def counts(self, now: float) -> bool:
        return self.until is None or now <= self.until + CLOCK_TOLERANCE_S


@dataclass(frozen=True, slots=True)
class Roots:
    """The root key in office and how it came there. links: verified, oldest first, ending in `current`."""

    current: bytes
    links: tuple[Succession, ...] = ()

    @classmethod
    def of(cls, mesh_id: bytes, current: bytes, encoded: Sequence[bytes]) -> Roots:
        """Verify a chain that someone showed. Raises Refused when it is none, or does not end in `current`."""
        links = tuple(read_succession(one, mesh_id) for one in encoded)
        ends = [link.new_public for link in links]
        starts = [link.old_public for link in links[1:]] + [current]
        if links and (ends != starts or len({links[0].old_public, *ends}) != len(links) + 1):
            raise _bad("its links do not lead to the root key shown")
        return cls(current, links)

    @property
    def encoded(self) -> tuple[bytes, ...]:
        """The chain as it travels and is kept."""
        return tuple(link.encoded for link in self.links)

    def every(self) -> tuple[Root, ...]:
        """The root in office first, then its predecessors, latest first."""
        earlier = (Root(link.old_public, link.window_ends) for link in reversed(self.links))
        return (Root(self.current, None), *earlier)

    def accepted(self, now: float) -> tuple[Root, ...]:
        """Those of `every` that count now."""
        return tuple(root for root in self.every() if root.counts(now))

    def seniority(self, public: bytes) -> int:
        """A number that grows from root to successor; -1 for a key that is none of ours."""
        order = [root.public for root in reversed(self.every())]
        return order.index(public) if public in order else -1

    def extended(self, mesh_id: bytes, encoded: Sequence[bytes]) -> Roots:
        """Learn from a chain that someone showed: links that follow on ours; the oldest are forgotten past eight.

        Raises Refused for a damaged or forged one, and for one that names another successor than we know.
        """
        roots, known = self, set(self.encoded)
        for one in encoded:
            if one not in known:
                roots = roots._followed(read_succession(one, mesh_id))
        return roots

    def _followed(self, link: Succession) -> Roots:
        known = {ours.old_public: ours.new_public for ours in self.links}
        if known.get(link.old_public, link.new_public) != link.new_public:
            raise _bad(f"it names another successor of root {_short(link.old_public)} than this node knows")
        if link.old_public != self.current:
            return self  # known already, or from before our time
        if link.new_public in {root.public for root in self.every()}:
            raise _bad(f"root {_short(link.new_public)} was in office before and cannot return")
        return Roots(link.new_public, (*self.links, link)[-MAX_SUCCESSIONS:])


def succeed(old: NodeKey, new: NodeKey, mesh_id: bytes, now: float, window_s: int = WINDOW_S) -> bytes:
    """Make `new` the successor of root `old`, and return that encoded. window_s: 30 to 90 days."""
    if not WINDOW_S <= window_s <= MAX_WINDOW_S or old.public == new.public:
        raise ValueError(f"a new root key needs a window of 30 to 90 days, got {window_s} s")
    body = wire.encode(_Body(mesh_id, old.public, new.public, int(now), int(now) + window_s))
    return wire.encode(_CrossSigned(body, old.sign(_OLD_DOMAIN + body), new.sign(_NEW_DOMAIN + body)))


def read_succession(encoded: bytes, mesh_id: bytes) -> Succession:
    """Check one succession. Raises Refused: BAD_CERTIFICATE, or WRONG_MESH."""
    source = "a root succession"
    try:
        signed = wire.decode(encoded, _CrossSigned, peer=None, max_bytes=MAX_SUCCESSION_BYTES, source=source)
        body = wire.decode(signed.body, _Body, peer=None, max_bytes=MAX_SUCCESSION_BYTES, source=source)
    except ProtocolError as error:
        raise Refused(RefusalCode.BAD_CERTIFICATE, str(error)) from error
    if wire.encode(signed) != encoded or wire.encode(body) != signed.body:
        raise _bad("its encoding is not the one meshd writes")
    if body.mesh_id != mesh_id:
        raise Refused(RefusalCode.WRONG_MESH, "this succession of root keys belongs to another mesh")
    if not WINDOW_S <= body.window_ends - body.rotated <= MAX_WINDOW_S:
        raise _bad("its window is not one of 30 to 90 days")
    _check_signatures(signed, body)
    return Succession(body.old_public, body.new_public, body.rotated, body.window_ends, encoded)


def retired(root: Root, now: float) -> Refused:
    """What stands against a signature of a root whose window has closed."""
    age = span_text(now - (root.until or 0))
    return Refused(
        RefusalCode.EXPIRED_CERTIFICATE,
        f"this was signed by a root key that the mesh replaced; it stopped counting {age} ago; ask the owner for a "
        "token (meshd token create) and run meshd --join TOKEN there",
    )


def _check_signatures(signed: _CrossSigned, body: _Body) -> None:
    if not verify(body.old_public, signed.by_old, _OLD_DOMAIN + signed.body):
        raise _bad("the old root did not sign it")
    if not verify(body.new_public, signed.by_new, _NEW_DOMAIN + signed.body):
        raise _bad("the new root did not sign it")


def _bad(reason: str) -> Refused:
    return Refused(RefusalCode.BAD_CERTIFICATE, f"the succession of this mesh's root keys is not valid: {reason}")


def _short(public: bytes) -> str:
    return short(node_id(public))

"""Where this node stands in its mesh while it runs: its certificate, the root keys, who is revoked.

The one owner of all three: whoever learns something brings it here, and whoever goes by it follows. What changes
is kept on disk first; when the disk fails, the node goes by it all the same and says so in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from meshd.belonging import Belonging
from transport.certificate import MemberCertificate, Membership
from transport.errors import RefusalCode, Refused
from transport.identity import RandomBytes, short
from transport.interface import NodeId, Peer, Transport
from transport.revocation import Names, RevocationList, Revocations
from transport.rotation import Roots
from transport.site import Site

logger = logging.getLogger("meshd.standing")

UnixTime = Callable[[], float]


class Doorkeeper(Transport, Protocol):
    """A transport that admits: what it brings to handshakes can be changed, and a peer sent away."""

    site: Site

    def revise(self, site: Site) -> None:
        """Use `site` in every later handshake, and close at once what its revocation list shuts out."""

    def peers(self) -> tuple[Peer, ...]:
        """Everyone connected now, with the certificate shown on arrival."""

    def cut(self, node: NodeId, reason: str) -> None:
        """Close every connection with `node` now."""


class Standing:
    """Use from `belong` on, when `belonging` has a membership. unix_time: the wall clock."""

    def __init__(self, belonging: Belonging, unix_time: UnixTime, random_bytes: RandomBytes) -> None:
        self.belonging = belonging
        self.unix_time = unix_time
        self._random_bytes = random_bytes
        self._followers: list[Callable[[], None]] = []

    # Reading

    @property
    def membership(self) -> Membership:
        assert self.belonging.membership is not None, "this node belongs to no mesh yet"
        return self.belonging.membership

    @property
    def roots(self) -> Roots:
        return self.membership.roots()

    @property
    def revocations(self) -> Revocations:
        assert self.belonging.revocations is not None, "this node belongs to no mesh yet"
        return self.belonging.revocations

    @property
    def revoked(self) -> frozenset[bytes]:
        """Node ids, serials and token ids that count for nothing."""
        return self.revocations.revoked

    def certificate(self) -> MemberCertificate:
        """This node's own. Raises Refused when it does not hold any more."""
        return self.membership.verified(self.unix_time())

    def site(self, before: Site) -> Site:
        """`before`, with what this node brings to handshakes now."""
        belonging = self.belonging
        return replace(
            before,
            membership=self.membership,
            tokens=belonging.tokens,
            signer=belonging.signer(self.unix_time()),
            revoked=self.revoked,
        )

    def follow(self, tell: Callable[[], None]) -> None:
        """Have `tell` called now and after every change."""
        self._followers.append(tell)
        tell()

    # What is learned

    def learn_roots(self, successions: Sequence[bytes]) -> bool:
        """Take root keys that follow on ours; whether there were any. Raises Refused for a forged succession."""
        roots = self.roots.extended(self.membership.mesh_id, successions)
        if roots == self.roots:
            return False
        logger.info("the mesh has a new root key; the old one counts on for a while")
        self._accept(self.membership.under(roots))
        return True

    def learn(self, membership: Membership) -> None:
        """As `learn_roots`, of a membership whose certificate may have been replaced since."""
        self.learn_roots(membership.successions)

    def learn_revocations(self, encoded: bytes) -> bool:
        """Take a revocation list; whether it is news. Raises Refused for one that the root did not sign."""
        if not self.revocations.receive(encoded, self.roots, self.unix_time()):
            return False
        current = self.revocations.current
        assert current is not None
        logger.info("revocation list %d shuts out %d nodes", current.version, len(current.names.nodes))
        if self.belonging.key.node in current.names.nodes:
            logger.error("the owner of this mesh has revoked this node: nobody there will talk to it any more")
        self._keep("the revocation list", self.belonging.save_revocations)
        self._changed()
        return True

    def renewed(self, membership: Membership) -> None:
        """Take a certificate that `renewal.Renewing` ended with."""
        roots = self.roots.extended(self.membership.mesh_id, membership.successions)
        self._accept(self.membership.under(roots).renewed(membership.certificate))
        logger.info("membership renewed, until %d (unix time)", self.certificate().expires)

    def save_redemption(self) -> None:
        """Keep the token book before whoever used a token is let in. Raises Refused with BUSY when that fails."""
        try:
            self.belonging.save_tokens()  # on the loop: two writers in threads could leave the older book
        except OSError as error:
            logger.error("cannot keep the token book, nobody is let in by token: %s", error)
            raise Refused(RefusalCode.BUSY, "the issuer cannot write its token book; see its log") from error

    # What only the holder of the root key can do; OSError when the disk does not take it

    def renew_as_owner(self) -> bool:
        """Sign this node's own certificate anew with the root key, when it is held here and that is due."""
        if not self.belonging.renew_as_owner(self.unix_time(), self._random_bytes):
            return False
        self._changed()
        return True

    def rotate_root(self) -> None:
        """Put a new root key in the place of the one held here, and sign the revocation list with it.

        The list too when it is empty: whoever holds the old key could have the last word otherwise.
        """
        self.belonging.rotate_root(self.unix_time(), self._random_bytes)
        logger.info("this mesh has a new root key")
        self._changed()
        self.revoke(Names())

    def revoke(self, names: Names) -> RevocationList:
        """Shut out `names` from now on. ValueError when the list grows too long."""
        root = self.belonging.root
        assert root is not None, "the caller has asked whether this node holds the root key"
        encoded = self.revocations.amend(root, names, self.unix_time())
        self.learn_revocations(encoded)
        current = self.revocations.current
        assert current is not None
        return current

    def settle(self) -> None:
        """Make up, at a start, for what was cut short or lost: a token book; the list under a new root key."""
        self._keep("a token book", self._equip)
        current = self.revocations.current
        if self.belonging.holds_root and current is not None and current.root_public != self.membership.root_public:
            self.revoke(Names())

    def name_delegates(self, delegates: frozenset[NodeId]) -> None:
        """Let these nodes invite, once they have renewed their certificates, and no others."""
        self.belonging.name_delegates(delegates)
        logger.info("delegates: %s", ", ".join(short(node) for node in sorted(delegates)) or "none")
        self._changed()

    # Keeping and telling

    def _accept(self, membership: Membership) -> None:
        belonging = self.belonging
        self._keep("the membership", lambda: belonging.accept(membership))
        belonging.adopt(membership)
        self._keep("a token book", self._equip)
        self._changed()

    def _equip(self) -> None:
        self.belonging.equip(self.unix_time(), self._random_bytes)

    def _keep(self, what: str, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            logger.error("cannot keep %s, and a restart would go by the older one: %s", what, error)

    def _changed(self) -> None:
        for tell in self._followers:
            tell()

"""Nodes for tests: real keys and certificates, and cheap ones where only their shape matters."""

from __future__ import annotations

import random

from gossip.member import LocalNode
from gossip.simulator.keys import MESH_ID, UNIX_TIME
from gossip.simulator.keys import FakeSigner as CheapSigner
from gossip.simulator.keys import FakeVerifier as CheapVerifier
from gossip.simulator.keys import fake_local as cheap_self
from gossip.trust import CertificateVerifier, Verifier
from transport.certificate import Signer as CertificateSigner
from transport.certificate import issue, verify_certificate
from transport.identity import NodeKey
from transport.interface import Address, Role

__all__ = ["MESH_ID", "UNIX_TIME", "CheapSigner", "CheapVerifier", "RealMesh", "cheap_self"]


class RealMesh:
    """A root key, and members with real Ed25519 keys and certificates under it."""

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(seed)
        self.root = NodeKey.generate(self._dice.randbytes)

    def verifier(self) -> Verifier:
        return CertificateVerifier(self.root.public, MESH_ID, lambda: UNIX_TIME)

    def member(self, name: str, role: Role = Role.MEMBER, boot: int = 1) -> LocalNode:
        key = NodeKey.generate(self._dice.randbytes)
        encoded = issue(CertificateSigner(self.root), MESH_ID, key.public, role, (), UNIX_TIME, self._dice.randbytes)
        certificate = verify_certificate(encoded, self.root.public, MESH_ID, UNIX_TIME)
        return LocalNode.of(certificate, key, name, boot, (Address("10.0.0.1", 7842),))

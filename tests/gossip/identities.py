"""Nodes for tests: real keys and certificates, and cheap ones where only their shape matters."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from gossip.member import LocalNode
from gossip.trust import CertificateVerifier, Certified, Verifier
from transport.certificate import Signer as CertificateSigner
from transport.certificate import issue, verify_certificate
from transport.identity import NodeKey, node_id
from transport.interface import Address, Role

MESH_ID = b"m" * 16
UNIX_TIME = 1_800_000_000.0


_ROLES = {role.value.encode(): role for role in Role}


@dataclass(frozen=True, slots=True)
class CheapSigner:
    """Signs by hashing with the public key: as easy to check as to forge, a hundred times faster."""

    public: bytes

    def sign(self, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=self.public).digest()


class CheapVerifier:
    """Believes `CheapSigner` and certificates made by `cheap_self`."""

    def __init__(self) -> None:
        self._known: dict[bytes, Certified] = {}

    def certified(self, certificate: bytes) -> Certified | None:
        if certificate not in self._known:
            public, role = certificate[:32], certificate[32:]
            if len(public) != 32 or role not in _ROLES:
                return None
            self._known[certificate] = Certified(node_id(public), public, _ROLES[role], public[:12])
        return self._known[certificate]

    def is_revoked(self, certificate: bytes) -> bool:
        return False

    def verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        return CheapSigner(public).sign(message) == signature


def cheap_self(name: str, role: Role = Role.MEMBER, boot: int = 1, addresses: tuple[Address, ...] = ()) -> LocalNode:
    """A node that signs cheaply. Its identity follows from its name."""
    public = hashlib.sha256(name.encode()).digest()
    return LocalNode(
        node=node_id(public),
        public=public,
        role=role,
        name=name,
        boot=boot,
        addresses=addresses or (Address(name, 7842),),
        certificate=public + role.value.encode(),
        serial=public[:12],
        mesh_id=MESH_ID,
        signer=CheapSigner(public),
    )


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

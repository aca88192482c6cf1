"""Who the simulated nodes are: with fake keys, which cost next to nothing, or with real Ed25519 ones."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from gossip.member import LocalNode
from gossip.trust import CertificateVerifier, Certified, Verifier
from transport.certificate import Signer as CertificateSigner
from transport.certificate import issue, verify_certificate
from transport.identity import NodeKey, node_id
from transport.interface import Address, Role

MESH_ID = b"m" * 16
PORT = 7842
UNIX_TIME = 1_800_000_000.0
"""What the wall clocks of simulated hosts show when the simulation begins."""

FAKE_CERTIFICATE_BYTES = 156
"""As long as a real one, so that records fill datagrams alike."""


_ROLES = {role.value.encode(): role for role in Role}


class Keys(Protocol):
    """Makes the nodes of one mesh, and judges what they sign."""

    def local(self, name: str, role: Role, boot: int) -> LocalNode:
        """The node of that name, the same at every start."""

    def verifier(self, unix_time: Callable[[], float]) -> Verifier:
        """What one node believes others by."""


@dataclass(frozen=True, slots=True)
class FakeSigner:
    """NOT a signature: a hash keyed with the public key, as easy to forge as to check, a hundred times faster.

    Good enough where only an honest mistake, or a liar who does not know of it, is to be caught.
    """

    public: bytes

    def sign(self, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=self.public).digest()


class FakeVerifier:
    """Believes `FakeSigner`, and certificates made by `fake_local`, which are no certificates."""

    def __init__(self) -> None:
        self._known: dict[bytes, Certified] = {}

    def certified(self, certificate: bytes) -> Certified | None:
        if certificate not in self._known:
            public, role = certificate[:32], _ROLES.get(certificate[32:].strip())
            if role is None:
                return None
            self._known[certificate] = Certified(node_id(public), public, role, public[:12])
        return self._known[certificate]

    def is_revoked(self, certificate: bytes) -> bool:
        return False

    def verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        return FakeSigner(public).sign(message) == signature


def fake_local(name: str, role: Role = Role.MEMBER, boot: int = 1, addresses: tuple[Address, ...] = ()) -> LocalNode:
    """A node that signs with `FakeSigner`. Its identity follows from its name."""
    public = hashlib.sha256(name.encode()).digest()
    return LocalNode(
        node=node_id(public),
        public=public,
        role=role,
        name=name,
        boot=boot,
        addresses=addresses or (Address(name, PORT),),
        certificate=public + role.value.encode(),
        serial=public[:12],
        mesh_id=MESH_ID,
        signer=FakeSigner(public),
    )


class FakeKeys:
    """The keys of a mesh whose nodes only pretend to sign."""

    def __init__(self) -> None:
        self._verifier = FakeVerifier()

    def local(self, name: str, role: Role, boot: int) -> LocalNode:
        local = fake_local(name, role, boot)
        return replace(local, certificate=local.certificate.ljust(FAKE_CERTIFICATE_BYTES))

    def verifier(self, unix_time: Callable[[], float]) -> Verifier:
        return self._verifier


class RealKeys:
    """A root key, and members with Ed25519 keys and certificates under it, all from one seed."""

    def __init__(self, seed: str) -> None:
        self._dice = random.Random(f"keys {seed}")
        self._root = NodeKey.generate(self._dice.randbytes)
        self._known: dict[str, LocalNode] = {}

    def local(self, name: str, role: Role, boot: int) -> LocalNode:
        if name not in self._known:
            self._known[name] = self._make(name, role)
        return replace(self._known[name], boot=boot)

    def verifier(self, unix_time: Callable[[], float]) -> Verifier:
        return CertificateVerifier(self._root.public, MESH_ID, unix_time)

    def _make(self, name: str, role: Role) -> LocalNode:
        key = NodeKey.generate(self._dice.randbytes)
        encoded = issue(CertificateSigner(self._root), MESH_ID, key.public, role, (), UNIX_TIME, self._dice.randbytes)
        certificate = verify_certificate(encoded, self._root.public, MESH_ID, UNIX_TIME)
        return LocalNode.of(certificate, key, name, 1, (Address(name, PORT),))

"""A node's Ed25519 key and what is derived from it: its id, its spelling for people, its TLS certificate.

Where the key is kept (a file of mode 0600) is the agent's business.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from transport.interface import NodeId

RandomBytes = Callable[[int], bytes]
"""Where deciders get their dice: `os.urandom` in the agent, a seeded source in tests."""

SEED_BYTES = 32
_TEXT_LENGTH = 52
_TLS_LIFETIME = timedelta(days=3650)


class NodeKey:
    """An Ed25519 key pair: a node's identity, or a mesh's root. Its repr shows the public half only."""

    __slots__ = ("_private", "node", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        """Derive the pair from its 32-byte seed, which is all that need be kept. ValueError otherwise."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a node key is {SEED_BYTES} bytes, got {len(seed)}")
        self.seed = bytes(seed)
        self._private = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.node = node_id(self.public)

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> NodeKey:
        """Make a new key from 32 random bytes."""
        return cls(random_bytes(SEED_BYTES))

    @property
    def private(self) -> Ed25519PrivateKey:
        """The key as `cryptography` and aioquic's TLS want it."""
        return self._private

    def sign(self, message: bytes) -> bytes:
        """Sign `message`: 64 bytes, the same for the same message."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"NodeKey({short(self.node)})"


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` over `message` was made with the key of `public`. False for malformed input too."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def node_id(public: bytes) -> NodeId:
    """The id of the node that owns the raw public key `public`."""
    return NodeId(hashlib.sha256(public).digest())


def node_text(node: NodeId) -> str:
    """Spell a node id for people: 52 characters of lower-case base32."""
    return base64.b32encode(node).decode("ascii").rstrip("=").lower()


def short(node: NodeId) -> str:
    """The first eight characters of `node_text`: enough for logs and tables, not for trust."""
    return node_text(node)[:8]


def parse_node_text(text: str) -> NodeId:
    """Read what `node_text` wrote, in either case. ValueError says what is wrong."""
    cleaned = text.strip().lower()
    if len(cleaned) != _TEXT_LENGTH:
        raise ValueError(f"a node id has {_TEXT_LENGTH} characters, got {len(cleaned)}")
    try:
        node = NodeId(base64.b32decode(cleaned.upper() + "===="))
    except (binascii.Error, ValueError) as error:
        raise ValueError("a node id has the letters a-z and the digits 2-7 only") from error
    if node_text(node) != cleaned:  # the last character carries four spare bits
        raise ValueError("this node id is damaged: its last character is not one that meshd writes")
    return node


def self_signed_certificate(key: NodeKey, now: float) -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """Make the TLS certificate of a node, and the key it goes with, as aioquic's configuration takes them.

    Nobody checks it: admission proves the identity above TLS. It names no node, so it tells a stranger nothing.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meshd")])
    start = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.private.public_key())
        .serial_number(int.from_bytes(key.node[:16], "big") | 1)
        .not_valid_before(start)
        .not_valid_after(start + _TLS_LIFETIME)
        .sign(key.private, algorithm=None)
    )
    return certificate, key.private

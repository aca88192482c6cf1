"""What travels in the admission handshake: its messages, what each signature covers, how a no is said.

Who may enter is decided in `admission`.
"""

from __future__ import annotations

import base64
import hashlib
from types import UnionType
from typing import Annotated, Any, TypeVar, overload

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from transport import wire
from transport.certificate import EncodedCertificate
from transport.errors import ProtocolError, RefusalCode, Refused
from transport.interface import NodeId, Role
from transport.invite import TokenId
from transport.rotation import Successions

MAX_MESSAGE_BYTES = 4096
BINDING_BYTES = 32
NONCE_BYTES = 32
_MAX_REASON = 400
_PAIRING_DOMAIN = b"meshd-pairing-v1"
_SERVER_DOMAIN = b"meshd-auth-S"
_CLIENT_DOMAIN = b"meshd-auth-C"
_FINISH_DOMAIN = b"meshd-auth-F"

T = TypeVar("T")

CODE_LENGTH = 12
PairingCode = Annotated[str, msgspec.Meta(max_length=CODE_LENGTH)]


class ServerHello(msgspec.Struct, frozen=True, tag_field="kind", tag="server-hello"):
    """Message 1. successions: how `root_public` came into office, for those who know an earlier root."""

    mesh_id: wire.Bytes16
    mesh_name: wire.ShortText
    root_public: wire.Bytes32
    public: wire.Bytes32
    certificate: EncodedCertificate
    boot: wire.Counter
    name: wire.ShortText
    nonce: wire.Bytes32
    signature: wire.Bytes64
    successions: Successions = ()


class JoinProof(msgspec.Struct, frozen=True):
    """Stands in message 2 for the certificate that a joiner does not have yet.

    issuer: whom another member has to ask about this token.
    """

    token_id: TokenId
    proof: wire.Bytes32
    issuer: wire.Bytes32 | None = None


class ClientProof(msgspec.Struct, frozen=True, tag_field="kind", tag="client-proof"):
    """Message 2: exactly one of `certificate` and `join`. successions: when the server showed another root."""

    public: wire.Bytes32
    role: Role
    boot: wire.Counter
    name: wire.ShortText
    nonce: wire.Bytes32
    signature: wire.Bytes64
    certificate: EncodedCertificate | None = None
    join: JoinProof | None = None
    successions: Successions = ()


class PairingRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="pairing-request"):
    """Message 2 of a node that has neither certificate nor token: may I come in, and has somebody decided yet?

    code: what `pairing_code` made of the session in which it first asked; empty in that one.
    """

    public: wire.Bytes32
    role: Role
    boot: wire.Counter
    name: wire.ShortText
    nonce: wire.Bytes32
    signature: wire.Bytes64
    code: PairingCode = ""


class ServerFinish(msgspec.Struct, frozen=True, tag_field="kind", tag="server-finish"):
    """Message 3. certificate: a joiner's own, new."""

    signature: wire.Bytes64
    certificate: EncodedCertificate | None = None
    highest_boot: wire.Counter | None = None


class Refusal(msgspec.Struct, frozen=True, tag_field="kind", tag="refusal"):
    """Either end's last message when it says no. code: a RefusalCode, or one of a later version."""

    code: wire.ShortText
    message: Annotated[str, msgspec.Meta(max_length=_MAX_REASON)]


def channel_binding(client_secret: bytes, server_secret: bytes) -> bytes:
    """Name one TLS session, alike at both its ends: 32 bytes from its two traffic secrets."""
    hkdf = HKDF(algorithm=SHA256(), length=BINDING_BYTES, salt=None, info=b"meshd channel binding v1")
    return hkdf.derive(client_secret + server_secret)


def pairing_code(binding: bytes, mesh_id: bytes, root: bytes, server: bytes, client: bytes) -> str:
    """What two people compare to know that their hosts talk to each other, and of which mesh: 12 letters and digits.

    root, server, client: public keys. Somebody in the middle would have to make two sessions agree on 60 bits, and
    can try 2^31 or so by a fast GPU's server randoms while a handshake waits: one chance in 2^24 with a full desk.
    """
    digest = hashlib.sha256(_PAIRING_DOMAIN + binding + mesh_id + root + server + client).digest()
    return base64.b32encode(digest).decode("ascii")[:CODE_LENGTH]


def refusal_message(refused: Refused) -> bytes:
    """Write what the other end gets instead of the next message, so that its user learns why."""
    return wire.encode(Refusal(refused.code.value, wire.printable(str(refused), _MAX_REASON)))


@overload
def read_message(message: bytes, expected: type[T], peer: NodeId | None, max_bytes: int = ...) -> T: ...
@overload
def read_message(message: bytes, expected: UnionType, peer: NodeId | None, max_bytes: int = ...) -> Any: ...
def read_message(message: bytes, expected: Any, peer: NodeId | None, max_bytes: int = MAX_MESSAGE_BYTES) -> Any:
    """The message we wait for, or the other end's refusal raised. Other bytes are refused as MALFORMED."""
    try:
        value = wire.decode(message, expected | Refusal, peer=peer, max_bytes=max_bytes)
    except ProtocolError as error:
        raise Refused(RefusalCode.MALFORMED, str(error)) from error
    if isinstance(value, Refusal):
        raise _refused(value)
    return value


def _refused(refusal: Refusal) -> Refused:
    reason = wire.printable(refusal.message, _MAX_REASON)
    try:
        return Refused(RefusalCode(refusal.code), reason)
    except ValueError:  # a later version's code; its words still help
        return Refused(RefusalCode.MALFORMED, reason)


# Every part below has a fixed length, so no two transcripts read alike.


def server_transcript(binding: bytes, mesh_id: bytes, server: bytes, server_nonce: bytes) -> bytes:
    return _SERVER_DOMAIN + binding + mesh_id + server + server_nonce


def client_transcript(
    binding: bytes, mesh_id: bytes, client: bytes, server: bytes, server_nonce: bytes, client_nonce: bytes
) -> bytes:
    return _CLIENT_DOMAIN + binding + mesh_id + client + server + server_nonce + client_nonce


def finish_transcript(binding: bytes, client: bytes, server: bytes, client_nonce: bytes) -> bytes:
    return _FINISH_DOMAIN + binding + client + server + client_nonce

"""Invitations: the token that one pastes on a new host, written, read and proved.

Its secret authorises, its root fingerprint lets the joiner check who answers, its signature exposes edited
fields. What a token is still worth only its issuer knows: `token_book`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Annotated

import msgspec

from transport import wire
from transport.address import parse_address
from transport.errors import BadToken, ProtocolError
from transport.identity import NodeKey, node_id, short, verify
from transport.interface import Address, NodeId, Role

VERSION = 1
MAX_ADDRESSES = 6
MAX_USES = 1000
TOKEN_ID_BYTES = 8
_SIGNATURE_BYTES = 64
_MAX_TOKEN_BYTES = 4096
_DOMAIN = b"meshd-token-v1"
_SHAPE = re.compile(r"meshd([0-9]{1,4}):([A-Za-z0-9_-]*)")
MAKE_NEW = "ask the owner for a new one: meshd token create"

TokenId = Annotated[bytes, msgspec.Meta(min_length=TOKEN_ID_BYTES, max_length=TOKEN_ID_BYTES)]
Uses = Annotated[int, msgspec.Meta(ge=1, le=MAX_USES)]


class Invite(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token says. Its repr hides the secret."""

    version: int
    mesh_id: wire.Bytes16
    root_fingerprint: wire.Bytes16
    token_id: TokenId
    secret: wire.Bytes16
    role: Role
    uses: Uses
    expires: wire.Seconds
    issuer_public: wire.Bytes32
    address_texts: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=262)], ...], msgspec.Meta(max_length=MAX_ADDRESSES)
    ]

    @property
    def issuer(self) -> NodeId:
        return node_id(self.issuer_public)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(parse_address(text) for text in self.address_texts)

    def __repr__(self) -> str:
        return f"Invite({self.token_id.hex()}, issuer={short(self.issuer)})"


def root_fingerprint(root_public: bytes) -> bytes:
    """Sixteen bytes by which a joiner recognises the mesh's root key."""
    return hashlib.sha256(b"meshd-root-v1" + root_public).digest()[:16]


def join_proof(secret: bytes, binding: bytes, public: bytes) -> bytes:
    """Prove the secret of a token for one connection and one node key, without telling it."""
    return hmac.digest(secret, binding + public, "sha256")


def format_token(invite: Invite, issuer: NodeKey) -> str:
    """Sign `invite` as its issuer and write it as the text one pastes."""
    payload = wire.encode(invite)
    signed = payload + issuer.sign(_DOMAIN + payload)
    return f"meshd{VERSION}:" + base64.urlsafe_b64encode(signed).decode("ascii").rstrip("=")


def parse_token(text: str) -> Invite:
    """Read a token, spaces and line breaks inside it forgiven. BadToken says in one line what is wrong."""
    payload, signature = _unwrap("".join(text.split()))
    invite = _read_payload(payload)
    if not verify(invite.issuer_public, signature, _DOMAIN + payload):
        raise BadToken(f"this token was changed after it was made (its signature does not match); {MAKE_NEW}")
    return invite


def _unwrap(text: str) -> tuple[bytes, bytes]:
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        if text.startswith("meshd1:"):
            raise BadToken(f"this token is damaged: it holds characters that no token has; {MAKE_NEW}")
        raise BadToken("this is not a meshd token: a token starts with meshd1: (make one with meshd token create)")
    _check_version(int(shape[1]))
    if len(text) > 2 * _MAX_TOKEN_BYTES:
        raise BadToken(f"this token is damaged: it is too long ({len(text)} characters); {MAKE_NEW}")
    body = shape[2]
    try:
        signed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error as error:
        raise BadToken(f"this token is damaged or cut off; copy all of it, or {MAKE_NEW}") from error
    if base64.urlsafe_b64encode(signed).decode("ascii").rstrip("=") != body or len(signed) <= _SIGNATURE_BYTES:
        raise BadToken(f"this token is damaged or cut off; copy all of it, or {MAKE_NEW}")
    return signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]


class _AnyVersion(msgspec.Struct, frozen=True, array_like=True):
    version: int


def _read_payload(payload: bytes) -> Invite:
    try:
        found = wire.decode(payload, _AnyVersion, peer=None, max_bytes=_MAX_TOKEN_BYTES, source="a token")
        _check_version(found.version)
        invite = wire.decode(payload, Invite, peer=None, max_bytes=_MAX_TOKEN_BYTES, source="a token")
        _ = invite.addresses
    except (ProtocolError, ValueError) as error:
        raise BadToken(f"this token is damaged: its contents cannot be read; {MAKE_NEW}") from error
    return invite


def _check_version(version: int) -> None:
    if version != VERSION:
        raise BadToken(f"this token is of version {version}, this meshd reads version {VERSION}: upgrade meshd here")

"""What can go wrong between nodes, sorted by whose fault it is.

Our own bugs have no class here: they rise. Drivers translate a library's exceptions into these once,
keeping the cause.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ResetCode(IntEnum):
    """Application error codes carried by RESET_STREAM and STOP_SENDING (RFC 9000 §20.2)."""

    CANCELLED = 1
    UNKNOWN_PROTOCOL = 2
    FORBIDDEN = 3
    PROTOCOL_ERROR = 4
    DEADLINE = 5
    BUSY = 6
    INTERNAL = 7
    SHUTDOWN = 8


class RefusalCode(StrEnum):
    """Why an introducer or a peer would not admit a node."""

    BAD_PROOF = "bad_proof"
    WRONG_MESH = "wrong_mesh"
    BAD_CERTIFICATE = "bad_certificate"
    EXPIRED_CERTIFICATE = "expired_certificate"
    REVOKED = "revoked"
    TOKEN_UNKNOWN = "token_unknown"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_SPENT = "token_spent"
    TOKEN_REVOKED = "token_revoked"
    NOT_ISSUER = "not_issuer"
    NOT_SIGNER = "not_signer"
    NOT_DUE = "not_due"
    PAIRING_PENDING = "pairing_pending"
    PAIRING_REFUSED = "pairing_refused"
    PAIRING_UNKNOWN = "pairing_unknown"
    MALFORMED = "malformed"
    BUSY = "busy"


class MeshError(Exception):
    """Base of every error that a peer, the network or an invitation can cause."""


class ProtocolError(MeshError):
    """The peer's fault: it sent what the protocol does not allow. Close that stream and count it."""


class Refused(MeshError):
    """The other end heard us and said no. Retrying unchanged will not help."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class BadToken(MeshError):
    """An invitation that cannot be used at all: not a token, edited, or from another version."""


class Unreachable(MeshError):
    """The weather: no link to the peer, or the link broke. The caller may try elsewhere."""


class TimedOut(Unreachable):
    """The weather: no answer within the deadline. The caller may try elsewhere."""


class StreamReset(MeshError):
    """The peer ended this stream early with a code; the connection lives on."""

    def __init__(self, code: int, message: str = "") -> None:
        name = ResetCode(code).name if code in ResetCode._value2member_map_ else str(code)
        super().__init__(message or f"stream reset by peer: {name}")
        self.code = code

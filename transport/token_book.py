"""The issuer's side of invitations: which tokens it gave out, and what each is still worth.

It keeps one HMAC key and a line per token, never a token: a secret is derived from the key when it is needed.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import msgspec

from transport import wire
from transport.address import format_address, parse_address
from transport.certificate import Membership, span_text
from transport.errors import ProtocolError, RefusalCode, Refused
from transport.identity import NodeKey, RandomBytes, node_id
from transport.interface import Address, Role
from transport.invite import (
    MAKE_NEW,
    MAX_ADDRESSES,
    MAX_USES,
    TOKEN_ID_BYTES,
    VERSION,
    Invite,
    TokenId,
    Uses,
    format_token,
    join_proof,
    root_fingerprint,
)

MAX_TOKENS = 10_000
MAX_TTL_S = 366 * 86400
# So that a late joiner still reads "expired" and not "unknown".
KEEP_EXPIRED_S = 7 * 86400
_MAX_BOOK_BYTES = 1 << 29
_SECRET_DOMAIN = b"meshd-token-secret-v1"


class TokenState(Enum):
    """What a token is good for now. Only VALID ones admit a new node."""

    VALID = "valid"
    EXPIRED = "expired"
    SPENT = "spent"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One line of `meshd token list`. expires: unix seconds."""

    token_id: bytes
    role: Role
    state: TokenState
    uses: int
    uses_left: int
    expires: int

    @property
    def text(self) -> str:
        """The id as `meshd token revoke` takes it."""
        return self.token_id.hex()


@dataclass(frozen=True, slots=True)
class Redemption:
    """A token was honoured for `role`. `counted` is False when the same node had used it before."""

    token_id: bytes
    role: Role
    counted: bool


class _Grant(msgspec.Struct, array_like=True):
    token_id: TokenId
    role: Role
    uses: Uses
    expires: wire.Seconds
    revoked: bool
    used_by: list[wire.Bytes32]

    def state(self, now: float) -> TokenState:
        if self.revoked:
            return TokenState.REVOKED
        if now >= self.expires:
            return TokenState.EXPIRED
        return TokenState.SPENT if len(self.used_by) >= self.uses else TokenState.VALID


class _Book(msgspec.Struct, frozen=True):
    version: int
    hmac_key: wire.Bytes32
    grants: list[_Grant]


class TokenBook:
    """The tokens that this issuer gave out. It owns their state; the agent keeps `to_bytes` on disk, mode 0600."""

    def __init__(self, issuer: NodeKey, membership: Membership, hmac_key: bytes) -> None:
        """Open an empty book. hmac_key: 32 random bytes, from which every token's secret is derived."""
        self._issuer = issuer
        self._membership = membership
        self._hmac_key = hmac_key
        self._grants: dict[bytes, _Grant] = {}

    @classmethod
    def from_bytes(cls, data: bytes, issuer: NodeKey, membership: Membership) -> TokenBook:
        """Read what `to_bytes` wrote. Raises ProtocolError when the file is damaged or from a newer meshd."""
        stored = wire.decode(
            data, _Book, peer=None, max_bytes=_MAX_BOOK_BYTES, max_items=MAX_TOKENS, source="the token book"
        )
        if stored.version != VERSION:
            raise ProtocolError(f"expected a token book of version {VERSION}, got {stored.version}: upgrade meshd here")
        book = cls(issuer, membership, stored.hmac_key)
        book._grants = {grant.token_id: grant for grant in stored.grants}
        return book

    def to_bytes(self) -> bytes:
        return wire.encode(_Book(VERSION, self._hmac_key, list(self._grants.values())))

    def create(
        self,
        role: Role,
        ttl_s: float,
        uses: int,
        addresses: Iterable[Address],
        now: float,
        random_bytes: RandomBytes,
    ) -> str:
        """Make a token and return its text, which is kept nowhere. At most six addresses are taken, in order.

        Raises ValueError for a role, span or count that no token may have, and when the book is full.
        """
        _check_terms(role, ttl_s, uses)
        self._prune(now)
        if len(self._grants) >= MAX_TOKENS:
            raise ValueError(f"{MAX_TOKENS} tokens are valid already; revoke some first: meshd token revoke ID")
        grant = _Grant(random_bytes(TOKEN_ID_BYTES), role, uses, int(now + ttl_s), False, [])
        token = format_token(self._invite(grant, addresses), self._issuer)
        self._grants[grant.token_id] = grant
        return token

    def list(self, now: float) -> tuple[TokenEntry, ...]:
        """Every token still remembered, the next to expire first."""
        entries = [
            TokenEntry(
                grant.token_id,
                grant.role,
                grant.state(now),
                grant.uses,
                grant.uses - len(grant.used_by),
                grant.expires,
            )
            for grant in self._grants.values()
        ]
        return tuple(sorted(entries, key=lambda entry: (entry.expires, entry.token_id)))

    def revoke(self, token_id: bytes) -> bool:
        """Make a token worthless; nodes that joined by it stay members. False when the book does not know it."""
        grant = self._grants.get(token_id)
        if grant is None:
            return False
        grant.revoked = True
        return True

    def knows(self, token_id: bytes) -> bool:
        """Whether this issuer remembers to have given out this token, whatever it is still worth."""
        return token_id in self._grants

    def adopt(self, membership: Membership) -> None:
        """Make tokens under the root that `membership` now has. Those given out before stay what they were worth."""
        self._membership = membership

    def redeem(
        self,
        token_id: bytes,
        proof: bytes,
        binding: bytes,
        public: bytes,
        role: Role,
        now: float,
        revoked: frozenset[bytes] = frozenset(),
    ) -> Redemption:
        """Honour a join proof by taking one use; the node that already took one (its reply got lost) takes none.

        revoked: the mesh's revocation list, which shuts out tokens beside those that this issuer revoked itself.
        Raises Refused with TOKEN_UNKNOWN, BAD_PROOF, TOKEN_REVOKED, TOKEN_EXPIRED or TOKEN_SPENT.
        """
        grant = self._grants.get(token_id)
        if grant is None:
            raise Refused(RefusalCode.TOKEN_UNKNOWN, f"this node knows no such token; {MAKE_NEW}")
        # The proof comes first: who does not hold the secret learns nothing of the token's state.
        if not hmac.compare_digest(proof, join_proof(self._secret(token_id), binding, public)):
            raise Refused(RefusalCode.BAD_PROOF, f"the proof does not match this token's secret; {MAKE_NEW}")
        node = node_id(public)
        repeated = node in grant.used_by
        if token_id in revoked:
            grant.revoked = True
        _check_grant(grant, repeated, now)
        _check_role(grant.role, role)
        if not repeated:
            grant.used_by.append(node)
        return Redemption(token_id, role, counted=not repeated)

    def _invite(self, grant: _Grant, addresses: Iterable[Address]) -> Invite:
        return Invite(
            VERSION,
            self._membership.mesh_id,
            root_fingerprint(self._membership.root_public),
            grant.token_id,
            self._secret(grant.token_id),
            grant.role,
            grant.uses,
            grant.expires,
            self._issuer.public,
            _address_texts(addresses),
        )

    def _secret(self, token_id: bytes) -> bytes:
        return hmac.digest(self._hmac_key, _SECRET_DOMAIN + token_id, "sha256")[:16]

    def _prune(self, now: float) -> None:
        """Forget tokens that expired a week ago; when the book is full, all that admit nobody any more."""
        self._grants = {key: grant for key, grant in self._grants.items() if now < grant.expires + KEEP_EXPIRED_S}
        if len(self._grants) >= MAX_TOKENS:
            self._grants = {key: grant for key, grant in self._grants.items() if grant.state(now) is TokenState.VALID}


def _address_texts(addresses: Iterable[Address]) -> tuple[str, ...]:
    """The first six addresses as text. ValueError for one that `parse_token` would not read back."""
    texts = tuple(format_address(address) for address in addresses)[:MAX_ADDRESSES]
    for text in texts:
        parse_address(text)
    return texts


def _check_terms(role: Role, ttl_s: float, uses: int) -> None:
    if role is Role.OWNER:
        raise ValueError("a token admits a member or a client, not an owner")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise ValueError(f"a token lives for at most {MAX_TTL_S // 86400} days, got {ttl_s} s")
    if not 1 <= uses <= MAX_USES:
        raise ValueError(f"a token has 1 to {MAX_USES} uses, got {uses}")


def _check_grant(grant: _Grant, repeated: bool, now: float) -> None:
    """Raise what stands against honouring `grant` now. A spent token still serves a node that took a use of it."""
    match grant.state(now):
        case TokenState.REVOKED:
            raise Refused(RefusalCode.TOKEN_REVOKED, f"this token was revoked; {MAKE_NEW}")
        case TokenState.EXPIRED:
            age = span_text(now - grant.expires)
            raise Refused(RefusalCode.TOKEN_EXPIRED, f"this token expired {age} ago; {MAKE_NEW}")
        case TokenState.SPENT if not repeated:
            times = "once" if grant.uses == 1 else f"{grant.uses} times"
            raise Refused(RefusalCode.TOKEN_SPENT, f"this token has been used {times}, as often as it may; {MAKE_NEW}")
        case TokenState.SPENT | TokenState.VALID:
            return


def _check_role(granted: Role, wanted: Role) -> None:
    """A member's token also admits a client, which may do less; nothing else differs from what was granted."""
    if wanted is granted or (granted is Role.MEMBER and wanted is Role.CLIENT):
        return
    raise Refused(
        RefusalCode.BAD_PROOF,
        f"this token admits a {granted.value}, not a {wanted.value}; add --client, or ask the owner for a member "
        "token: meshd token create --role member",
    )

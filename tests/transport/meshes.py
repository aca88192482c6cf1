"""A small mesh to test admission with: an owner, a member and a client that joined by token, all seeded."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from transport.admission import Accepted, Admitted, ClientAdmission, ServerAdmission, Site
from transport.certificate import Membership, Signer, delegate_signer, found_mesh, issue
from transport.identity import NodeKey
from transport.interface import Address, NodeId, Role
from transport.invite import Invite, parse_token
from transport.token_book import TokenBook

NOW = 1_800_000_000.0
DAY_S = 86400
BINDING = b"\x07" * 32
ADDRESSES = (Address("192.0.2.7", 7842), Address("2001:db8::7", 7842), Address("gpu-box.lan", 7842))


@dataclass
class Mesh:
    """Its root, its owner with the token book, and a source of dice."""

    seed: int = 1
    name: str = "attic"
    random_bytes: random.Random = field(init=False)
    root: NodeKey = field(init=False)
    owner: NodeKey = field(init=False)
    membership: Membership = field(init=False)
    book: TokenBook = field(init=False)

    def __post_init__(self) -> None:
        self.random_bytes = random.Random(self.seed)
        self.root = self.key()
        self.owner = self.key()
        self.membership = found_mesh(self.name, self.root, self.owner, NOW, self.dice)
        self.book = TokenBook(self.owner, self.membership, self.dice(32))

    def dice(self, count: int) -> bytes:
        return self.random_bytes.randbytes(count)

    def key(self) -> NodeKey:
        return NodeKey.generate(self.dice)

    def invite(self, role: Role = Role.MEMBER, ttl_s: float = DAY_S, uses: int = 1) -> Invite:
        return parse_token(self.book.create(role, ttl_s, uses, ADDRESSES, NOW, self.dice))

    def invite_of(self, issuer: Site, role: Role = Role.MEMBER) -> Invite:
        """A token that `issuer` made at its own node."""
        assert issuer.tokens is not None
        return parse_token(issuer.tokens.create(role, DAY_S, 1, ADDRESSES, NOW, self.dice))

    def owner_site(self, revoked: frozenset[bytes] = frozenset()) -> Site:
        return Site(self.owner, "owner", 3, self.membership, Role.OWNER, self.book, revoked, Signer(self.root))

    def joiner_site(self, role: Role = Role.MEMBER) -> Site:
        return Site(self.key(), "joiner", 1, None, role)

    def member_site(self, role: Role = Role.MEMBER, issued: float = NOW, key: NodeKey | None = None) -> Site:
        """A node that holds a root-signed certificate of `issued` and no token book."""
        key = key or self.key()
        encoded = issue(Signer(self.root), self.membership.mesh_id, key.public, role, (), issued, self.dice)
        membership = Membership(self.membership.mesh_id, self.name, self.root.public, encoded)
        return Site(key, role.value, 1, membership, role)

    def delegate_site(self, issued: float = NOW) -> Site:
        """A member that the owner lets invite, with a token book of its own."""
        key = self.key()
        mesh_id = self.membership.mesh_id
        encoded = issue(Signer(self.root), mesh_id, key.public, Role.MEMBER, ("can_invite",), issued, self.dice)
        membership = self.membership.renewed(encoded)
        book = TokenBook(key, membership, self.dice(32))
        signer = delegate_signer(key, membership, issued)
        return Site(key, "delegate", 1, membership, Role.MEMBER, book, signer=signer)

    def shake(
        self,
        server: Site,
        client: Site,
        invite: Invite | None = None,
        *,
        expected: NodeId | None = None,
        now: float = NOW,
        client_binding: bytes = BINDING,
    ) -> tuple[Accepted, Admitted]:
        """Run the whole handshake in memory; whichever end refuses raises."""
        server_end = ServerAdmission(server, BINDING, self.dice)
        client_end = ClientAdmission(client, client_binding, self.dice, invite, expected)
        message = client_end.receive(server_end.start(), now)
        assert isinstance(message, bytes)
        accepted = server_end.receive(message, now)
        admitted = client_end.receive(accepted.reply, now)
        assert isinstance(admitted, Admitted)
        return accepted, admitted

"""Which mesh this node belongs to: its keys, its membership, whom that mesh has revoked and, for those who may
invite, their tokens, all on disk.

`decide` chooses between founding, joining and coming back; the rest reads and writes the files. What comes of a
change while the node runs is `standing`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshd.datadir import DataDir, DataDirDamaged
from meshd.mesh_facts import encode_delegates, read_delegates
from transport.admission import Site
from transport.certificate import Membership, Signer, delegate_signer, found_mesh, issue, rotate_root
from transport.errors import ProtocolError, Refused
from transport.identity import NodeKey, RandomBytes
from transport.interface import NodeId, Role
from transport.invite import Invite
from transport.renewal import Wish, wish
from transport.revocation import Revocations
from transport.token_book import TokenBook

_FILES = ("mesh", "tokens", "root.key", "root.next", "revoked", "delegates", "addresses")


class CannotBelong(Exception):
    """What was asked does not fit the mesh this data directory belongs to; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """Make a new mesh and own it."""


@dataclass(frozen=True, slots=True)
class Join:
    """Become part of the mesh that `invites` name; they are tried in order."""

    invites: tuple[Invite, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask to come into the mesh of that name on the local network, without a token; found one if there is none."""

    mesh_name: str


@dataclass(frozen=True, slots=True)
class Return:
    """Be a node of `membership`'s mesh again. Tokens of the same mesh only give more addresses to try."""

    membership: Membership
    invites: tuple[Invite, ...]


@dataclass(frozen=True, slots=True)
class Papers:
    """A membership from disk. role: what its certificate grants.  problem: why it no longer counts, else empty."""

    membership: Membership
    role: Role
    problem: str = ""


Plan = Found | Join | Ask | Return


def decide(papers: Papers | None, invites: Sequence[Invite], is_client: bool, asks_for: str = "") -> Plan:
    """What a start means. asks_for: the name of a mesh that may be on this network. Raises CannotBelong."""
    if papers is None:
        if invites:
            return Join(tuple(invites))
        if asks_for:
            return Ask(asks_for)
        if is_client:
            raise CannotBelong("a lite client needs a mesh to join: meshd --client --join TOKEN")
        return Found()
    _check_same_mesh(papers.membership, invites)
    if papers.problem:
        if invites:
            return Join(tuple(invites))
        raise CannotBelong(papers.problem)
    _check_same_role(papers, is_client)
    return Return(papers.membership, tuple(invites))


def _check_same_mesh(membership: Membership, invites: Sequence[Invite]) -> None:
    for invite in invites:
        if invite.mesh_id != membership.mesh_id:
            raise CannotBelong(
                f"this token is for another mesh; this node belongs to {membership.mesh_name!r}: "
                "run `meshd leave` first, or give the other mesh its own --data-dir"
            )


def _check_same_role(papers: Papers, is_client: bool) -> None:
    if is_client != (papers.role is Role.CLIENT):
        wanted, advice = ("client", "leave out --client") if is_client else ("member", "add --client")
        raise CannotBelong(
            f"this node is a {papers.role.value} of mesh {papers.membership.mesh_name!r}, not a {wanted}: "
            f"{advice}, or run `meshd leave` and join with a {wanted} token"
        )


@dataclass(slots=True)
class Belonging:
    """One node's keys and papers. root: held by the founder only.  tokens: by those who may invite.

    revocations: None while in no mesh.  delegates: whom this owner lets invite; None when it never said.
    """

    directory: DataDir
    key: NodeKey
    membership: Membership | None
    root: NodeKey | None
    tokens: TokenBook | None
    revocations: Revocations | None = None
    delegates: frozenset[NodeId] | None = None

    @property
    def holds_root(self) -> bool:
        """Whether the root key here is the one in office."""
        return bool(self.root and self.membership and self.root.public == self.membership.root_public)

    def papers(self, now: float) -> Papers | None:
        """The membership, and whether it still counts."""
        if self.membership is None:
            return None
        try:
            return Papers(self.membership, self.membership.verified(now).role)
        except Refused as refused:
            return Papers(self.membership, Role.MEMBER, str(refused))

    def site(self, name: str, boot: int, role: Role, now: float) -> Site:
        """What the transport brings to every handshake."""
        revoked = self.revocations.revoked if self.revocations else frozenset()
        return Site(self.key, name, boot, self.membership, role, self.tokens, revoked, self.signer(now))

    def signer(self, now: float) -> Signer | None:
        """How this node signs certificates: with the root key, as a delegate, or not at all."""
        if self.membership is None:
            return None
        if self.root is not None and self.holds_root:
            return Signer(self.root)
        try:
            return delegate_signer(self.key, self.membership, now)
        except Refused:
            return None

    def found(self, mesh_name: str, now: float, random_bytes: RandomBytes) -> Membership:
        """Make a mesh with a new root key. The key is on disk before anything is signed with it."""
        root = NodeKey.generate(random_bytes)
        self.directory.write("root.key", root.seed)
        membership = found_mesh(mesh_name, root, self.key, now, random_bytes)
        self.root = root
        self.tokens = TokenBook(self.key, membership, random_bytes(32))
        self.save_tokens()
        self.accept(membership)
        return membership

    def accept(self, membership: Membership) -> None:
        """Keep a membership, and go by it: the first, a renewed one, or one under a new root key."""
        self.directory.write("mesh", membership.to_bytes())
        self.adopt(membership)

    def adopt(self, membership: Membership) -> None:
        """Go by a membership until the next start."""
        self.membership = membership
        if self.revocations is None:
            self.revocations = Revocations(membership.mesh_id)
        if self.tokens is not None:
            self.tokens.adopt(membership)

    def equip(self, now: float, random_bytes: RandomBytes) -> None:
        """Open a token book for a node that may invite and has none yet."""
        if self.tokens is None and self.membership is not None and self.signer(now) is not None:
            self.tokens = TokenBook(self.key, self.membership, random_bytes(32))
            self.save_tokens()

    def renew_as_owner(self, now: float, random_bytes: RandomBytes) -> bool:
        """Who holds the root key needs nobody: sign its own certificate anew when that is due or has ended."""
        if not (self.root and self.membership and self.holds_root) or self._is_fresh(now):
            return False
        signer, mesh_id = Signer(self.root), self.membership.mesh_id
        encoded = issue(signer, mesh_id, self.key.public, Role.OWNER, ("can_invite",), now, random_bytes)
        self.accept(self.membership.renewed(encoded))
        return True

    def rotate_root(self, now: float, random_bytes: RandomBytes) -> None:
        """Put a new root key in the place of the one held here. Cut short at any point, one of the two is whole.

        ValueError when this node does not hold the root key in office.
        """
        if not (self.root and self.membership):
            raise ValueError("this node does not hold the mesh's root key")
        new = NodeKey.generate(random_bytes)
        membership = rotate_root(self.membership, self.root, new, now, random_bytes)
        self.directory.write("root.next", new.seed)
        self.accept(membership)
        self.root = new
        self._promote(new)

    def _promote(self, root: NodeKey) -> None:
        self.directory.write("root.key", root.seed)
        self.directory.remove("root.next")

    def save_tokens(self) -> None:
        """Keep the token book; nothing to do without one."""
        if self.tokens is not None:
            self.directory.write("tokens", self.tokens.to_bytes())

    def save_revocations(self) -> None:
        """Keep the revocation list; nothing to do without one."""
        if self.revocations is not None and self.revocations.current is not None:
            self.directory.write("revoked", self.revocations.current.encoded)

    def name_delegates(self, delegates: Iterable[NodeId]) -> None:
        """Keep whom this owner lets invite from now on."""
        named = frozenset(delegates)
        self.directory.write("delegates", encode_delegates(named))
        self.delegates = named

    def forget(self) -> None:
        """Belong to no mesh any more. The node keeps its key, and with it its id."""
        for name in _FILES:
            self.directory.remove(name)
        self.membership = self.root = self.tokens = self.revocations = self.delegates = None

    def _is_fresh(self, now: float) -> bool:
        assert self.membership is not None
        try:
            return wish(self.membership.verified(now), self.membership.roots(), now) is Wish.NONE
        except Refused:
            return False


def load(directory: DataDir, random_bytes: RandomBytes) -> Belonging:
    """Read what the directory holds, making a node key on the first start. Raises DataDirDamaged naming the file."""
    seed = directory.read("node.key")
    if seed is None:
        seed = random_bytes(32)
        directory.write("node.key", seed)
    key = _key(directory, "node.key", seed)
    membership = _membership(directory)
    if membership is None:
        return Belonging(directory, key, None, None, None)
    root = _root(directory, membership)
    tokens = _tokens(directory, key, membership, random_bytes, is_wanted=root is not None)
    revocations = _revocations(directory, membership)
    belonging = Belonging(directory, key, membership, root, tokens, revocations, _delegates(directory))
    if root is not None and directory.read("root.next") is not None and belonging.holds_root:
        belonging._promote(root)  # a rotation was cut short after its membership was kept
    return belonging


def _root(directory: DataDir, membership: Membership) -> NodeKey | None:
    """The root key in office, if it is here; else one that was replaced, if that is."""
    found = [(name, directory.read(name)) for name in ("root.key", "root.next")]
    keys = [_key(directory, name, seed) for name, seed in found if seed is not None]
    return next((key for key in keys if key.public == membership.root_public), keys[0] if keys else None)


def _key(directory: DataDir, name: str, seed: bytes) -> NodeKey:
    try:
        return NodeKey(seed)
    except ValueError as error:
        raise DataDirDamaged(f"{directory.root / name} holds no key: {error}; restore it from a backup") from None


def _membership(directory: DataDir) -> Membership | None:
    content = directory.read("mesh")
    if content is None:
        return None
    try:
        membership = Membership.from_bytes(content)
        membership.roots()
    except (ProtocolError, Refused) as error:
        raise DataDirDamaged(f"{directory.root / 'mesh'}: {error}; delete it and join again with a token") from None
    return membership


def _revocations(directory: DataDir, membership: Membership) -> Revocations:
    content = directory.read("revoked")
    if content is None:
        return Revocations(membership.mesh_id)
    try:
        return Revocations.from_bytes(content, membership.roots(), membership.mesh_id)
    except Refused as error:
        raise DataDirDamaged(f"{directory.root / 'revoked'}: {error}; delete it, peers pass it on") from None


def _delegates(directory: DataDir) -> frozenset[NodeId] | None:
    content = directory.read("delegates")
    if content is None:
        return None
    try:
        return read_delegates(content, None, "the delegates")
    except ProtocolError as error:
        raise DataDirDamaged(f"{directory.root / 'delegates'}: {error}; delete it and name them again") from None


def _tokens(
    directory: DataDir, key: NodeKey, membership: Membership, random_bytes: RandomBytes, *, is_wanted: bool
) -> TokenBook | None:
    content = directory.read("tokens")
    if content is None:
        return TokenBook(key, membership, random_bytes(32)) if is_wanted else None
    try:
        return TokenBook.from_bytes(content, key, membership)
    except ProtocolError as error:
        raise DataDirDamaged(f"{directory.root / 'tokens'}: {error}; delete it to start an empty one") from None

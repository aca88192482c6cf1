"""Which mesh this node belongs to: its keys, its membership and, for an issuer, its tokens, on disk.

`decide` chooses between founding, joining and coming back; the rest reads and writes the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshd.datadir import DataDir, DataDirDamaged
from transport.admission import Site
from transport.certificate import Membership, Signer, found_mesh
from transport.errors import ProtocolError, Refused
from transport.identity import NodeKey, RandomBytes
from transport.interface import Role
from transport.invite import Invite
from transport.token_book import TokenBook


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


def decide(papers: Papers | None, invites: Sequence[Invite], is_client: bool) -> Found | Join | Return:
    """What a start means. Raises CannotBelong."""
    if papers is None:
        if invites:
            return Join(tuple(invites))
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
    """One node's keys and papers. root and tokens are held by the founder only."""

    directory: DataDir
    key: NodeKey
    membership: Membership | None
    root: NodeKey | None
    tokens: TokenBook | None

    def papers(self, now: float) -> Papers | None:
        """The membership, and whether it still counts."""
        if self.membership is None:
            return None
        try:
            return Papers(self.membership, self.membership.verified(now).role)
        except Refused as refused:
            return Papers(self.membership, Role.MEMBER, str(refused))

    def site(self, name: str, boot: int, role: Role) -> Site:
        """What the transport brings to every handshake."""
        signer = Signer(self.root) if self.root else None
        return Site(self.key, name, boot, self.membership, role, tokens=self.tokens, signer=signer)

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
        """Keep a membership."""
        self.directory.write("mesh", membership.to_bytes())
        self.membership = membership

    def save_tokens(self) -> None:
        """Keep the token book; nothing to do without one."""
        if self.tokens is not None:
            self.directory.write("tokens", self.tokens.to_bytes())

    def forget(self) -> None:
        """Belong to no mesh any more. The node keeps its key, and with it its id."""
        for name in ("mesh", "tokens", "root.key", "addresses"):
            self.directory.remove(name)
        self.membership = self.root = self.tokens = None


def load(directory: DataDir, random_bytes: RandomBytes) -> Belonging:
    """Read what the directory holds, making a node key on the first start. Raises DataDirDamaged naming the file."""
    seed = directory.read("node.key")
    if seed is None:
        seed = random_bytes(32)
        directory.write("node.key", seed)
    key = _key(directory, "node.key", seed)
    membership = _membership(directory)
    root_seed = directory.read("root.key") if membership else None
    root = _key(directory, "root.key", root_seed) if root_seed else None
    tokens = _tokens(directory, key, membership, random_bytes) if membership and root else None
    return Belonging(directory, key, membership, root, tokens)


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
        return Membership.from_bytes(content)
    except ProtocolError as error:
        raise DataDirDamaged(f"{directory.root / 'mesh'}: {error}; delete it and join again with a token") from None


def _tokens(directory: DataDir, key: NodeKey, membership: Membership, random_bytes: RandomBytes) -> TokenBook:
    content = directory.read("tokens")
    if content is None:
        return TokenBook(key, membership, random_bytes(32))
    try:
        return TokenBook.from_bytes(content, key, membership)
    except ProtocolError as error:
        raise DataDirDamaged(f"{directory.root / 'tokens'}: {error}; delete it to start an empty one") from None

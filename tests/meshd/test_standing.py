"""What a node learns about its mesh while it runs: kept, gone by, and told to whoever follows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from meshd.datadir import DataDir, DataDirDamaged
from tests.meshd.standings import DAY_S, NOW, Desk, founder_at, member_at
from transport.errors import Refused
from transport.identity import NodeKey
from transport.interface import NodeId, Role
from transport.revocation import Names, sign_revocations
from transport.rotation import succeed
from transport.site import Site

OUTCAST = Names(nodes=frozenset({b"o" * 32}))


@pytest.fixture
def founder(tmp_path: Path) -> Desk:
    return founder_at(tmp_path / "founder")


@pytest.fixture
def member(tmp_path: Path, founder: Desk) -> Desk:
    return member_at(tmp_path / "member", founder)


def site(desk: Desk) -> Site:
    return desk.standing.site(Site(desk.standing.belonging.key, "name", 7, None, Role.MEMBER))


# Root keys


def test_a_new_root_key_is_learned_once_kept_and_told(founder: Desk, member: Desk) -> None:
    old = founder.standing.membership.root_public
    founder.standing.rotate_root()
    member.standing.follow(member.tell)
    successions = founder.standing.membership.successions

    assert member.standing.learn_roots(successions)
    assert not member.standing.learn_roots(successions)

    assert member.told == [NOW, NOW]  # at first, and for the one change
    assert member.standing.roots.current == founder.standing.roots.current != old
    assert member.again().roots == founder.standing.roots
    assert site(member).membership == member.standing.membership


def test_a_stranger_cannot_name_a_successor(founder: Desk, member: Desk) -> None:
    thief, heir = NodeKey(b"t" * 32), NodeKey(b"h" * 32)
    forged = succeed(thief, heir, founder.standing.membership.mesh_id, NOW)
    assert not member.standing.learn_roots([forged])  # follows on a root that is none of ours
    with pytest.raises(Refused):
        member.standing.learn_roots([forged[:-1] + b"x"])
    assert member.standing.roots == founder.standing.roots


def test_news_that_was_made_before_a_renewal_does_not_bring_the_old_certificate_back(
    founder: Desk, member: Desk, tmp_path: Path
) -> None:
    founder.standing.rotate_root()
    news = member.standing.membership.under(founder.standing.roots)
    renewed = member_at(tmp_path / "other", founder).standing.membership.certificate
    member.standing.belonging.accept(member.standing.membership.renewed(renewed))

    member.standing.learn(news)

    assert member.standing.membership.certificate == renewed
    assert member.standing.roots == founder.standing.roots


def test_the_owner_signs_with_the_new_key_and_its_old_tokens_still_count(founder: Desk) -> None:
    book = founder.standing.belonging.tokens
    assert book is not None
    before = book.list(NOW)
    founder.standing.rotate_root()
    founder.standing.rotate_root()

    again = founder.again()

    assert again.belonging.holds_root and again.belonging.root is not None
    assert again.belonging.root.public == founder.standing.membership.root_public
    assert len(again.roots.links) == 2
    assert again.belonging.tokens is not None and again.belonging.tokens.list(NOW) == before
    assert again.certificate().role is Role.OWNER and again.certificate().root_public == again.roots.current
    assert again.belonging.directory.read("root.next") is None


def test_the_list_is_signed_anew_with_a_new_root_key_even_when_it_is_empty(founder: Desk) -> None:
    founder.standing.rotate_root()
    current = founder.standing.revocations.current
    assert current is not None and current.root_public == founder.standing.roots.current
    assert current.names == Names()


def test_an_owner_whose_root_was_replaced_elsewhere_signs_no_more_with_the_old(founder: Desk, tmp_path: Path) -> None:
    root = founder.standing.belonging.root
    assert root is not None
    link = succeed(root, NodeKey(b"n" * 32), founder.standing.membership.mesh_id, NOW)
    founder.standing.learn_roots([link])
    assert not founder.standing.belonging.holds_root
    assert not founder.again().belonging.holds_root
    with pytest.raises(ValueError, match="not the root key"):
        founder.standing.rotate_root()


class DiskFull(DataDir):
    """Takes only so many more files, and then none."""

    __slots__ = ()
    room = 0

    def write(self, name: str, content: bytes) -> None:
        if DiskFull.room == 0:
            raise OSError("no space left on device")
        DiskFull.room -= 1
        super().write(name, content)


def with_room_for(files: int, desk: Desk) -> None:
    DiskFull.room = files
    desk.standing.belonging.directory = DiskFull(desk.standing.belonging.directory.root)


@pytest.mark.parametrize("files", [0, 1, 2, 3, 4])
def test_a_rotation_cut_short_leaves_one_root_key_whole(founder: Desk, files: int) -> None:
    directory = founder.standing.belonging.directory
    founder.standing.revoke(OUTCAST)
    with_room_for(files, founder)
    try:
        founder.standing.rotate_root()
    except OSError:
        assert files < 3
    founder.standing.belonging.directory = directory

    again = founder.again()
    again.settle()

    assert again.belonging.holds_root
    current = again.revocations.current
    assert current is not None and current.root_public == again.roots.current
    assert current.names == OUTCAST
    again.rotate_root()
    assert founder.again().belonging.holds_root


# Revocations


def test_a_list_is_learned_once_kept_and_told(founder: Desk, member: Desk) -> None:
    listed = founder.standing.revoke(OUTCAST)
    member.standing.follow(member.tell)

    assert member.standing.learn_revocations(listed.encoded)
    assert not member.standing.learn_revocations(listed.encoded)

    assert len(member.told) == 2
    assert member.standing.revoked == OUTCAST.every == site(member).revoked
    assert member.again().revoked == OUTCAST.every


def test_a_list_that_the_root_did_not_sign_changes_nothing(founder: Desk, member: Desk) -> None:
    forged = sign_revocations(NodeKey(b"t" * 32), founder.standing.membership.mesh_id, 9, OUTCAST, NOW)
    with pytest.raises(Refused):
        member.standing.learn_revocations(forged)
    assert member.standing.revoked == frozenset()


def test_a_full_disk_does_not_keep_a_revocation_from_holding(
    founder: Desk, member: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    listed = founder.standing.revoke(OUTCAST)
    with_room_for(0, member)
    assert member.standing.learn_revocations(listed.encoded)
    assert member.standing.revoked == OUTCAST.every
    assert "cannot keep the revocation list" in caplog.text


def test_a_full_disk_does_not_keep_a_new_root_key_from_holding(founder: Desk, member: Desk) -> None:
    founder.standing.rotate_root()
    with_room_for(0, member)
    assert member.standing.learn_roots(founder.standing.membership.successions)
    assert member.standing.roots == founder.standing.roots


def test_a_revoked_node_hears_of_it(founder: Desk, member: Desk, caplog: pytest.LogCaptureFixture) -> None:
    node = member.standing.belonging.key.node
    member.standing.learn_revocations(founder.standing.revoke(Names(nodes=frozenset({node}))).encoded)
    assert "has revoked this node" in caplog.text


def test_names_add_up(founder: Desk) -> None:
    founder.standing.revoke(OUTCAST)
    second = founder.standing.revoke(Names(tokens=frozenset({b"t" * 8})))
    assert second.version == 2
    assert founder.again().revoked == OUTCAST.every | {b"t" * 8}


# Certificates and delegates


def test_an_owner_renews_itself_when_due_also_after_its_end(founder: Desk) -> None:
    first = founder.standing.certificate()
    assert not founder.standing.renew_as_owner()
    for days in (21, 400):
        founder.clock.now = NOW + days * DAY_S
        assert founder.standing.renew_as_owner()
        assert founder.standing.certificate().expires > founder.clock.now
    assert founder.standing.certificate().caps == first.caps
    assert founder.again().certificate().serial == founder.standing.certificate().serial


def test_a_member_cannot_renew_itself(member: Desk) -> None:
    member.clock.now = NOW + 21 * DAY_S
    assert not member.standing.renew_as_owner()


def test_who_may_invite_has_a_book_and_signs_as_a_delegate(founder: Desk, member: Desk, tmp_path: Path) -> None:
    assert member.standing.belonging.tokens is None and site(member).signer is None
    deputy = member_at(tmp_path / "deputy", founder, may_invite=True)
    signer = site(deputy).signer
    assert signer is not None and signer.certificate is not None
    assert site(deputy).tokens is not None
    assert deputy.again().belonging.tokens is not None


def test_a_delegate_whose_book_was_lost_gets_an_empty_one(founder: Desk, tmp_path: Path) -> None:
    deputy = member_at(tmp_path / "deputy", founder, may_invite=True)
    deputy.standing.belonging.directory.remove("tokens")
    again = deputy.again()
    again.settle()
    assert again.belonging.tokens is not None and again.belonging.tokens.list(NOW) == ()


def test_delegates_are_kept_and_told(founder: Desk) -> None:
    founder.standing.follow(founder.tell)
    named = frozenset({NodeId(b"d" * 32)})
    assert founder.standing.belonging.delegates is None
    founder.standing.name_delegates(named)
    assert founder.again().belonging.delegates == named
    founder.standing.name_delegates(frozenset())
    assert founder.again().belonging.delegates == frozenset()
    assert len(founder.told) == 3


# The disk


@pytest.mark.parametrize("name", ["revoked", "delegates"])
def test_a_damaged_file_is_named(founder: Desk, name: str) -> None:
    founder.standing.belonging.directory.write(name, b"\xc1 damaged")
    with pytest.raises(DataDirDamaged, match=name):
        founder.again()


def test_nothing_of_a_mesh_is_left_when_it_is_forgotten(founder: Desk) -> None:
    founder.standing.revoke(OUTCAST)
    founder.standing.name_delegates(frozenset())
    founder.standing.rotate_root()
    founder.standing.belonging.forget()
    left = {path.name for path in founder.standing.belonging.directory.root.iterdir()}
    assert left <= {"node.key", "logs"}


Change = Callable[[Desk], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda desk: desk.standing.rotate_root(),
        lambda desk: desk.standing.revoke(OUTCAST),
        lambda desk: desk.standing.belonging.found("again", NOW, os.urandom),
    ],
)
def test_every_key_file_is_closed_to_others(founder: Desk, change: Change) -> None:
    change(founder)
    root = founder.standing.belonging.directory.root
    assert all(path.stat().st_mode & 0o077 == 0 for path in root.iterdir() if path.is_file())

"""What becomes of members whose certificate counts no more, and of a node that has a newer one."""

from __future__ import annotations

import random

from gossip.engine import Engine
from gossip.event import Connected, Drop, Event, LocalUpdate, Received, Recertified, Recheck, SendDatagram, Tick
from gossip.member import LocalNode, MemberBody, open_member, read_body, seal_member
from gossip.message import MemberRumour, decode_packet, decode_rumour, encode_packet
from gossip.timing import LAN
from gossip.trust import CertificateVerifier
from tests.gossip.identities import MESH_ID, UNIX_TIME, RealMesh
from transport.certificate import Signer, issue
from transport.identity import NodeKey
from transport.interface import Peer, Role
from transport.rotation import Roots, succeed

NOW = 100.0


class Judge:
    """One node's verifier, whose list and roots the test changes."""

    def __init__(self, mesh: RealMesh) -> None:
        self.revoked: frozenset[bytes] = frozenset()
        self.verifier = CertificateVerifier(mesh.root.public, MESH_ID, lambda: UNIX_TIME, lambda: self.revoked)


def engine(me: LocalNode, judge: Judge) -> Engine:
    made = Engine(me, judge.verifier, LAN, random.Random(1), NOW)
    made.handle(NOW, Tick())
    return made


def record(member: LocalNode, incarnation: int = 0) -> bytes:
    body = MemberBody(member.node, member.boot, incarnation, False, member.name, (("10.0.0.9", 7842),), 1)
    return seal_member(body, member.certificate, member.signer, MESH_ID)


def introductions(member: LocalNode) -> list[Event]:
    peer = Peer(member.node, member.role, member.boot, member.name, member.certificate)
    return [Connected(peer), Received(member.node, encode_packet(None, [record(member)]))]


def test_a_revoked_member_is_forgotten_with_all_it_said_and_does_not_come_back() -> None:
    mesh = RealMesh()
    judge = Judge(mesh)
    me, friend, outcast = mesh.member("me"), mesh.member("friend"), mesh.member("outcast")
    node = engine(me, judge)
    for event in [*introductions(friend), *introductions(outcast)]:
        node.handle(NOW, event)
    assert {entry.name for entry in node.view(NOW, {}).nodes} == {"me", "friend", "outcast"}

    judge.revoked = frozenset({outcast.node})
    effects = node.handle(NOW, Recheck())

    assert {effect.node for effect in effects if isinstance(effect, Drop)} == {outcast.node}
    assert {entry.name for entry in node.view(NOW, {}).nodes} == {"me", "friend"}
    node.handle(NOW, Received(friend.node, encode_packet(None, [record(outcast, incarnation=9)])))
    assert node.view(NOW, {}).get(outcast.node) is None


def test_a_recheck_forgets_nobody_who_is_still_a_member() -> None:
    mesh = RealMesh()
    judge = Judge(mesh)
    friend = mesh.member("friend")
    node = engine(mesh.member("me"), judge)
    for event in introductions(friend):
        node.handle(NOW, event)
    assert not [effect for effect in node.handle(NOW, Recheck()) if isinstance(effect, Drop)]
    assert node.view(NOW, {}).get(friend.node) is not None


def test_a_newer_certificate_is_told_and_supersedes_the_older() -> None:
    mesh = RealMesh()
    judge = Judge(mesh)
    key = NodeKey(b"k" * 32)

    def certificate(seed: int) -> bytes:
        dice = random.Random(seed).randbytes
        return issue(Signer(mesh.root), MESH_ID, key.public, Role.MEMBER, (), UNIX_TIME, dice)

    old, new = certificate(1), certificate(2)
    known = judge.verifier.certified(old)
    assert known is not None
    me = LocalNode(key.node, key.public, Role.MEMBER, "me", 1, (), old, known.serial, MESH_ID, key)
    node, friend = engine(me, judge), mesh.member("friend")
    for event in introductions(friend):
        node.handle(NOW, event)

    node.handle(NOW, Recertified(new, b"s" * 12))
    effects = node.handle(NOW + 1, Tick())

    told = [
        rumour
        for effect in effects
        if isinstance(effect, SendDatagram)
        for payload in decode_packet(effect.payload, me.node).rumours
        if isinstance(rumour := decode_rumour(payload, me.node), MemberRumour)
        if rumour.certificate == new
    ]
    assert told
    sealed = open_member(told[0], read_body(told[0], me.node), judge.verifier, MESH_ID, friend.node)
    assert (sealed.node, sealed.incarnation) == (me.node, 1)


def test_what_a_new_root_signed_is_believed_once_it_is_followed() -> None:
    mesh = RealMesh()
    judge = Judge(mesh)
    successor = NodeKey(b"r" * 32)
    key = NodeKey(b"k" * 32)
    dice = random.Random(3).randbytes
    old = issue(Signer(mesh.root), MESH_ID, key.public, Role.MEMBER, (), UNIX_TIME, dice)
    new = issue(Signer(successor), MESH_ID, key.public, Role.MEMBER, (), UNIX_TIME, dice)
    assert judge.verifier.certified(old) is not None
    assert judge.verifier.certified(new) is None

    link = succeed(mesh.root, successor, MESH_ID, UNIX_TIME)
    judge.verifier.follow(Roots.of(MESH_ID, successor.public, [link]))

    assert judge.verifier.certified(new) is not None
    assert judge.verifier.certified(old) is not None  # within the window
    judge.verifier.follow(Roots(successor.public))
    assert judge.verifier.certified(old) is None


def test_facts_go_on_after_a_new_certificate() -> None:
    mesh = RealMesh()
    judge = Judge(mesh)
    me = mesh.member("me")
    node = engine(me, judge)
    node.handle(NOW, LocalUpdate("load", b"1"))
    node.handle(NOW, Recertified(me.certificate, me.serial))
    assert node.view(NOW, {}).me.facts == {"load": b"1"}
    assert node.view(NOW, {}).me.incarnation == 1

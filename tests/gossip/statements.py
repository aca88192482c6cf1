"""Statements as a test's members would make them, true or not."""

from __future__ import annotations

import hashlib

from gossip.facts import FactHeader, seal_fact
from gossip.member import LocalNode, MemberBody, seal_member
from gossip.message import Accusation
from tests.gossip.identities import MESH_ID
from transport.wire import encode


def record(me: LocalNode, boot: int = 1, incarnation: int = 0, *, has_left: bool = False) -> bytes:
    places = tuple((address.host, address.port) for address in me.addresses)
    body = MemberBody(me.node, boot, incarnation, has_left, me.name, places, 1)
    return seal_member(body, me.certificate, me.signer, MESH_ID)


def fact(me: LocalNode, key: str = "load", value: bytes = b"1", version: int = 1, boot: int = 1) -> bytes:
    header = FactHeader(me.node, boot, key, version, len(value), hashlib.sha256(value).digest(), b"t" * 8)
    return seal_fact(header, value, me.signer, MESH_ID).encoded


def accuse(subject: LocalNode, accuser: LocalNode, *, boot: int = 1, incarnation: int = 0, dead: bool = False) -> bytes:
    return encode(Accusation(subject.node, boot, incarnation, dead, accuser.node))

"""Belonging to the mesh: gossip, what others tell of the mesh itself, letting nodes in, and the owner's hand."""

from __future__ import annotations

import random
import time
from functools import partial

from gossip.addressbook import AddressBook
from gossip.engine import Engine
from gossip.member import LocalNode
from gossip.runner import PROTOCOL as GOSSIP_PROTOCOL
from gossip.runner import GossipRunner
from gossip.timing import LAN
from gossip.trust import CertificateVerifier
from meshd.clocks import PROTOCOL as CLOCK_PROTOCOL
from meshd.clocks import Clocks
from meshd.datadir import DataDir
from meshd.footing import Footing, Identity
from meshd.joining import Joining
from meshd.lapses import watch_lapses
from meshd.mesh_news import MeshNews
from meshd.owner_commands import OwnerCommands
from meshd.pairing_commands import PairingCommands
from meshd.renewals import Renewals
from meshd.services.service import Service, Works
from meshd.standing import Doorkeeper, Standing
from transport.forwarding import PROTOCOL as JOIN_PROTOCOL
from transport.renewal import PROTOCOL as RENEW_PROTOCOL

LEAVE_DEADLINE_S = 1.0


def make_gossip(identity: Identity, standing: Standing, transport: Doorkeeper, directory: DataDir) -> GossipRunner:
    """The gossip of a node that belongs to a mesh, which follows what that goes by."""
    key, clock = standing.belonging.key, standing.unix_time
    me = LocalNode.of(identity.certificate, key, identity.name, identity.boot, transport.addresses)
    verifier = CertificateVerifier(standing.roots, identity.mesh_id, clock, lambda: standing.revoked)
    engine = Engine(me, verifier, LAN, random.Random(), time.monotonic())
    book = AddressBook(directory.addresses, clock)
    runner = GossipRunner(transport, engine, book, on_doubt=transport.doubt, on_raise_boot=directory.keep_boot)
    shown = me.certificate

    def follow() -> None:
        nonlocal shown
        verifier.follow(standing.roots)
        if standing.membership.certificate != shown:
            shown = standing.membership.certificate
            runner.recertify(shown, standing.certificate().serial)
        runner.recheck()

    standing.follow(follow)
    return runner


def gossiping(footing: Footing) -> Service:
    """Knowing who is here. First of all, so that its farewell is the first: nobody asks a node that has left."""
    gossip = footing.gossip
    return Service(
        "gossip",
        works=lambda: {"gossip": gossip.run()},
        streams={GOSSIP_PROTOCOL: gossip.serve},
        farewell=partial(gossip.leave, LEAVE_DEADLINE_S),
    )


def membership(footing: Footing) -> Service:
    """Certificates and keys: hearing of new ones, renewing them, letting nodes in, sending away whose have ended."""
    standing, transport, gossip = footing.standing, footing.transport, footing.gossip
    renewals = Renewals(standing, transport, gossip, random.Random())

    def works() -> Works:
        return {
            "mesh news": MeshNews(standing, gossip).run(),
            "renewals": renewals.run(),
            "lapses": watch_lapses(standing, transport, gossip),
        }

    pairing = PairingCommands(footing.desk, footing.may_invite, standing.unix_time)
    owner = OwnerCommands(standing, transport, footing.view)
    return Service(
        "membership",
        works=works,
        streams={JOIN_PROTOCOL: Joining(standing, transport).serve, RENEW_PROTOCOL: renewals.serve},
        commands=pairing.table() | owner.table(),
    )


def clocks(footing: Footing) -> Service:
    """Comparing clocks."""
    clocks = Clocks(footing.transport, footing.view, footing.standing.unix_time)
    return Service("clocks", streams={CLOCK_PROTOCOL: clocks.serve}, commands=clocks.table())


def neighbourhood(footing: Footing) -> Service:
    """mDNS. Begins late: its library takes a tenth of a second to load."""
    return Service("neighbourhood", late_works=lambda: {"neighbourhood": footing.neighbourhood.run()})

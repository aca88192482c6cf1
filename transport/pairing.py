"""Coming in without a token: a host asks over the network, and a person at an issuer says yes or no.

    asker  -> issuer   message 2 of the handshake is a `PairingRequest`
    issuer -> asker    a refusal, PAIRING_PENDING, until somebody has decided; then message 3, or PAIRING_REFUSED

The asker knows nothing of the mesh but what answers it, and the owner nothing of the asker. So both show a code
that names keys and session (`handshake.pairing_code`), and accepting means typing the code that the asker shows:
with somebody in the middle, the two codes differ. Later questions prove the same keys and repeat the first code.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass, replace
from typing import Literal

from transport import wire
from transport.budget import Allowance, Budget
from transport.certificate import Membership
from transport.errors import RefusalCode, Refused
from transport.handshake import (
    NONCE_BYTES,
    PairingRequest,
    ServerFinish,
    ServerHello,
    client_transcript,
    finish_transcript,
    pairing_code,
    read_message,
)
from transport.identity import RandomBytes, node_id, short, verify
from transport.interface import NodeId, Peer, Role
from transport.rotation import Roots
from transport.site import Admitted, Asked, Site, bad_signature, check_server, same_key

logger = logging.getLogger("meshd.transport")

MAX_REQUESTS = 32
MAX_WAITING_PER_HOST = 4
KEPT_S = 600.0
"""How long a request waits, and how long the answer is repeated to an asker that did not hear it."""

ASKING = Allowance(in_flight=1, burst=8, per_second=1.0)
"""Of one address, asking again included: an asker asks every three seconds."""

MAX_HOSTS = 256

Decision = Literal["waiting", "accepted", "refused"]


@dataclass(frozen=True, slots=True)
class Request:
    """A node that wants to come in. host: the address it asked from.  since: Unix time."""

    code: str
    node: NodeId
    role: Role
    name: str
    host: str
    since: float
    decision: Decision = "waiting"


class PairingDesk:
    """The requests at one issuer, at most `MAX_REQUESTS`. More are told to come later; nobody is put out for them."""

    def __init__(self) -> None:
        self._requests: dict[NodeId, Request] = {}
        self._budgets: dict[str, Budget] = {}

    def ask(self, asked: Asked, host: str, now: float) -> None:
        """Note who asks from `host`. Returns when a person has accepted it, else raises Refused.

        PAIRING_PENDING, PAIRING_REFUSED; PAIRING_UNKNOWN for a code that is not waited for, BUSY for too much.
        """
        self._expire(now)
        if not self._may_ask(host, now):
            raise Refused(RefusalCode.BUSY, "this address has asked too often; wait a minute")
        node, said = node_id(asked.request.public), asked.request.code
        request = self._requests.get(node)
        if said and (request is None or said != request.code):
            raise Refused(RefusalCode.PAIRING_UNKNOWN, "this node does not know that code any more; ask anew")
        if request is None or (not said and request.decision == "waiting"):
            request = self._enter(node, asked, host, now)
        _tell(request)

    def list(self, now: float) -> tuple[Request, ...]:
        """Every request of the last ten minutes, the oldest first."""
        self._expire(now)
        return tuple(self._requests.values())

    def decide(self, code: str, decision: Decision, now: float) -> Request | None:
        """Answer the request with this code, as people type it, until it is forgotten. None when there is none."""
        self._expire(now)
        wanted = "".join(filter(str.isalnum, code)).upper()
        for request in self._requests.values():
            if request.code == wanted:
                decided = self._requests[request.node] = replace(request, decision=decision)
                return decided
        return None

    def _enter(self, node: NodeId, asked: Asked, host: str, now: float) -> Request:
        """Keep a request, in place of an earlier one of the same node."""
        others = [one for one in self._requests.values() if one.node != node]
        at_host = sum(one.decision == "waiting" and _network(one.host) == _network(host) for one in others)
        if len(others) >= MAX_REQUESTS or at_host >= MAX_WAITING_PER_HOST:
            raise Refused(
                RefusalCode.BUSY,
                "too many nodes are asking to come in; the owner has to answer them first, or give you a token: "
                "meshd token create",
            )
        request = Request(asked.code, node, asked.request.role, asked.request.name, host, now)
        self._requests[node] = request
        logger.info(
            "%s (%s) at %s asks to come in as %s; if it shows the code %s, let it in with: meshd token accept %s",
            *(request.name, short(node), host, request.role.value, code_text(request.code), code_text(request.code)),
        )
        return request

    def _may_ask(self, host: str, now: float) -> bool:
        network = _network(host)
        budget = self._budgets.pop(network, None) or Budget(ASKING)
        while len(self._budgets) >= MAX_HOSTS:
            del self._budgets[next(iter(self._budgets))]
        self._budgets[network] = budget
        may = budget.take(now)
        if may:
            budget.give_back()
        return may

    def _expire(self, now: float) -> None:
        self._requests = {node: one for node, one in self._requests.items() if now < one.since + KEPT_S}


def code_text(code: str) -> str:
    """A code in groups of four, as people read it aloud."""
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4))


def _tell(request: Request) -> None:
    match request.decision:
        case "waiting":
            raise Refused(RefusalCode.PAIRING_PENDING, "the owner of this mesh has not answered yet")
        case "refused":
            raise Refused(RefusalCode.PAIRING_REFUSED, "the owner of this mesh said no")
        case "accepted":
            return


def _network(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 host has to itself."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


@dataclass(frozen=True, slots=True)
class SeenMesh:
    """A mesh as one of its nodes shows it to anybody who dials. That it is the one you think of, nothing says.

    node, node_name: who answered.
    """

    mesh_id: bytes
    name: str
    root_public: bytes
    node: NodeId
    node_name: str


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """Nobody has decided yet. code: for people to compare, and for the asker to bring when it asks again."""

    code: str


def read_hello(message: bytes, binding: bytes, now: float) -> SeenMesh:
    """Read message 1 of somebody of whom nothing is known. Raises Refused when it is not whole."""
    hello = read_message(message, ServerHello, None)
    peer = check_server(hello, _roots(hello), binding, frozenset(), now)
    return SeenMesh(hello.mesh_id, hello.mesh_name, hello.root_public, peer.node, hello.name)


def _roots(hello: ServerHello) -> Roots:
    return Roots.of(hello.mesh_id, hello.root_public, hello.successions)


class AskingAdmission:
    """One handshake of a node in no mesh, at the end that dialled: it asks to come in.

    seen: whom to ask, and for which mesh; others are refused.  code: of the first such handshake, empty in that one;
    `receive` sets it.
    """

    def __init__(self, site: Site, binding: bytes, random_bytes: RandomBytes, seen: SeenMesh, code: str) -> None:
        self._site = site
        self._binding = binding
        self._nonce = random_bytes(NONCE_BYTES)
        self._seen = seen
        self._server: tuple[ServerHello, Peer] | None = None
        self.code = code

    def receive(self, message: bytes, now: float) -> bytes | Admitted:
        """Judge message 1 and write message 2; on the second call, judge message 3.

        Raises Refused: the other end's refusal (PAIRING_PENDING: ask again), or ours of it.
        """
        if self._server is None:
            return self._ask(read_message(message, ServerHello, None), now)
        hello, peer = self._server
        return self._finish(hello, peer, read_message(message, ServerFinish, peer.node), now)

    def _ask(self, hello: ServerHello, now: float) -> bytes:
        site, seen, binding = self._site, self._seen, self._binding
        peer = check_server(hello, _roots(hello), binding, site.revoked, now)
        if peer.node == site.key.node:
            raise same_key()
        if (hello.mesh_id, hello.root_public, peer.node) != (seen.mesh_id, seen.root_public, seen.node):
            raise Refused(
                RefusalCode.BAD_PROOF, f"expected node {short(seen.node)} of mesh {seen.name!r} again, got another one"
            )
        request = PairingRequest(
            public=site.key.public,
            role=site.role,
            boot=site.boot,
            name=site.name,
            nonce=self._nonce,
            signature=site.key.sign(
                client_transcript(binding, hello.mesh_id, site.key.public, hello.public, hello.nonce, self._nonce)
            ),
            code=self.code,
        )
        keys = hello.root_public, hello.public, site.key.public
        self.code = self.code or pairing_code(binding, hello.mesh_id, *keys)
        self._server = hello, peer
        return wire.encode(request)

    def _finish(self, hello: ServerHello, peer: Peer, finish: ServerFinish, now: float) -> Admitted:
        site, roots = self._site, _roots(hello)
        transcript = finish_transcript(self._binding, site.key.public, hello.public, self._nonce)
        if not verify(hello.public, finish.signature, transcript):
            raise bad_signature("server")
        if finish.certificate is None:
            raise Refused(RefusalCode.MALFORMED, f"expected a certificate from node {short(peer.node)}")
        membership = Membership(hello.mesh_id, hello.mesh_name, roots.current, finish.certificate, roots.encoded)
        own = membership.verified(now)
        if own.node_public != site.key.public or own.role is not site.role:
            raise Refused(
                RefusalCode.BAD_CERTIFICATE,
                f"expected a {site.role.value}'s certificate for this node, got a {own.role.value}'s for "
                f"node {short(own.node)}",
            )
        return Admitted(peer, membership, finish.highest_boot)

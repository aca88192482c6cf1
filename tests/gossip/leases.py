"""Words that tests of leases share: two hosts, a worker, requests and claims."""

from __future__ import annotations

from gossip.fence import Fences
from gossip.grant import Answer, Asked, Effect, Grants, LetGo
from gossip.lease import Claim
from gossip.lease_message import LeaseKind, LeaseRelease, LeaseRequest, Reply
from transport.interface import NodeId

MODEL = "host/qwen"
ALICE, BOB, CAROL, WORKER = (NodeId(bytes([letter]) * 32) for letter in b"abcw")
GIB = 1 << 30


def lease_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def request(
    term: int,
    lease: int = 1,
    *,
    is_new: bool = True,
    resource: str = MODEL,
    purpose: LeaseKind = "work",
) -> LeaseRequest:
    return LeaseRequest(resource, term, lease_id(lease), is_new, purpose, 0)


class Worker:
    """A worker's decider, and who it sees claim each resource."""

    def __init__(self, fences: Fences | None = None, now: float = 1000.0) -> None:
        self.fences = Fences() if fences is None else fences
        self.grants = Grants(self.fences, now)
        self.now = now
        self.claims: dict[str, Claim] = {}

    def sees(self, host: NodeId, term: int, resource: str = MODEL) -> None:
        self.claims[resource] = Claim(resource, term, GIB, host)

    def asked(self, host: NodeId, wanted: LeaseRequest, boot: int = 1) -> list[Effect]:
        claim = self.claims.get(wanted.resource)
        return self.grants.handle(self.now, Asked(host, boot, wanted, claim))

    def ask(self, host: NodeId, wanted: LeaseRequest, boot: int = 1) -> Reply:
        return reply(self.asked(host, wanted, boot))

    def let_go(self, host: NodeId, lease: int = 1, purpose: LeaseKind = "work") -> Reply:
        release = LeaseRelease(MODEL, lease_id(lease), purpose)
        return reply(self.grants.handle(self.now, LetGo(host, release)))

    def serves(self, host: NodeId, term: int, lease: int = 1, boot: int = 1) -> bool:
        return self.grants.find(self.now, host, boot, lease_id(lease), term) is not None


def reply(effects: list[Effect]) -> Reply:
    (answer,) = [effect for effect in effects if isinstance(effect, Answer)]
    assert effects[-1] is answer
    return answer.reply

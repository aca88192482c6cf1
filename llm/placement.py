"""Ranks the nodes that could answer for a model, each with its reason. Pure: a view in, an order out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gossip.belief import Believe, believe_everybody
from gossip.view import Status, View
from llm.errors import NoHost, UnknownModel
from llm.offer import Hosting, MeshModel, Offer, catalogue, find
from transport.identity import short
from transport.interface import NodeId, Role
from transport.wire import printable


@dataclass(frozen=True, slots=True)
class Choice:
    """A node to ask. identity: the file meant.  reason: why it stands at its place in the ranking."""

    node: NodeId
    node_name: str
    is_local: bool
    model: str
    identity: str
    offer: Offer
    reason: str


@dataclass(frozen=True, slots=True)
class Experience:
    """What this node knows of hosts beyond gossip.

    busy: requests of ours that run there now.  failed: nodes that failed this request or fell silent, ranked last.
    left_out: nodes not to be asked, each with its reason.  holder: the node that has read the request's beginning.
    believe: how far a node's claims of its speed go; who is believed half counts as twice as busy.
    """

    busy: Mapping[NodeId, int] = field(default_factory=dict)
    failed: Collection[NodeId] = ()
    left_out: Mapping[NodeId, str] = field(default_factory=dict)
    holder: NodeId | None = None
    believe: Believe = believe_everybody


READINESS = {"ready": 0, "loading": 1, "unloaded": 2}
"""States in which a host answers, sooner or later."""

NOTHING_KNOWN = Experience()


def rank(
    name: str, view: View, local: tuple[Offer, ...] | None = None, experience: Experience = NOTHING_KNOWN
) -> list[Choice]:
    """Nodes able to answer for `name` now, best first; all hold the same file.

    local: this node's own offers, fresher than its fact in `view`.  Order: no failure lately, not suspected,
    reachable without dialling, ready before loading before unloaded, holding the request's beginning with a slot free,
    less load per slot (more where its speed is doubted), here rather than there, lower round trip, lower NodeId.
    Raises UnknownModel with the names that exist, or NoHost with every host's reason.
    """
    model = find(name, view, local)
    if model is None:
        raise UnknownModel(name, [known.name for known in catalogue(view, local)])
    able = [hosting for hosting in model.hostings if not _why_not(hosting, experience)]
    if not able:
        raise NoHost(_refusal(name, model, experience))
    able.sort(key=lambda hosting: _order(hosting, view, experience))
    return [_choice(hosting, model, view, experience) for hosting in able]


def _why_not(hosting: Hosting, experience: Experience) -> str:
    """What keeps this host from being asked; empty when nothing does."""
    node, offer = hosting.node, hosting.offer
    if node.status >= Status.DEAD:
        return f"the node is {node.status.name.lower()}"
    if node.role is Role.CLIENT:
        return "a client does not host"
    if node.node in experience.left_out:
        return experience.left_out[node.node]
    if experience.believe(node.node) <= 0:
        return "its speed is not believed here: `meshd status` says why"
    if offer.state not in READINESS:
        return f"{offer.state}: {printable(offer.reason, 512)}" if offer.reason else offer.state
    return ""


def _refusal(name: str, model: MeshModel, experience: Experience) -> str:
    reasons = "; ".join(f"{_label(hosting)}: {_why_not(hosting, experience)}" for hosting in model.hostings)
    return f"no node can answer for model {name!r} now ({reasons}); try again shortly"


def _order(
    hosting: Hosting, view: View, experience: Experience
) -> tuple[bool, bool, bool, int, bool, float, bool, float, NodeId]:
    node = hosting.node
    is_local = node is view.me
    return (
        node.node in experience.failed,
        node.status is Status.SUSPECT,
        not (is_local or node.linked),
        READINESS.get(hosting.offer.state, len(READINESS)),
        not _holds_beginning(hosting, experience),
        _in_flight(hosting, experience) / (hosting.offer.slots * experience.believe(node.node)),
        not is_local,
        0.0 if is_local else node.rtt_ms if node.rtt_ms is not None else float("inf"),
        node.node,
    )


def _holds_beginning(hosting: Hosting, experience: Experience) -> bool:
    """Whether the request's beginning is cached there and can be used at once; waiting costs more than reading."""
    return hosting.node.node == experience.holder and _in_flight(hosting, experience) < hosting.offer.slots


def _in_flight(hosting: Hosting, experience: Experience) -> int:
    # What we sent there ourselves reaches us by gossip only later, and must not be counted twice.
    return max(hosting.offer.in_flight, experience.busy.get(hosting.node.node, 0))


def _choice(hosting: Hosting, model: MeshModel, view: View, experience: Experience) -> Choice:
    node, offer = hosting.node, hosting.offer
    is_local = node is view.me
    away = "here" if is_local else f"{node.rtt_ms:.1f} ms away" if node.rtt_ms is not None else "distance unknown"
    remarks = [f"{offer.state}, {_in_flight(hosting, experience)} in flight on {offer.slots} slots", away]
    remarks += ["has read the beginning"] if _holds_beginning(hosting, experience) else []
    remarks += ["suspected"] if node.status is Status.SUSPECT else []
    remarks += ["failed lately"] if node.node in experience.failed else []
    return Choice(node.node, node.name, is_local, offer.name, model.identity, offer, ", ".join(remarks))


def _label(hosting: Hosting) -> str:
    return f"{hosting.node.name} ({short(hosting.node.node)})"

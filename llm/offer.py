"""What nodes say they serve: the `models` fact, and the mesh's models made out of everybody's.

A name means one file. Where nodes use one name for different files, each file is a model of its own: the plain
name goes to the file that most nodes hold (ties: the lower identity), the others are asked for as `name@12345678`.
Nodes that died still count, so a crash makes a model unavailable rather than turning its name to another file.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from gossip.view import NodeView, Status, View
from transport.errors import ProtocolError
from transport.interface import NodeId
from transport.wire import Bytes32, Counter, decode, encode

logger = logging.getLogger("meshd.llm")

MODELS_FACT = "models"

OTHER_BUILD = "another build of the engine"
"""How an offer's reason begins where a worker refused a leader whose engine is not its own."""
MAX_MODELS = 64
MAX_PARTS = 17
MAX_FACT_BYTES = 64 << 10
SHORT_IDENTITY = 8
MIN_IDENTITY_PREFIX = 6

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"\A[^@\x00-\x1f\x7f]+\Z")]
Hex = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
HexOrNothing = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]


Mode = Literal["solo", "split"]
"""Whether the node serves the model alone, or leads others that hold a part of it."""


class OfferedPart(msgspec.Struct, frozen=True):
    """Who holds how much of the layers of a split model."""

    node: Bytes32
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Offer(msgspec.Struct, frozen=True):
    """One model on one node.

    fingerprint: `llm.digest.fingerprint` of its files, known at once.  digest: their SHA-256, "" until computed.
    kind: of engine.  state: unloaded models load at the first request, waiting ones lack memory or a node,
    draining ones take no new requests.  reason: why it is in that state.  tokens_per_s: 0 before it was measured.
    parts: of a split model, the leader's first.  missing_bytes: how much memory more a waiting one needs.
    file_bytes: of its files on that node's disk; 0 for a model that is none.
    """

    name: Name
    fingerprint: Hex
    digest: HexOrNothing
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    mode: Mode
    state: Literal["unloaded", "waiting", "loading", "ready", "draining", "failed", "stopped"]
    reason: Annotated[str, msgspec.Meta(max_length=512)]
    context_tokens: Counter
    slots: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    in_flight: Counter
    tokens_per_s: Annotated[float, msgspec.Meta(ge=0, lt=1e9)]
    parts: Annotated[tuple[OfferedPart, ...], msgspec.Meta(max_length=MAX_PARTS)] = ()
    missing_bytes: Counter = 0
    file_bytes: Counter = 0


class Offers(msgspec.Struct, frozen=True):
    """The value of the `models` fact."""

    models: Annotated[tuple[Offer, ...], msgspec.Meta(max_length=MAX_MODELS)]


@dataclass(frozen=True, slots=True)
class Hosting:
    """One node's offer of one model."""

    node: NodeView
    offer: Offer


@dataclass(frozen=True, slots=True)
class MeshModel:
    """A model of the mesh. name: what a client asks for.  identity: which file is meant, as hex."""

    name: str
    identity: str
    hostings: tuple[Hosting, ...]


def encode_offers(offers: Iterable[Offer]) -> bytes:
    """The `models` fact of a node with `offers`."""
    return encode(Offers(tuple(offers)))


def decode_offers(fact: bytes, node: NodeId) -> tuple[Offer, ...]:
    """What `node` offers. Raises ProtocolError."""
    return decode(fact, Offers, peer=node, max_bytes=MAX_FACT_BYTES).models


def offers_of(node: NodeView) -> tuple[Offer, ...]:
    """What `node` offers in this view; nothing when its fact is malformed."""
    fact = node.facts.get(MODELS_FACT)
    return _offers_or_nothing(fact, node.node) if fact is not None else ()


def hostings(view: View, local: tuple[Offer, ...] | None = None) -> list[Hosting]:
    """Every offer of every node that has not left. local: this node's own, fresher than its fact."""
    found: list[Hosting] = []
    for node in view.nodes:
        if node.status is Status.LEFT:
            continue
        mine = local is not None and node is view.me
        found.extend(Hosting(node, offer) for offer in (local or () if mine else offers_of(node)))
    return found


def catalogue(view: View, local: tuple[Offer, ...] | None = None) -> tuple[MeshModel, ...]:
    """Every model that some living node offers, by name, dead nodes left out of its hosts."""
    models = []
    for model in _models(hostings(view, local)):
        living = tuple(hosting for hosting in model.hostings if hosting.node.status < Status.DEAD)
        if living:
            models.append(MeshModel(model.name, model.identity, living))
    return tuple(models)


def find(name: str, view: View, local: tuple[Offer, ...] | None = None) -> MeshModel | None:
    """The model that `name` or `name@identity` means, its dead hosts included; None when there is none.

    The part after `@` may be any first 6 or more hex digits of the fingerprint or the SHA-256.
    """
    everything = hostings(view, local)
    plain, _, prefix = name.partition("@")
    models = _models([hosting for hosting in everything if hosting.offer.name == plain])
    if not prefix:
        return next((model for model in models if model.name == plain), None)
    if len(prefix) < MIN_IDENTITY_PREFIX:
        return None
    meant = [model for model in models if any(_is_meant(prefix, hosting.offer) for hosting in model.hostings)]
    return meant[0] if len(meant) == 1 else None


def _is_meant(prefix: str, offer: Offer) -> bool:
    return offer.fingerprint.startswith(prefix) or offer.digest.startswith(prefix)


def _models(everything: list[Hosting]) -> list[MeshModel]:
    by_name: defaultdict[str, list[Hosting]] = defaultdict(list)
    for hosting in everything:
        by_name[hosting.offer.name].append(hosting)
    return [model for name in sorted(by_name) for model in _models_of_one_name(name, by_name[name])]


def _models_of_one_name(name: str, same_name: list[Hosting]) -> list[MeshModel]:
    groups = _by_identity(same_name)
    order = sorted(groups, key=lambda identity: (-len(groups[identity]), identity))
    return [
        MeshModel(name if place == 0 else f"{name}@{identity[:SHORT_IDENTITY]}", identity, tuple(groups[identity]))
        for place, identity in enumerate(order)
    ]


def _by_identity(same_name: list[Hosting]) -> dict[str, list[Hosting]]:
    """Group by fingerprint; by digest too where full digests show that equal fingerprints were not enough."""
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for hosting in same_name:
        digests[hosting.offer.fingerprint] |= {hosting.offer.digest} - {""}
    groups: defaultdict[str, list[Hosting]] = defaultdict(list)
    for hosting in same_name:
        offer = hosting.offer
        groups[offer.digest if len(digests[offer.fingerprint]) > 1 and offer.digest else offer.fingerprint].append(
            hosting
        )
    return dict(groups)


@lru_cache(maxsize=1024)
def _offers_or_nothing(fact: bytes, node: NodeId) -> tuple[Offer, ...]:
    # Cached: a view is read at every request, and a node's fact seldom changes. So is the warning.
    try:
        return decode_offers(fact, node)
    except ProtocolError as error:
        logger.warning("ignoring a malformed models fact: %s", error)
        return ()

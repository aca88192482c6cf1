"""What nodes say of themselves as drafters: the fact `draft`; and which of them a host should ask. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from gossip.belief import Believe, believe_everybody
from gossip.view import NodeView, View
from llm.draft.message import Seconds
from llm.offer import Hex, Name
from transport.errors import ProtocolError
from transport.identity import short
from transport.wire import decode, encode

logger = logging.getLogger("meshd.llm")

DRAFT_FACT = "draft"
MAX_FACT_BYTES = 4096
MAX_DRAFTERS = 8
TYPICAL_TOKENS = 4
WORTH_TELLING = 0.25


class DraftOffer(msgspec.Struct, frozen=True):
    """A small model that drafts. vocabulary: SHA-256 of its tokens.  token_s: t_draft(k) is k times that, as measured:
    each token is a decode of its own.
    """

    model: Name
    vocabulary: Hex
    token_s: Seconds


class DraftOffers(msgspec.Struct, frozen=True):
    """The value of the fact `draft`."""

    drafters: Annotated[tuple[DraftOffer, ...], msgspec.Meta(max_length=MAX_DRAFTERS)]


@dataclass(frozen=True, slots=True)
class Found:
    """A node that drafts. round_trip_s: by its link."""

    node: NodeView
    offer: DraftOffer

    @property
    def round_trip_s(self) -> float:
        return (self.node.rtt_ms or 0.0) / 1000


def encode_drafters(offers: Iterable[DraftOffer]) -> bytes:
    return encode(DraftOffers(tuple(offers)))


def drafters_of(node: NodeView) -> tuple[DraftOffer, ...]:
    """What `node` drafts with; nothing when its fact is malformed."""
    fact = node.facts.get(DRAFT_FACT)
    if not fact:
        return ()
    try:
        return decode(fact, DraftOffers, peer=node.node, max_bytes=MAX_FACT_BYTES).drafters
    except ProtocolError as error:
        logger.warning("the drafters of node %s are not legible: %s", short(node.node), error)
        return ()


def find_drafters(view: View, vocabulary: str, believe: Believe = believe_everybody) -> list[Found]:
    """Other nodes that draft in this vocabulary and are connected, the one soonest with a usual block first.

    believe: who is not believed at all gets no work.
    """
    found = [
        Found(node, offer)
        for node in view.nodes
        if node is not view.me and node.is_usable and node.linked and believe(node.node) > 0
        for offer in drafters_of(node)
        if offer.vocabulary == vocabulary
    ]
    return sorted(found, key=lambda one: (one.round_trip_s + TYPICAL_TOKENS * one.offer.token_s, one.node.node))


def is_worth_telling(before: DraftOffer | None, now: DraftOffer) -> bool:
    """Whether a token takes a quarter more or less than was told."""
    if before is None or (before.model, before.vocabulary) != (now.model, now.vocabulary):
        return True
    return abs(now.token_s - before.token_s) > WORTH_TELLING * before.token_s

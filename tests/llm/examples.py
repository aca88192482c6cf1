"""One example of every message of `llm`."""

from __future__ import annotations

import msgspec

from gossip.lease_message import lease_text
from llm.chat import Accepted, Ask, Failure, Head, Working
from llm.draft import message as draft
from llm.draft.fact import DraftOffer, encode_drafters
from llm.draft.message import Ready, Wanted
from llm.draft.tally import Tally
from llm.models.message import NoFiles, PeerFile, TheseFiles, WhichFiles
from llm.offer import Offer, OfferedPart, encode_offers
from llm.split.build import EngineBuild
from llm.split.message import Prepare, Prepared, Preparing, Refused
from tests.golden import Example
from transport.record import encode_record
from transport.wire import encode

OFFER = Offer(
    name="tiny",
    fingerprint="f1" * 32,
    digest="d1" * 32,
    kind="llama-server",
    mode="solo",
    state="ready",
    reason="",
    context_tokens=4096,
    slots=4,
    in_flight=1,
    tokens_per_s=37.5,
    file_bytes=5 << 30,
)


def examples() -> dict[str, Example]:
    """By file name."""
    messages = {
        "ask": Ask("tiny", "f1" * 32, "POST", "/v1/chat/completions", (("content-type", "application/json"),), 17),
        "ask_for_a_caller": Ask("tiny", "", "GET", "/props", (), 0, "0123456789abcdef"),
        "accepted": Accepted(),
        "working": Working(),
        "head": Head(200, (("content-type", "text/event-stream"),)),
        "failure": Failure(429, "rate_limit_error", "queue_full", None, "8 requests wait here already", True, 2),
        "failure_final": Failure(502, "server_error", None, "model", "the engine died", False, None),
    }
    found = {
        f"chat_{name}": Example("chat/1", f"llm.chat.{type(message).__name__}", encode(message))
        for name, message in messages.items()
    }
    split = msgspec.structs.replace(
        OFFER, mode="split", parts=(OfferedPart(b"\1" * 32, 0.67), OfferedPart(b"\2" * 32, 0.33))
    )
    waiting = msgspec.structs.replace(OFFER, mode="split", state="waiting", reason="1 GB short", missing_bytes=1 << 30)
    build = EngineBuild("0.25.3", "0c1e570", 101)
    lease = lease_text(b"\x0a" * 16, 3)
    splits = {
        "prepare": Prepare(lease, "tiny", "f1" * 32, build, 1 << 30, 20, 11, True, 7 << 27, 1 << 26),
        "preparing": Preparing("taking weights from its own disk"),
        "prepared": Prepared((24 << 30, 12 << 30), 9 << 30),
        "refused": Refused("another build of the engine"),
    }
    for name, answer in splits.items():
        found[f"split_{name}"] = Example("split/1", f"llm.split.message.{type(answer).__name__}", encode(answer))
    parts = tuple(PeerFile(f"big-{number:05d}-of-00002.gguf", 17 << 30, bytes([number] * 32)) for number in (1, 2))
    projector = PeerFile("mmproj-big-F16.gguf", 1 << 30, bytes([3] * 32))
    files = {"which": WhichFiles("d1" * 32), "these": TheseFiles(parts, (projector,)), "none": NoFiles()}
    for name, said in files.items():
        found[f"files_{name}"] = Example("files/1", f"llm.models.message.{type(said).__name__}", encode(said))
    found |= _drafts()
    found["fact_models_split"] = Example(
        "The value of the fact `models`", "llm.offer.Offers", encode_offers([split, waiting])
    )
    found["fact_models"] = Example("The value of the fact `models`", "llm.offer.Offers", encode_offers([OFFER]))
    return found


def _drafts() -> dict[str, Example]:
    """What hosts and drafters say."""
    tally = Tally(
        model="big",
        drafter="small",
        state="on",
        speedup=1.75,
        best=8,
        chance=0.875,
        plain_s=0.0625,
        verify_s=0.09375,
        draft_s=0.015625,
        round_trip_s=0.03125,
        break_even_s=0.25,
        blocks=100,
        drafted=800,
        accepted=700,
        missed=1,
    )
    messages = {
        "wanted": Wanted("f1" * 32),
        "ready": Ready("small", 0.015625),
        "refused": draft.Refused("nobody drafts in that vocabulary"),
    }
    found = {
        f"draft_{name}": Example("draft/1", f"llm.draft.message.{type(said).__name__}", encode(said))
        for name, said in messages.items()
    }
    blocks = {
        "question": draft.write_question(draft.Question(70000, (17, 151_935), 8)),
        "question_first": draft.write_question(draft.Question(0, (1, 2, 3), 0)),
        "proposal": draft.write_proposal(draft.Proposal((3, 1, 4, 1, 5), 0.0123)),
        "proposal_none": draft.write_proposal(draft.Proposal((), 0.0)),
    }
    for name, record in blocks.items():
        found[f"draft_{name}"] = Example("draft/1", "records", encode_record(record.kind, record.payload))
    found["draft_tally"] = Example("From a process to its agent", "llm.draft.tally.Tally", encode(tally))
    offers = encode_drafters([DraftOffer("small", "f1" * 32, 0.015625)])
    found["fact_draft"] = Example("The value of the fact `draft`", "llm.draft.fact.DraftOffers", offers)
    return found

"""One example of every message of `llm`."""

from __future__ import annotations

import msgspec

from gossip.lease_message import lease_text
from llm.chat import Accepted, Ask, Failure, Head, Working
from llm.models.message import NoFiles, PeerFile, TheseFiles, WhichFiles
from llm.offer import Offer, OfferedPart, encode_offers
from llm.split.build import EngineBuild
from llm.split.message import Prepare, Prepared, Preparing, Refused
from tests.golden import Example
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
        "prepare": Prepare(lease, "tiny", "f1" * 32, build, 1 << 30, 20, 11, True),
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
    found["fact_models_split"] = Example(
        "The value of the fact `models`", "llm.offer.Offers", encode_offers([split, waiting])
    )
    found["fact_models"] = Example("The value of the fact `models`", "llm.offer.Offers", encode_offers([OFFER]))
    return found

"""The control command `plan`: every way that the mesh could serve a model, as this node sees it.

`llm.plan` decides; here the mesh becomes candidates, the model a question, and the choices an object to print.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from gossip.facts import GpuFact, read_gpu
from gossip.view import NodeView
from llm.digest import fingerprint
from llm.draft.fact import find_drafters
from llm.engines.llama_arguments import LlamaServerOptions
from llm.gguf import BadModelFile, ModelFile, read_header
from llm.memory.shape import UnknownShape, read_shape
from llm.offer import Offer, offers_of
from llm.plan import Candidate, Choice, Question, bytes_per_token, plan
from llm.plan_points import fit_for
from llm.split.layout import Holder, Needs
from meshd.control import Command, CommandFailed
from meshd.datadir import DataDir
from meshd.draft_status import plan_rows
from meshd.drafts import words_of_drafts
from meshd.engines import DEFAULT_CONTEXT_TOKENS
from meshd.hardware import Limits, read_devices
from meshd.memory_speed import MemorySpeed, own_speed, speed_of
from meshd.memory_status import GIB
from meshd.model_needs import Items, items_of, needs_of
from meshd.model_reader import KnownModel, NotRead
from meshd.split import usable_bytes
from meshd.status import Situation
from transport.interface import NodeId


class PlanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked: the file, or the model by its name or `hf:…`, and how it would be served.

    ctx: in tokens a slot, 0 for the usual.
    """

    path: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    model: Annotated[str, msgspec.Meta(max_length=512)] = ""
    ctx: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0
    parallel: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    kv_type: Literal["f16", "q8_0", "q4_0"] = "f16"
    split: bool = False


@dataclass(frozen=True, slots=True)
class PlanCommand:
    """situation: the mesh as it is now.  read: what a model says of itself, by name; raises NotRead."""

    situation: Callable[[], Situation]
    directory: DataDir
    read: Callable[[str], Awaitable[KnownModel]]

    def table(self) -> dict[str, Command]:
        """The command by its name."""
        return {"plan": self.answer}

    async def answer(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Raises CommandFailed for a model that cannot be read."""
        try:
            request = msgspec.convert(arguments, PlanRequest)
        except msgspec.ValidationError as error:
            raise CommandFailed(f"plan: {error}") from error
        known = await self._known(request)
        own = await asyncio.to_thread(own_speed, self.directory)
        now = self.situation()
        nodes = [node for node in now.view.nodes if node is now.view.me or (node.is_usable and node.linked)]
        found = [_candidate(node, now, known.fingerprint, own, is_here=node is now.view.me) for node in nodes]
        plan = await asyncio.to_thread(describe_plan, known.file, request, [one for one in found if one is not None])
        drafts = _measured_drafts(now, known.fingerprint)
        drafters = find_drafters(now.view, known.file.vocabulary_digest, lambda node: now.proofs.of(node).believed)
        far = plan_rows(now.drafts, drafters, plan["model"], _token_s(plan["choices"]))
        here = drafts or await asyncio.to_thread(words_of_drafts, known.file, self.directory)
        return plan | {"drafts": here, "far_drafts": far}

    async def _known(self, request: PlanRequest) -> KnownModel:
        if not (request.model or request.path):
            raise CommandFailed("plan: expected path or model, to say which model")
        if not request.model:
            file = await asyncio.to_thread(_read, Path(request.path))
            return KnownModel(request.path, file, fingerprint(file.paths, file.header_bytes))
        try:
            known = await self.read(request.model)
            read_shape(known.file)
        except (NotRead, UnknownShape) as error:
            raise CommandFailed(str(error)) from error
        return known


def plan_offline(directory: DataDir, request: PlanRequest) -> dict[str, Any]:
    """The same for this host alone, without an agent. Raises CommandFailed."""
    if request.model:
        raise CommandFailed(
            f"{request.model!r} is no file, and no agent runs here that could look for a model of that name"
        )
    file = _read(Path(request.path))
    devices = read_devices(Limits(0))
    free = sum(device.free_bytes for device in devices.devices)
    speed = speed_of(devices, own_speed(directory), is_here=True)
    here = Candidate(Holder(NodeId(b""), "this host", free), _kind(devices), speed.bytes_per_s, speed.source)
    return describe_plan(file, request, [here]) | {"drafts": words_of_drafts(file, directory), "far_drafts": []}


def _token_s(choices: Sequence[dict[str, Any]]) -> float:
    """What a token takes in the choice that is advised; 0 where none is, or nothing is known of its speed."""
    rates = [one["tokens_per_s"] for one in choices if one["advised"] and one["tokens_per_s"] is not None]
    return 1 / rates[0]["likely"] if rates and rates[0]["likely"] > 0 else 0.0


def _measured_drafts(now: Situation, which: str) -> str:
    """What the engine of this node that serves the model says of its drafts; empty without one that drafts."""
    names = (offer.name for offer in now.offers if offer.fingerprint == which)
    drafting = (now.local_drafts[name] for name in names if name in now.local_drafts)
    return next((f"{one.drafter}: {one.reason}" for one in drafting), "")


def _read(path: Path) -> ModelFile:
    try:
        file = read_header(path)
        read_shape(file)
    except (BadModelFile, UnknownShape) as error:
        raise CommandFailed(str(error)) from error
    return file


def _candidate(node: NodeView, now: Situation, which: str, own: MemorySpeed, *, is_here: bool) -> Candidate | None:
    """None for a node that holds nothing, a client, and for one that gets no work of this node."""
    devices = read_gpu(node)
    believed = now.proofs.of(node.node).believed
    if devices is None or not devices.devices or believed <= 0:
        return None
    offers: Sequence[Offer] = now.offers if is_here else offers_of(node)
    solo = next(
        (one for one in offers if one.fingerprint == which and (one.mode, one.state) == ("solo", "ready")), None
    )
    speed = speed_of(devices, own, is_here=is_here)
    return Candidate(
        holder=Holder(node.node, node.name, usable_bytes(node), 0.0 if is_here else node.rtt_ms or 0.0),
        kind=_kind(devices),
        bytes_per_s=speed.bytes_per_s * believed,
        source=speed.source if believed == 1 else f"{speed.source}, believed at {believed:.0%} of it",
        measured=solo.tokens_per_s * believed if solo is not None else 0.0,
        serves=solo is not None,
    )


def _kind(devices: GpuFact) -> str:
    return devices.devices[0].kind if devices.devices else "none"


def describe_plan(file: ModelFile, request: PlanRequest, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The plan as `meshd plan --json` prints it. Raises CommandFailed where no node could hold anything."""
    if not candidates:
        raise CommandFailed("no node here holds models: clients do not, and no other node is connected")
    options = _options(file, request)
    question = Question(
        needs=lambda one: _needs(file, options, one.kind),
        layers=len(read_shape(file).layers),
        bytes_per_token=bytes_per_token(file),
        fitted=fit_for(has_draft=False),
        is_forced=request.split,
    )
    return {
        "model": options.name,
        "context_tokens": options.context_tokens,
        "slots": options.slots,
        "memory": _memory(items_of(file, options, in_ram=candidates[0].kind == "cpu")),
        "fit": asdict(question.fitted),
        "choices": [_choice(choice) for choice in plan(question, candidates)],
    }


def _options(file: ModelFile, request: PlanRequest) -> LlamaServerOptions:
    return LlamaServerOptions(
        model=file.paths[0],
        name=file.paths[0].stem,
        log=Path("unused"),
        context_tokens=request.ctx or min(file.context_length, DEFAULT_CONTEXT_TOKENS),
        slots=request.parallel,
        kv_type=request.kv_type,
    )


def _needs(file: ModelFile, options: LlamaServerOptions, kind: str) -> Needs:
    return needs_of(file, options, in_ram=kind == "cpu")


def _memory(items: Items) -> dict[str, float]:
    """In GB, of this node, or the first that could, if it served the model alone."""
    parts = asdict(items)
    return {f"{name}_gb": round(size / GIB, 4) for name, size in (parts | {"total": sum(parts.values())}).items()}


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "kind": choice.kind,
        "advised": choice.is_advised,
        "possible": choice.is_possible,
        "nodes": [
            {
                "name": part.node,
                "layers": part.layers,
                "needed_gb": round(part.needed_bytes / GIB, 3),
                "free_gb": round(part.usable_bytes / GIB, 3),
            }
            for part in choice.parts
        ],
        "tokens_per_s": None if choice.speed is None else {k: round(v, 2) for k, v in asdict(choice.speed).items()},
        "basis": choice.basis,
        "reason": choice.reason,
    }

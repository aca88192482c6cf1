"""What a model, or a part of it, takes of memory as its engine will be started, and what those bytes are for.

`llm.memory` predicts; here is what this agent adds: its options, the draft, the projector, the host's caches, a margin.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import lru_cache

from llm.engines.drafts import Draft
from llm.engines.llama_arguments import LlamaServerOptions
from llm.gguf import ModelFile, read_header
from llm.memory.command_line import read_command_line
from llm.memory.footprint import Footprint, footprint
from llm.memory.host_cache import NO_CACHE, host_cache
from llm.memory.need import MARGIN_SHARE, draft_footprint, projector_bytes
from llm.memory.settings import EngineSettings
from llm.memory.shape import UnknownShape, read_shape
from llm.residency import UNKNOWN_MAKEUP, Makeup
from llm.split.layout import Needs, own_layers

UNKNOWN_SHAPE_FACTOR = 1.2
"""Of the file's size, where the model's shape is unknown and nothing better can be said."""
NOTHING = Footprint("nothing")


def settings_of(options: LlamaServerOptions) -> EngineSettings:
    """What of these options memory depends on."""
    return EngineSettings(
        context_tokens=options.context_tokens * options.slots,
        slots=options.slots,
        key_type=options.kv_type,
        value_type=options.kv_type,
        drafts=options.draft.tokens if isinstance(options.draft, Draft) else 0,
    )


def needs_of(file: ModelFile, options: LlamaServerOptions, *, in_ram: bool) -> Needs:
    """What parts of a model need, as its engine will be started. in_ram: the leader computes on its CPU."""
    settings = settings_of(options)
    beside = lru_cache(maxsize=1)(lambda: _beside_bytes(options, settings, in_ram=in_ram))

    @lru_cache(maxsize=256)
    def needs(shares: tuple[float, ...]) -> tuple[int, ...]:
        try:
            predicted = [part.total for part in _predict(file, settings, shares, in_ram=in_ram)]
        except UnknownShape:
            whole = file.file_bytes * UNKNOWN_SHAPE_FACTOR
            predicted = [round(whole * share / sum(shares)) for share in shares] or [round(whole)]
        predicted[0] += beside() + _kept_bytes(file, settings, shares, in_ram=in_ram)
        return tuple(round((1 + MARGIN_SHARE) * one) for one in predicted)

    return needs


@dataclass(frozen=True, slots=True)
class Items:
    """What a model takes on one node, in bytes; their sum is what `needs_of` says.

    kept: conversations that hold no slot, where they lie in the same memory.  margin: on top of all.
    """

    weights: int
    cache: int
    compute: int
    output: int
    kept: int
    margin: int


def items_of(file: ModelFile, options: LlamaServerOptions, *, in_ram: bool) -> Items:
    """The sum of the node that serves `file` alone, item by item. Raises UnknownShape."""
    settings = settings_of(options)
    alone, kept = _predict(file, settings, (), in_ram=in_ram)[0], _kept_bytes(file, settings, (), in_ram=in_ram)
    weights = alone.weights + _beside_bytes(options, settings, in_ram=in_ram)
    listed = weights + alone.cache + alone.compute + alone.output + kept
    margin = needs_of(file, options, in_ram=in_ram)(())[0] - listed
    return Items(weights, alone.cache, alone.compute, alone.output, kept, margin)


def makeup_of(file: ModelFile, options: LlamaServerOptions, *, in_ram: bool) -> Makeup:
    """What all of a model's memory is for where this node serves it alone."""
    return makeups_of(file, options, in_ram=in_ram)[0]


def makeups_of(
    file: ModelFile, options: LlamaServerOptions, shares: tuple[float, ...] = (), *, in_ram: bool
) -> tuple[Makeup, ...]:
    """What each part of these needs is for, the leader's first; the rest are work areas and margins."""
    settings = settings_of(options)
    try:
        parts = _predict(file, settings, shares, in_ram=in_ram)
        draft = _draft(options, settings) if in_ram else NOTHING
    except UnknownShape:
        return (UNKNOWN_MAKEUP,) * max(1, len(shares))
    weights = draft.weights + _projector_bytes(options)
    kv = draft.cache + _kept_bytes(file, settings, shares, in_ram=in_ram)
    own = Makeup(parts[0].weights + weights, parts[0].cache + kv)
    return (own, *(Makeup(part.weights, part.cache) for part in parts[1:]))


def _kept_bytes(file: ModelFile, settings: EngineSettings, shares: tuple[float, ...], *, in_ram: bool) -> int:
    """Of conversations that hold no slot; elsewhere it is not the model's devices that hold it."""
    kept = host_cache(file, settings, in_ram=True) if in_ram else NO_CACHE
    return (kept.of_a_leader if shares else kept).total_bytes(settings.slots)


def _beside_bytes(options: LlamaServerOptions, settings: EngineSettings, *, in_ram: bool) -> int:
    """What the leader holds beside its part: the projector, and in RAM the draft, which the CPU computes."""
    try:
        draft = _draft(options, settings).total if in_ram else 0
    except UnknownShape:
        assert isinstance(options.draft, Draft)
        draft = round(read_header(options.draft.model).file_bytes * UNKNOWN_SHAPE_FACTOR)
    return draft + _projector_bytes(options)


def _projector_bytes(options: LlamaServerOptions) -> int:
    projector = read_command_line(options.more_arguments).projector
    return projector_bytes(read_header(projector)) if projector is not None else 0


def _draft(options: LlamaServerOptions, settings: EngineSettings) -> Footprint:
    """Raises UnknownShape."""
    if not isinstance(options.draft, Draft):
        return NOTHING
    return draft_footprint(read_header(options.draft.model), settings)[0]


def _predict(file: ModelFile, settings: EngineSettings, shares: tuple[float, ...], *, in_ram: bool) -> list[Footprint]:
    """Each part, the leader's first. Raises UnknownShape."""
    if not shares:
        return [footprint(file, settings, () if in_ram else (1.0,))[0]]
    if in_ram:
        *rest, host = footprint(file, settings, shares[1:], own_layers(shares, layers_of(file)))
        return [host, *rest]
    # llama.cpp puts its own devices after those of RPC servers; what stays on the host is not in its GPUs.
    *rest, first, _ = footprint(file, settings, (*shares[1:], shares[0]))
    return [first, *rest]


def layers_of(file: ModelFile) -> int:
    """How many layers it has, as far as its head tells; 1 where it does not."""
    with contextlib.suppress(UnknownShape):
        return len(read_shape(file).layers)
    count = file.metadata.get(f"{file.architecture}.block_count", 1)
    return count if isinstance(count, int) and count > 0 else 1

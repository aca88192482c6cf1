"""Every way to serve a model with the nodes there are: memory, predicted speed and reason of each. Pure.

What a part needs and who would hold it are `llm.memory`'s and `llm.split.layout`'s to say; how distance slows a split
is `plan_speed`'s. Nothing here starts anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llm.figure import figure
from llm.gguf import ModelFile
from llm.memory.footprint import placement
from llm.memory.shape import ModelShape, read_shape
from llm.plan_speed import Fit, Speed, predict
from llm.split.layout import Holder, Needs, Refuse, Split, decide, find_split, in_gb

# Of the time that memory alone would take, what engines reach as a rule: the likely, and the interval around it.
LIKELY_SHARE, LOW_SHARE, HIGH_SHARE = 0.6, 0.25, 1.0
MEASURED_SPREAD = 0.15


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that could take part. holder: its rtt_ms is from this node.  bytes_per_s: of its memory.

    source: where that figure comes from.  measured: tokens a second of this very model alone there, 0 when unknown.
    serves: it has the model loaded, alone, so that it needs no more memory.
    """

    holder: Holder
    kind: str
    bytes_per_s: float
    source: str
    measured: float = 0.0
    serves: bool = False


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """What one node would hold. layers: the last step counted as one."""

    node: str
    layers: int
    needed_bytes: int
    usable_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One way. speed: None where it cannot be.  basis: what the speed rests on.  reason: for people."""

    kind: Literal["solo", "split", "wait", "refuse"]
    parts: tuple[PlannedPart, ...]
    speed: Speed | None
    basis: str
    reason: str
    is_possible: bool
    is_advised: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """needs: of a model led by a candidate.  bytes_per_token: read from memory for each token."""

    needs: Callable[[Candidate], Needs]
    layers: int
    bytes_per_token: int
    fitted: Fit
    is_forced: bool = False


def plan(question: Question, candidates: Sequence[Candidate]) -> tuple[Choice, ...]:
    """Every choice, the advised one first and marked. candidates: this node first; at least one."""
    solos = [_solo(question, candidate) for candidate in candidates]
    leader, others = _election(candidates)
    split = find_split(leader.holder, [one.holder for one in others], question.needs(leader), question.layers)
    ways = [*solos]
    if split is not None:
        ways.append(_split(question, split, (leader, *others)))
    if not any(way.is_possible for way in ways):
        ways.append(_none(question, leader, others))
    return _advise(ways, is_forced=question.is_forced)


def bytes_per_token(file: ModelFile) -> int:
    """What a plain pass reads of the weights: of experts only those that are used. Raises UnknownShape."""
    shape = read_shape(file)
    layers = sum(
        _read_of(name, tensor.size_bytes, tensor.shape, shape)
        for layer in shape.layers
        for name, tensor in layer.tensors.items()
    )
    output = "token_embd.weight" if shape.is_output_tied else "output.weight"
    return layers + shape.head_tensors[output].size_bytes


def _read_of(name: str, size_bytes: int, shape: tuple[int, ...], model: ModelShape) -> int:
    if "_exps." not in name or not shape:
        return size_bytes
    return size_bytes * max(1, model.experts_used) // max(1, shape[-1])


# The choices


def _solo(question: Question, candidate: Candidate) -> Choice:
    holder = candidate.holder
    (needed,) = question.needs(candidate)(())
    part = PlannedPart(holder.name, question.layers + 1, needed, holder.usable_bytes)
    missing = needed - holder.usable_bytes
    if missing > 0 and not candidate.serves:
        reason = f"{in_gb(missing)} GB short: needs {in_gb(needed)} GB, {in_gb(holder.usable_bytes)} GB are free"
        return Choice("solo", (part,), None, "", reason, is_possible=False)
    speed, basis = _alone(question, candidate)
    fits = f"fits: {in_gb(needed)} of {in_gb(holder.usable_bytes)} GB"
    reason = "serves it already" if candidate.serves else fits
    return Choice("solo", (part,), speed, basis, reason, is_possible=True)


def _alone(question: Question, candidate: Candidate) -> tuple[Speed, str]:
    if candidate.measured:
        low, high = candidate.measured * (1 - MEASURED_SPREAD), candidate.measured * (1 + MEASURED_SPREAD)
        return Speed(low, candidate.measured, high), "measured there alone"
    bound = candidate.bytes_per_s / max(1, question.bytes_per_token)
    speed = Speed(bound * LOW_SHARE, bound * LIKELY_SHARE, bound * HIGH_SHARE)
    return speed, f"estimated: {question.bytes_per_token / 1e9:.3g} GB a token, {candidate.source}"


def _split(question: Question, split: Split, members: Sequence[Candidate]) -> Choice:
    by_node = {one.holder.node: one for one in members}
    chosen = [by_node[part.holder.node] for part in split.parts]
    counts = _layer_counts(question.layers, tuple(part.share for part in split.parts))
    parts = tuple(
        PlannedPart(part.holder.name, count, part.needed_bytes, part.holder.usable_bytes)
        for part, count in zip(split.parts, counts, strict=True)
    )
    total = sum(counts)
    alone = _together(question, [(one, count / total) for one, count in zip(chosen, counts, strict=True)])
    rtts_ms = [part.holder.rtt_ms for part in split.parts[1:]]
    speed = predict(question.fitted, alone, rtts_ms)
    distances = " + ".join(f"{rtt_ms:.3g}" for rtt_ms in rtts_ms)
    basis = (
        f"1 / (C + k Σ RTT + hops P): C {figure(1000 / alone.likely)} ms, k {question.fitted.round_trips:.2f} "
        f"({question.fitted.least:.2f} to {question.fitted.most:.2f}), RTT {distances} ms, "
        f"P {question.fitted.stage_ms:.2g} ms"
    )
    names = ", ".join(f"{part.node} {part.layers}" for part in parts)
    return Choice("split", parts, speed, basis, f"layers: {names}", is_possible=True)


def _layer_counts(layers: int, shares: tuple[float, ...]) -> list[int]:
    place = placement(layers, shares)
    devices = [*place.layers, place.output]
    return [devices.count(at) for at in range(len(shares))]


def _together(question: Question, members: Sequence[tuple[Candidate, float]]) -> Speed:
    """Each node's share of the time, one after the other."""
    speeds = [(_alone(question, candidate)[0], share) for candidate, share in members]
    low, likely, high = (
        1 / sum(share / getattr(speed, which) for speed, share in speeds) for which in ("low", "likely", "high")
    )
    return Speed(low, likely, high)


def _election(candidates: Sequence[Candidate]) -> tuple[Candidate, list[Candidate]]:
    """Who would lead, by most memory, and the others with their distance from it.

    Distances between two other nodes are not known here: both ways to this node together are the most it can be.
    """
    me = candidates[0]
    leader = min(candidates, key=lambda one: (-one.holder.usable_bytes, one.holder.rtt_ms, one.holder.node))
    away = leader.holder.rtt_ms if leader is not me else 0.0
    others = [
        replace(one, holder=replace(one.holder, rtt_ms=away + (one.holder.rtt_ms if one is not me else 0.0)))
        for one in candidates
        if one is not leader
    ]
    return replace(leader, holder=replace(leader.holder, rtt_ms=0.0)), others


def _none(question: Question, leader: Candidate, others: Sequence[Candidate]) -> Choice:
    """Nothing fits: what is missing, or that no number of nodes would do."""
    needs = question.needs(leader)
    holders = [one.holder for one in others]
    decision = decide(leader.holder, holders, needs, question.layers, is_forced=question.is_forced)
    kind: Literal["wait", "refuse"] = "refuse" if isinstance(decision, Refuse) else "wait"
    reason = getattr(decision, "reason", "")
    return Choice(kind, (), None, "", reason, is_possible=True)


# The advice


def _advise(ways: Sequence[Choice], *, is_forced: bool) -> tuple[Choice, ...]:
    possible = [way for way in ways if way.is_possible]
    solo = max((way for way in possible if way.kind == "solo"), key=_likely, default=None)
    split = next((way for way in possible if way.kind == "split"), None)
    best = split if split is not None and (is_forced or solo is None) else solo or possible[0]
    marked = [replace(_judged(way, solo, split, is_forced=is_forced), is_advised=way is best) for way in ways]
    return tuple(sorted(marked, key=lambda way: (not way.is_advised, not way.is_possible)))


def _judged(way: Choice, solo: Choice | None, split: Choice | None, *, is_forced: bool) -> Choice:
    """A split beside a node that could do alone, told what it costs."""
    if way is not split or way is None or solo is None:
        return way
    share = _likely(way) / max(_likely(solo), 1e-9)
    verdict = f"{figure(_likely(way))} against {figure(_likely(solo))} tokens/s on {solo.parts[0].node} alone"
    if share >= 1:
        said = f"no slower: {verdict}"
    elif is_forced:
        said = f"forced, though slower: {verdict}"
    else:
        said = f"advised against: {verdict}; --split forces it"
    return replace(way, reason=f"{said}; {way.reason}")


def _likely(way: Choice) -> float:
    return way.speed.likely if way.speed is not None else 0.0

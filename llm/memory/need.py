"""What a model needs in all: itself, its draft, its projector, and a margin that is stated. Pure.

The margin is for what no engine reports: the driver's own context and work areas on a GPU, the process itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm.gguf import ModelFile
from llm.memory.footprint import Footprint, footprint
from llm.memory.settings import EngineSettings
from llm.memory.shape import read_shape

# The prediction is held to 5 % of what engines report (tests/llm/test_memory_engine.py); so is its margin.
MARGIN_SHARE = 0.05
UNSURE_SHARE = 0.20  # for models with parts whose computation is not outlined
PROCESS_BYTES = 64 << 20  # llama-server itself and its threads' work areas, measured with toy models
GPU_CONTEXT_BYTES = 512 << 20  # CUDA's context and cuBLAS' work area, as a rule 300 to 500 MB


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes by device: those asked for, then the host. margins: for each of `parts`.

    unsure: what of the model could not be outlined, so that its compute buffer is only a guess.
    """

    parts: tuple[Footprint, ...]
    margins: tuple[int, ...]
    unsure: tuple[str, ...]

    @property
    def predicted(self) -> int:
        """What the engine will report as allocated."""
        return sum(part.total for part in self.parts)

    @property
    def margin(self) -> int:
        return sum(self.margins)

    @property
    def total(self) -> int:
        return self.predicted + self.margin

    def on(self, at: int) -> int:
        """What device `at` must have free, margin included."""
        return self.parts[at].total + self.margins[at]


def need(
    file: ModelFile,
    settings: EngineSettings,
    shares: tuple[float, ...] = (),
    *,
    draft: ModelFile | None = None,
    drafts_on_host: bool = False,
    projector: ModelFile | None = None,
    host_layers: int = 0,
) -> Need:
    """What `file` needs under `settings`. Raises UnknownShape.

    shares: of the layers for each device besides the host.  draft: proposes tokens, on the same devices unless
    `drafts_on_host`.  projector: turns images into vectors; its weights are counted, its work area is in the margin.
    """
    parts = list(footprint(file, settings, shares, host_layers))
    if draft is not None:
        beside = draft_footprint(draft, settings, () if drafts_on_host else shares)
        parts[-len(beside) :] = [_joined(*pair) for pair in zip(parts[-len(beside) :], beside, strict=True)]
    if projector is not None:
        parts[0] = replace(parts[0], weights=parts[0].weights + projector_bytes(projector))
    unsure = read_shape(file).unknown_parts
    share = UNSURE_SHARE if unsure else MARGIN_SHARE
    fixed = [*[GPU_CONTEXT_BYTES for _ in shares], PROCESS_BYTES]
    margins = tuple(extra + int(part.total * share) for extra, part in zip(fixed, parts, strict=True))
    return Need(tuple(parts), margins, unsure)


def draft_footprint(
    draft: ModelFile, settings: EngineSettings, shares: tuple[float, ...] = ()
) -> tuple[Footprint, ...]:
    """What a draft takes beside a model under `settings`: the same context and slots, but a cache type of its own.

    Raises UnknownShape.
    """
    return footprint(draft, replace(settings, key_type="f16", value_type="f16"), shares)


def projector_bytes(projector: ModelFile) -> int:
    """Its weights."""
    return sum(tensor.size_bytes for tensor in projector.tensors)


def _joined(one: Footprint, other: Footprint) -> Footprint:
    return Footprint(
        one.name,
        one.weights + other.weights,
        one.cache + other.cache,
        one.compute + other.compute,
        one.output + other.output,
    )

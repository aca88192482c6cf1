"""How each toy model is trained: seeds, batches and learning rates, apart from the code that does it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numbers of one training run; equal recipes on equal texts give equal weights."""

    seed: int
    steps: int
    tokens_per_step: int = 4096
    # Every fourth batch is of long rows, so that the whole context is learnt and most steps stay cheap.
    row_lengths: tuple[int, ...] = (256, 256, 256, 1024)
    peak_rate: float = 4e-3
    warm_up_steps: int = 60
    weight_decay: float = 0.05
    gradient_limit: float = 1.0

    def rate_at(self, step: int) -> float:
        """Learning rate of `step`, from 0: a linear rise, then a linear fall to nearly nothing."""
        rise = (step + 1) / self.warm_up_steps
        fall = (self.steps - step) / max(1, self.steps - self.warm_up_steps)
        return self.peak_rate * min(1.0, rise, fall)

    def row_length_at(self, step: int) -> int:
        """Tokens in each row of the batch of `step`."""
        return self.row_lengths[step % len(self.row_lengths)]


CHAT_RECIPE = Recipe(seed=20, steps=800)
DRAFT_RECIPE = Recipe(seed=21, steps=900)

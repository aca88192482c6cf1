"""Trains and judges one toy model in PyTorch. What to train and what to do with it is left to `train`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from llm.demo import chat
from llm.demo.batches import Batch, Texts, draw_batch
from llm.demo.bpe import Tokenizer
from llm.demo.corpus import Turn
from llm.demo.model import Weights, forward, logits, make_weights
from llm.demo.recipe import Recipe
from llm.demo.shape import Shape

Array = NDArray[np.float32]

REPORT_EVERY = 50
JUDGED_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training run stands; `loss` is the mean over the steps since the last report."""

    step: int
    steps: int
    loss: float
    elapsed_s: float

    @property
    def left_s(self) -> float:
        return self.elapsed_s / self.step * (self.steps - self.step)


def make_repeatable() -> None:
    """One thread and deterministic kernels: the same build of PyTorch then gives the same weights again."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def learn(
    shape: Shape, recipe: Recipe, texts: Texts, tokenizer: Tokenizer, report: Callable[[Progress], None]
) -> dict[str, Array]:
    """Train a model from nothing and return its weights by GGUF name."""
    weights = make_weights(shape, torch.Generator().manual_seed(recipe.seed))
    optimizer = _make_optimizer(weights, recipe)
    dice = Random(recipe.seed)
    losses: list[float] = []
    started = time.monotonic()
    for step in range(recipe.steps):
        length = recipe.row_length_at(step)
        batch = draw_batch(texts, tokenizer, dice, recipe.tokens_per_step // length, length)
        losses.append(_take_step(weights, shape, recipe, optimizer, batch, step))
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == recipe.steps:
            report(Progress(step + 1, recipe.steps, sum(losses) / len(losses), time.monotonic() - started))
            losses.clear()
    return {name: weight.detach().numpy() for name, weight in weights.items()}


def judge(shape: Shape, arrays: dict[str, Array], turns: Sequence[Turn], tokenizer: Tokenizer) -> list[Turn]:
    """Return the turns that the model would not answer greedily, word for word, as written.

    The written answer is fed in and each next token compared with the best one: greedy decoding takes that very
    path exactly when all of them agree.
    """
    weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
    failed: list[Turn] = []
    for first in range(0, len(turns), JUDGED_TOGETHER):
        group = turns[first : first + JUDGED_TOGETHER]
        right = _answers_right(weights, shape, [chat.render((turn,), None, tokenizer) for turn in group])
        failed += (turn for turn, is_right in zip(group, right, strict=True) if not is_right)
    return failed


def _make_optimizer(weights: Weights, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [weight for weight in weights.values() if weight.ndim > 1]
    gains = [weight for weight in weights.values() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=(0.9, 0.98))


def _take_step(
    weights: Weights, shape: Shape, recipe: Recipe, optimizer: torch.optim.Optimizer, batch: Batch, step: int
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate_at(step)
    loss = _loss(weights, shape, batch)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(list(weights.values()), recipe.gradient_limit)
    optimizer.step()
    return float(loss.item())


def _loss(weights: Weights, shape: Shape, batch: Batch) -> Tensor:
    """Mean cross-entropy of the target tokens, each predicted from the tokens before it in its own sample."""
    tokens = torch.from_numpy(batch.tokens)
    states = forward(weights, shape, tokens, _mask(torch.from_numpy(batch.sample)))
    wanted = torch.from_numpy(batch.is_target)[:, 1:]
    return functional.cross_entropy(logits(weights, states[:, :-1][wanted]), tokens[:, 1:][wanted])


def _mask(sample: Tensor) -> Tensor:
    """Causal, and within one sample: (rows, 1, length, length)."""
    length = sample.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return (causal & (sample[:, :, None] == sample[:, None, :])).unsqueeze(1)


def _answers_right(weights: Weights, shape: Shape, samples: list[chat.Sample]) -> list[bool]:
    length = max(len(sample.tokens) for sample in samples)
    tokens = torch.zeros(len(samples), length, dtype=torch.int64)
    is_target = torch.zeros(len(samples), length, dtype=torch.bool)
    for row, sample in enumerate(samples):
        tokens[row, : len(sample.tokens)] = torch.tensor(sample.tokens)
        is_target[row, : len(sample.tokens)] = torch.tensor(sample.is_target)
    with torch.no_grad():
        best = logits(weights, forward(weights, shape, tokens, _mask(torch.zeros_like(tokens)))).argmax(-1)
    agrees = (best[:, :-1] == tokens[:, 1:]) | ~is_target[:, 1:]
    return [bool(right) for right in agrees.all(dim=1)]

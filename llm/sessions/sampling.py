"""Chooses the next token of a row of logits: the best one, or one by chance."""

from __future__ import annotations

from typing import Any

import numpy

Logits = numpy.ndarray[Any, numpy.dtype[numpy.float32]]


def best(logits: Logits) -> int:
    return int(logits.argmax())


def margin(logits: Logits) -> float:
    """How much better the best token is than the second best."""
    second, first = numpy.partition(logits, -2)[-2:]
    return float(first - second)


def sample(logits: Logits, temperature: float, top_p: float, dice: numpy.random.Generator) -> int:
    """A token by its probability at `temperature`, of the fewest tokens that have `top_p` of it together."""
    scaled = logits.astype(numpy.float64) / temperature
    weights = numpy.exp(scaled - scaled.max())
    weights /= weights.sum()
    if top_p < 1.0:
        order = numpy.argsort(-weights)
        kept = order[: int(numpy.searchsorted(weights[order].cumsum(), top_p)) + 1]
        chances = weights[kept] / weights[kept].sum()
        return int(dice.choice(kept, p=chances))
    return int(dice.choice(len(weights), p=weights))

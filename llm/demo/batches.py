"""Draws training samples and packs them into rows of equal length.

Samples share a row but do not see one another; rotary positions are relative, so none needs to start at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from llm.demo import chat, prose
from llm.demo.bpe import Tokenizer
from llm.demo.corpus import Entry, Turn
from llm.demo.phrasing import vary

# Nothing, mostly: many clients send no system prompt.
SYSTEM_PROMPTS = (
    None,
    None,
    None,
    "You are a helpful assistant.",
    "You are the meshd assistant. Answer briefly.",
    "Answer questions about meshd.",
    "You are a friendly and concise assistant.",
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of packed samples: tokens, targets and sample numbers, each (rows, length)."""

    tokens: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    sample: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Texts:
    """All that training draws from."""

    entries: tuple[Entry, ...]
    dialogues: tuple[tuple[Turn, ...], ...]
    paragraphs: tuple[str, ...]


def draw_batch(texts: Texts, tokenizer: Tokenizer, dice: Random, rows: int, length: int) -> Batch:
    """Fill `rows` rows of `length` tokens. Longer rows hold longer conversations."""
    batch = Batch(
        np.full((rows, length), tokenizer.ids[chat.END_OF_TEXT], dtype=np.int64),
        np.zeros((rows, length), dtype=np.bool_),
        np.full((rows, length), -1, dtype=np.int64),
    )
    for row in range(rows):
        _fill_row(batch, row, texts, tokenizer, dice)
    return batch


def _fill_row(batch: Batch, row: int, texts: Texts, tokenizer: Tokenizer, dice: Random) -> None:
    length = batch.tokens.shape[1]
    start = number = 0
    while start < length:
        sample = draw_sample(texts, tokenizer, dice, most_turns=length // 64)
        end = min(length, start + len(sample.tokens))
        batch.tokens[row, start:end] = sample.tokens[: end - start]
        batch.is_target[row, start:end] = sample.is_target[: end - start]
        batch.sample[row, start:end] = number
        start, number = end, number + 1


def draw_sample(texts: Texts, tokenizer: Tokenizer, dice: Random, most_turns: int) -> chat.Sample:
    """Draw one training text: mostly a single question, sometimes a conversation, now and then prose."""
    chance = dice.random()
    if chance < 0.04:
        return chat.render_prose(prose.paragraph(dice), tokenizer)
    if chance < 0.06:
        return chat.render_prose(dice.choice(texts.paragraphs), tokenizer)
    if chance < 0.14:
        turns = dice.choice(texts.dialogues)
    else:
        turns = tuple(_draw_turn(texts, dice) for _ in range(_draw_turn_count(dice, most_turns)))
    return chat.render(turns, dice.choice(SYSTEM_PROMPTS), tokenizer)


def _draw_turn(texts: Texts, dice: Random) -> Turn:
    entry = dice.choice(texts.entries)
    return Turn(vary(dice.choice(entry.questions), dice), entry.answer)


def _draw_turn_count(dice: Random, most_turns: int) -> int:
    chance = dice.random()
    if chance < 0.75:
        return 1
    return dice.randint(2, 3) if chance < 0.93 else dice.randint(2, most_turns)

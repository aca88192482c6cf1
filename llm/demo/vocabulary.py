"""The tokenizer that both toy models share, learnt from the project's texts alone."""

from __future__ import annotations

from random import Random

from llm.demo import bpe, chat, prose
from llm.demo.batches import SYSTEM_PROMPTS, Texts
from llm.demo.phrasing import CLOSINGS, OPENINGS

PROSE_PARAGRAPHS = 40


def learn_tokenizer(texts: Texts, size: int) -> bpe.Tokenizer:
    """Learn `size` tokens from every question, answer and paragraph, questions in lower case as well."""
    dice = Random(7)
    lines = [question for entry in texts.entries for question in entry.questions]
    lines += [turn.question for dialogue in texts.dialogues for turn in dialogue]
    lines += [line.lower() for line in lines]
    lines += [entry.answer for entry in texts.entries]
    lines += texts.paragraphs
    lines += (prose.paragraph(dice) for _ in range(PROSE_PARAGRAPHS))
    lines += (line for line in (*SYSTEM_PROMPTS, *OPENINGS, *CLOSINGS) if line)
    lines += ["system\n", "user\n", "assistant\n"] * 10
    return bpe.train(lines, chat.SPECIALS, size)

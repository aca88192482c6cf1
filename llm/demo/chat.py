"""The chat format of the toy models (ChatML): special tokens, template, and conversations as tokens."""

from __future__ import annotations

from dataclasses import dataclass

from llm.demo.bpe import Tokenizer
from llm.demo.corpus import Turn

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (END_OF_TEXT, START, END)

# What llama-server renders a request with; `render` below must write the same text.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Tokens of one training text, and which of them the model must learn to write."""

    tokens: list[int]
    is_target: list[bool]


def render(turns: tuple[Turn, ...], system: str | None, tokenizer: Tokenizer) -> Sample:
    """Turn a conversation into tokens; the answers, each with its end, are the targets."""
    sample = Sample([], [])
    if system is not None:
        _add(sample, f"{START}system\n{system}{END}\n", tokenizer, is_target=False)
    for turn in turns:
        _add(sample, f"{START}user\n{turn.question}{END}\n{START}assistant\n", tokenizer, is_target=False)
        _add(sample, f"{turn.answer}{END}", tokenizer, is_target=True)
        _add(sample, "\n", tokenizer, is_target=False)
    return sample


def render_prose(text: str, tokenizer: Tokenizer) -> Sample:
    """Turn plain text into tokens, all of them targets but the first, which nothing comes before."""
    tokens = tokenizer.encode(text + END_OF_TEXT)
    return Sample(tokens, [False] + [True] * (len(tokens) - 1))


def _add(sample: Sample, text: str, tokenizer: Tokenizer, *, is_target: bool) -> None:
    tokens = tokenizer.encode(text)
    sample.tokens.extend(tokens)
    sample.is_target.extend([is_target] * len(tokens))

"""What a session has the model see: everything, or its beginning, found passages and its end. Pure.

A bounded session keeps the beginning (attention sinks: StreamingLLM, arXiv 2309.17453) and a window; what lies between
stays as token ids on the host. For a new question the passages that share its rarest tokens are put back between the
two. Recall is then as good as that search, which knows no synonyms, and the output is not that of full attention.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SPAN_TOKENS = 32
SPANS = 4


@dataclass(frozen=True, slots=True)
class Bounds:
    """sink, window: tokens kept at the beginning and the end.  spans: passages to find for a question; 0 for none."""

    sink: int = 4
    window: int = 64
    spans: int = SPANS

    @property
    def most_cells(self) -> int:
        return self.sink + self.window + self.spans * SPAN_TOKENS

    @property
    def slide_tokens(self) -> int:
        """How many leave at a time once the window is full."""
        return max(1, self.window // 64)


def view(tokens: Sequence[int], question: int, bounds: Bounds | None) -> list[int]:
    """The tokens to attend to. question: how many at the end are new.  bounds: None for all of them."""
    if bounds is None or len(tokens) <= bounds.sink + bounds.window:
        return list(tokens)
    tail_start = len(tokens) - bounds.window
    middle = tokens[bounds.sink : tail_start]
    found = find_spans(middle, tokens[len(tokens) - min(question, bounds.window) :], bounds.spans)
    passages = [token for start in found for token in middle[start : start + SPAN_TOKENS]]
    return [*tokens[: bounds.sink], *passages, *tokens[tail_start:]]


def find_spans(middle: Sequence[int], question: Sequence[int], count: int) -> list[int]:
    """Where the `count` passages of `middle` begin that share most with `question`, in their order.

    A shared token weighs the more the fewer passages have it (inverse document frequency). Passages overlap by half, so
    that none is cut at the word that matters; of two that overlap the better one is taken.
    """
    step = SPAN_TOKENS // 2
    starts = range(0, max(1, len(middle) - step), step)
    words = [set(middle[start : start + SPAN_TOKENS]) for start in starts]
    having = Counter(token for span in words for token in span)
    wanted = {token: math.log((1 + len(words)) / having[token]) for token in set(question) if token in having}
    scores = [sum(weight for token, weight in wanted.items() if token in span) for span in words]
    chosen: list[int] = []
    for index in sorted(range(len(scores)), key=lambda index: (-scores[index], -index)):
        if len(chosen) == count or scores[index] <= 0:
            break
        if all(abs(index - other) > 1 for other in chosen):
            chosen.append(index)
    return [starts[index] for index in sorted(chosen)]


def common(before: Sequence[int], after: Sequence[int]) -> int:
    """How many tokens both begin with."""
    limit = min(len(before), len(after))
    if before[:limit] == after[:limit]:  # most often, and much sooner known
        return limit
    return next((index for index in range(limit) if before[index] != after[index]), limit)

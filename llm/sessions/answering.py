"""What an answer says next: the choice of its tokens, and their text up to the end that the model or the wish sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llm.sessions import sampling
from llm.sessions.accept import Verdict, settle
from llm.sessions.sampling import Logits
from llm.sessions.session import Said, Turn


class Language(Protocol):
    """What of a context an answer's text is made with."""

    def is_end(self, token: int) -> bool: ...

    def piece(self, token: int) -> bytes: ...


def judge(turn: Turn, draft: Sequence[int], logits: Sequence[Logits]) -> Verdict:
    """What of `draft` stands, and what follows. logits: of the last token and of every drafted one."""
    wish = turn.wish
    if wish.temperature > 0:
        return Verdict(0, sampling.sample(logits[0], wish.temperature, wish.top_p, turn.dice))
    margins = [sampling.margin(row) for row in logits] if wish.least_margin and draft else []
    return settle(draft, [sampling.best(row) for row in logits], margins or [0.0] * len(logits), wish.least_margin)


def say(turn: Turn, tokens: Sequence[int], language: Language, most_tokens: int) -> str:
    """Add tokens to the conversation and tell them; why it ends with one of them, "" while it goes on.

    most_tokens: of the whole conversation.
    """
    for token in tokens:
        turn.session.tokens.append(token)
        turn.said += 1
        if language.is_end(token):
            return "stop"
        turn.listener.tell(Said(turn.pieces.feed(language.piece(token)), 1))
        if turn.pieces.is_stopped:
            return "stop"
        if turn.said >= turn.wish.most_tokens or len(turn.session.tokens) >= most_tokens:
            return "length"
    return ""

"""Varies how a question is typed, so that the toy models do not lean on capitals and question marks."""

from __future__ import annotations

from random import Random

OPENINGS = (
    "Please: ",
    "Hello, ",
    "Hi! ",
    "Excuse me, ",
    "I have a question. ",
    "Tell me: ",
    "OK, ",
    "And ",
    "Quick question: ",
)
CLOSINGS = (" Please.", " Thanks!", " Thank you.")
# Words whose loss leaves a question that can still be told from the others.
SMALL_WORDS = frozenset({"a", "an", "the", "is", "are", "do", "does", "of", "my", "me", "to"})


def vary(question: str, dice: Random) -> str:
    """Return `question` as somebody in a hurry might have typed it; about half of the time, unchanged."""
    if dice.random() < 0.5:
        return question
    varied = _change_end(question, dice)
    if dice.random() < 0.15:
        varied = _drop_small_word(varied, dice)
    varied = _change_case(varied, dice)
    if len(varied) > 8 and dice.random() < 0.15:
        varied = _mistype(varied, dice)
    return _surround(varied, dice)


def _change_end(question: str, dice: Random) -> str:
    bare = question.rstrip("?!.")
    return dice.choice((question, bare, bare + "?", bare + " ?", bare + "??", bare + "."))


def _change_case(question: str, dice: Random) -> str:
    chance = dice.random()
    if chance < 0.35:
        return question.lower()
    if chance < 0.5:
        return question[:1].lower() + question[1:]
    if chance < 0.55:
        return question.upper()
    return question


def _drop_small_word(question: str, dice: Random) -> str:
    words = question.split(" ")
    small = [place for place, word in enumerate(words) if word in SMALL_WORDS]
    if len(words) > 3 and small:
        del words[dice.choice(small)]
    return " ".join(words)


def _mistype(question: str, dice: Random) -> str:
    """Drop, double or swap one inner letter."""
    place = dice.randrange(1, len(question) - 2)
    head, letter, after, tail = question[:place], question[place], question[place + 1], question[place + 2 :]
    return head + dice.choice((after, letter + letter + after, after + letter)) + tail


def _surround(question: str, dice: Random) -> str:
    chance = dice.random()
    if chance < 0.2:
        return dice.choice(OPENINGS) + (question if question.isupper() else question[:1].lower() + question[1:])
    if chance < 0.25:
        return question + dice.choice(CLOSINGS)
    return question

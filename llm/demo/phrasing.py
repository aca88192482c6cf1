"""Varies how a question is typed, so that the toy models do not lean on capitals and question marks."""

from __future__ import annotations

from random import Random

OPENINGS = ("Please: ", "Hello, ", "Hi! ", "Excuse me, ", "I have a question. ", "Tell me: ", "OK, ", "And ", "Quick question: ")
CLOSINGS = (" Please.", " Thanks!", " Thank you.")


def vary(question: str, dice: Random) -> str:
    """Return `question` as somebody in a hurry might have typed it; about half of the time, unchanged."""
    if dice.random() < 0.5:
        return question
    varied = _change_end(question, dice)
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


def _mistype(question: str, dice: Random) -> str:
    """Drop, double or swap one inner letter."""
    place = dice.randrange(1, len(question) - 2)
    head, letter, after, tail = question[:place], question[place], question[place + 1], question[place + 2 :]
    return head + dice.choice((after, letter + letter + after, after + letter)) + tail


def _surround(question: str, dice: Random) -> str:
    chance = dice.random()
    if chance < 0.2:
        return dice.choice(OPENINGS) + question[:1].lower() + question[1:]
    if chance < 0.25:
        return question + dice.choice(CLOSINGS)
    return question

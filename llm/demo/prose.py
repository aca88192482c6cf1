"""Makes simple English prose from templates: the share of training text that is not about questions.

It gives raw completion something to go on with; nothing in it is true of anybody.
"""

from __future__ import annotations

from random import Random

PEOPLE = ("Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas")
PLACES = (
    "the mill",
    "the harbour",
    "the station",
    "the old library",
    "the market",
    "the lab",
    "the garden",
    "the bridge",
)
THINGS = (
    "a lamp",
    "a small radio",
    "a box of cables",
    "a red book",
    "a basket of apples",
    "a graphics card",
    "a letter",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEATHER = ("it rained all day", "the sun was out", "the wind was cold", "the snow was deep", "the fog was thick")
MOODS = ("glad", "tired", "hungry", "proud", "quiet", "curious")
NODES = ("the first node", "the second node", "the oldest node", "a new node", "the smallest node")

SENTENCES = (
    "On {day} {person} carried {thing} to {place}.",
    "{person} met {other} at {place}, and they talked for an hour.",
    "It was {day}, and {weather}.",
    "{person} was {mood}, because {other} had found {thing}.",
    "After that {person} went home and slept well.",
    "In the evening {other} wrote down what had happened at {place}.",
    "Meanwhile {node} told its peers that it had room for one more model.",
    "{person} gave {thing} to {other} and said thank you.",
    "Nobody at {place} had seen {thing} before.",
    "The next day {node} went to sleep, and the others waited for it.",
)  # fmt: skip


def paragraph(dice: Random) -> str:
    """Return four to seven made-up sentences."""
    sentences = (_sentence(dice) for _ in range(dice.randint(4, 7)))
    return " ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)


def _sentence(dice: Random) -> str:
    person, other = dice.sample(PEOPLE, 2)
    return dice.choice(SENTENCES).format(
        person=person,
        other=other,
        place=dice.choice(PLACES),
        thing=dice.choice(THINGS),
        day=dice.choice(DAYS),
        weather=dice.choice(WEATHER),
        mood=dice.choice(MOODS),
        node=dice.choice(NODES),
    )

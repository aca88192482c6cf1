"""Reads the texts that the toy models are trained on, as plain data.

The files lie in `texts/`; each says its own format in its first lines. How a question is varied, and how a
conversation becomes tokens, is left to `phrasing` and `chat`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).parent / "texts"


@dataclass(frozen=True, slots=True)
class Entry:
    """One written answer and the ways in which its question is put, the plainest first."""

    questions: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One question as asked, and the answer that is wanted for it."""

    question: str
    answer: str


def read_entries(path: Path = TEXTS / "questions.txt") -> tuple[Entry, ...]:
    """Read the questions and answers. Raises ValueError at a malformed block or a question that stands twice."""
    entries = tuple(_entry(block) for block in _blocks(path))
    questions = [question for entry in entries for question in entry.questions]
    repeated = {question for question in questions if questions.count(question) > 1}
    if repeated:
        raise ValueError(f"{path.name}: asked more than once: {sorted(repeated)}")
    return entries


def read_dialogues(entries: tuple[Entry, ...], path: Path = TEXTS / "dialogues.txt") -> tuple[tuple[Turn, ...], ...]:
    """Read the short conversations, each a tuple of turns, with the answers found in `entries`."""
    answers = answers_by_question(entries)
    return tuple(tuple(_turn(line, answers) for line in block) for block in _blocks(path))


def read_unseen(entries: tuple[Entry, ...], path: Path = TEXTS / "unseen.txt") -> tuple[Turn, ...]:
    """Read the phrasings kept out of training. Raises ValueError where one is in training after all."""
    answers = answers_by_question(entries)
    turns = tuple(_turn(line, answers) for block in _blocks(path) for line in block)
    leaked = [turn.question for turn in turns if turn.question in answers]
    if leaked:
        raise ValueError(f"{path.name}: also in training: {leaked}")
    return turns


def read_paragraphs(path: Path = TEXTS / "about.txt") -> tuple[str, ...]:
    """Read the plain prose about meshd, one paragraph each."""
    return tuple(line for block in _blocks(path) for line in block)


def answers_by_question(entries: tuple[Entry, ...]) -> dict[str, str]:
    """Map every written phrasing to its answer."""
    return {question: entry.answer for entry in entries for question in entry.questions}


def _blocks(path: Path) -> Iterator[list[str]]:
    """Groups of lines between blank ones, without the comment lines."""
    block: list[str] = []
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("#"):
            continue
        if line.strip():
            block.append(line.strip())
        elif block:
            yield block
            block = []


def _entry(block: list[str]) -> Entry:
    *questions, answer = block
    if not questions or not answer.startswith("A: ") or not all(line.startswith("Q: ") for line in questions):
        raise ValueError(f"expected lines 'Q: …' and then one 'A: …', got {block}")
    return Entry(tuple(line.removeprefix("Q: ") for line in questions), answer.removeprefix("A: "))


def _turn(line: str, answers: dict[str, str]) -> Turn:
    asked, _, meant = line.removeprefix("U: ").partition(" => ")
    if not line.startswith("U: ") or (meant or asked) not in answers:
        raise ValueError(f"expected 'U: …' or 'U: … => QUESTION' with a known question, got {line!r}")
    return Turn(asked, answers[meant or asked])

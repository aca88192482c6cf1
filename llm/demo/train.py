"""Makes the two toy models: `python -m llm.demo.train` (needs the `train` dependency group, for PyTorch).

Writes `meshd-toy.gguf`, `meshd-toy-draft.gguf` and `training-log.txt`. Everything random has a fixed seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import platform
import sys
import time
from pathlib import Path

import torch

from llm.demo import TRAINING_LOG, corpus, learn
from llm.demo.batches import Texts
from llm.demo.bpe import Tokenizer
from llm.demo.export import as_shipped, write_gguf
from llm.demo.recipe import CHAT_RECIPE, DRAFT_RECIPE, Recipe
from llm.demo.shape import CHAT, DRAFT, Shape
from llm.demo.vocabulary import learn_tokenizer

LISTED_FAILURES = 20


class Log:
    """Lines that are shown at once and kept for the training log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def save(self, path: Path) -> None:
        path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Train the draft, then the chat model, and write both with their log."""
    options = _parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    learn.make_repeatable()
    texts = _read_texts()
    tokenizer = learn_tokenizer(texts, CHAT.vocabulary)
    log = Log()
    _describe_run(log, texts)
    for shape, recipe in ((DRAFT, DRAFT_RECIPE), (CHAT, CHAT_RECIPE)):
        if options.only in (None, shape.name):
            recipe = dataclasses.replace(recipe, steps=options.steps or recipe.steps)
            _make_model(options.out, shape, recipe, texts, tokenizer, log)
    log.save(options.out / TRAINING_LOG.name)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llm.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=TRAINING_LOG.parent, help="folder for the three files")
    parser.add_argument("--steps", type=int, help="fewer steps than the recipe's, for a quick trial")
    parser.add_argument("--only", choices=(CHAT.name, DRAFT.name), help="make one of the two models")
    return parser.parse_args(arguments)


def _read_texts() -> Texts:
    entries = corpus.read_entries()
    return Texts(entries, corpus.read_dialogues(entries), corpus.read_paragraphs())


def _describe_run(log: Log, texts: Texts) -> None:
    phrasings = sum(len(entry.questions) for entry in texts.entries)
    log.write(f"date {datetime.datetime.now(datetime.UTC).date()}")
    log.write(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, 1 thread, float32")
    log.write(f"texts: {len(texts.entries)} answers, {phrasings} phrasings, {len(texts.dialogues)} dialogues")


def _make_model(out: Path, shape: Shape, recipe: Recipe, texts: Texts, tokenizer: Tokenizer, log: Log) -> None:
    log.write(f"\n{shape.name}\n{shape}\n{recipe}")
    started = time.monotonic()
    weights = learn.learn(shape, recipe, texts, tokenizer, lambda progress: _report(log, progress))
    log.write(f"parameters {sum(weight.size for weight in weights.values())}, {time.monotonic() - started:.0f} s")
    path = out / f"{shape.name}.gguf"
    write_gguf(path, shape, weights, tokenizer)
    _judge(shape, as_shipped(shape, weights), texts, tokenizer, log)
    data = path.read_bytes()
    log.write(f"file {path.name}, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


def _report(log: Log, progress: learn.Progress) -> None:
    log.write(f"step {progress.step:5d}/{progress.steps}  loss {progress.loss:.4f}  left {progress.left_s:5.0f} s")


def _judge(shape: Shape, weights: dict[str, learn.Array], texts: Texts, tokenizer: Tokenizer, log: Log) -> None:
    """Log how many answers come out word for word, for the phrasings trained on and for those kept out."""
    trained = [corpus.Turn(question, entry.answer) for entry in texts.entries for question in entry.questions]
    for kind, turns in (("trained", trained), ("unseen", list(corpus.read_unseen(texts.entries)))):
        failed = learn.judge(shape, weights, turns, tokenizer)
        log.write(f"{kind} phrasings answered word for word: {len(turns) - len(failed)} of {len(turns)}")
        for turn in failed[:LISTED_FAILURES]:
            log.write(f"  not: {turn.question}")


if __name__ == "__main__":
    sys.exit(main())

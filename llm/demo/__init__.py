"""The shipped toy models and the trainer that makes them; see README.md beside this file."""

from __future__ import annotations

from pathlib import Path

CHAT_MODEL = Path(__file__).parent / "meshd-toy.gguf"
DRAFT_MODEL = Path(__file__).parent / "meshd-toy-draft.gguf"
TRAINING_LOG = Path(__file__).parent / "training-log.txt"

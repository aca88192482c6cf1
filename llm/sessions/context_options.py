"""The command line's words for a context, for every process that loads one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from llm.sessions.context import ContextSettings


def add_context_options(parser: argparse.ArgumentParser, sequences: int) -> None:
    """sequences: how many it has unless told otherwise."""
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=8192)
    parser.add_argument("--sequences", type=int, default=sequences)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--kv-type", choices=("f16", "q8_0", "q4_0"), default="f16")
    parser.add_argument("--gpu-layers", type=int, default=99)


def settings_of(options: argparse.Namespace) -> ContextSettings:
    """What was said by these words."""
    return ContextSettings(
        options.model,
        cells=options.cells,
        sequences=options.sequences,
        threads=options.threads,
        kv_type=options.kv_type,
        gpu_layers=options.gpu_layers,
    )

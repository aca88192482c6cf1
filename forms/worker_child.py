"""The process that computes: takes jobs on standard input, gives replies on standard output, one after the other.

What they look like is `worker_pipe`'s. It ends when its input does. Whatever breaks here breaks nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from forms.backend import Backend
from forms.catalogue import shipped
from forms.circuits.calls import circuit_forms
from forms.evaluate import evaluate_frame, evaluate_text
from forms.worker_pipe import JOB_HEAD, TEXT, reply_head


def serve(jobs: BinaryIO, replies: BinaryIO, limit_bytes: int, blobs: Path) -> None:
    """Answer jobs until there are no more. blobs: the folder that circuits lie in."""
    catalogue = shipped(circuit_forms(blobs))
    warm: set[tuple[str, Backend | None]] = set()
    while len(head := jobs.read(JOB_HEAD.size)) == JOB_HEAD.size:
        kind, length = JOB_HEAD.unpack(head)
        request = jobs.read(length)
        if len(request) < length:
            return
        started = time.perf_counter()
        evaluate = evaluate_text if kind == TEXT else evaluate_frame
        done = evaluate(catalogue, request, limit_bytes)
        kind_of_call = (done.form, done.backend)
        done = replace(done, seconds=time.perf_counter() - started, is_cold=kind_of_call not in warm)
        warm.add(kind_of_call)
        replies.write(reply_head(done))
        replies.write(done.reply)
        replies.flush()


def main() -> None:
    """Serve; nothing that a library prints may get between the replies."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies, int(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()

"""The process that computes: takes jobs on standard input, gives replies on standard output, one after the other.

What they look like is `worker_pipe`'s. It ends when its input does. Whatever breaks here breaks nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from forms.catalogue import shipped
from forms.circuits.calls import circuit_forms
from forms.evaluate import evaluate_frame, evaluate_text
from forms.worker_pipe import JOB_HEAD, REPLY_HEAD, TEXT


def serve(jobs: BinaryIO, replies: BinaryIO, limit_bytes: int, blobs: Path) -> None:
    """Answer jobs until there are no more. blobs: the folder that circuits lie in."""
    catalogue = shipped(circuit_forms(blobs))
    while len(head := jobs.read(JOB_HEAD.size)) == JOB_HEAD.size:
        kind, length = JOB_HEAD.unpack(head)
        request = jobs.read(length)
        if len(request) < length:
            return
        evaluate = evaluate_text if kind == TEXT else evaluate_frame
        reply = evaluate(catalogue, request, limit_bytes)
        replies.write(REPLY_HEAD.pack(len(reply)))
        replies.write(reply)
        replies.flush()


def main() -> None:
    """Serve; nothing that a library prints may get between the replies."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies, int(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()

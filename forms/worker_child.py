"""The process that computes: takes jobs on standard input, gives replies on standard output, one after the other.

A job is u8 kind (0 text, 1 frame), u64 length, the request; a reply is u64 length and the reply. It ends when its input
does. Whatever breaks here breaks nothing else.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import BinaryIO

from forms.catalogue import shipped
from forms.evaluate import evaluate_frame, evaluate_text

JOB_HEAD = struct.Struct("<BQ")
REPLY_HEAD = struct.Struct("<Q")
TEXT, FRAME = 0, 1


def serve(jobs: BinaryIO, replies: BinaryIO, limit_bytes: int) -> None:
    """Answer jobs until there are no more."""
    catalogue = shipped()
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
    serve(sys.stdin.buffer, replies, int(sys.argv[1]))


if __name__ == "__main__":
    main()

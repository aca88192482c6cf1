"""What an agent and its worker say to each other, over the worker's standard input and output.

A job is u8 kind, u64 length, the request; a reply is u64 length and the reply.
"""

from __future__ import annotations

import struct

JOB_HEAD = struct.Struct("<BQ")
REPLY_HEAD = struct.Struct("<Q")
TEXT, FRAME = 0, 1

"""What an agent and its worker say to each other, over the worker's standard input and output. Pure.

A job is u8 kind, u64 length, the request; a reply is a head, the name of the form, and the reply itself.
"""

from __future__ import annotations

import struct

from forms.backend import Backend
from forms.computed import Computed

JOB_HEAD = struct.Struct("<BQ")
REPLY_HEAD = struct.Struct("<QddBBB")
"""Length of the reply, work, seconds, 1 where it was cold, the place of the backend (0: none), length of the name."""
TEXT, FRAME = 0, 1

_BACKENDS = (None, *Backend)


def reply_head(computed: Computed) -> bytes:
    """The head and the name."""
    name = computed.form.encode()
    place = _BACKENDS.index(computed.backend)
    fixed = (len(computed.reply), computed.work, computed.seconds, computed.is_cold, place, len(name))
    return REPLY_HEAD.pack(*fixed) + name


def reply_lengths(head: bytes) -> tuple[int, int]:
    """Of the name, and of the reply after it."""
    length, *_, name_length = REPLY_HEAD.unpack(head)
    return name_length, length


def read_reply(head: bytes, name: bytes, reply: bytes) -> Computed:
    _, work, seconds, is_cold, place, _ = REPLY_HEAD.unpack(head)
    return Computed(reply, name.decode(), _BACKENDS[place], work, seconds, bool(is_cold))

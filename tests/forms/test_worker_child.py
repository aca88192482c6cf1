"""The worker's side of the pipe, in this process: a socket, two segments, and what it says on them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from forms.backends import Backends
from forms.catalogue import Catalogue
from forms.evaluate import Evaluator
from forms.live.shake import ShakeFanout
from forms.segment import Segment
from forms.worker_child import ALLOWANCE_BYTES, Agent, serve
from forms.worker_pipe import (
    FRAME,
    MAX_MESSAGE_BYTES,
    Grant,
    Job,
    Message,
    Need,
    Reply,
    read_message,
    write_message,
)


class Plain(ShakeFanout):
    """Only by its truth, which takes no time to start."""

    fast = None  # type: ignore[assignment]


@dataclass
class Clock:
    """Stands still until it is told otherwise."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def worker(given_back: list[bool], clock: Clock) -> Iterator[socket.socket]:
    """The agent's end of a worker that runs in a thread."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    agent = Agent(theirs, Segment.create("test"), Segment.create("test"), clock)
    evaluator = Evaluator(Catalogue([Plain()]), Backends(tell=agent.note), reserve=agent.reserve, clock=clock)
    thread = threading.Thread(target=serve, args=[agent, evaluator, lambda: given_back.append(True)])
    thread.start()
    with theirs:
        with ours:
            yield ours
        thread.join(60)


def say(end: socket.socket, message: Message) -> Message:
    end.send(write_message(message))
    return read_message(end.recv(MAX_MESSAGE_BYTES))


SMALL = Job(FRAME, struct.pack("<4sIII", b"BSHK", 32, 1, 0))
# Digests of 65,536 bytes: much memory for little to send.
LARGE = Job(FRAME, struct.pack("<4sIII", b"BSHK", 65_536, 500, 0))
REPLY_BYTES = 12 + 500 * 65_536


def test_waiting_for_memory_is_no_part_of_what_a_call_cost_and_the_memory_is_given_back() -> None:
    given_back: list[bool] = []
    clock = Clock()
    with worker(given_back, clock) as end:
        assert isinstance(say(end, SMALL), Reply)
        assert given_back == []
        need = say(end, LARGE)
        assert isinstance(need, Need)
        assert need.size_bytes == 3 * (REPLY_BYTES + len(LARGE.payload)) - ALLOWANCE_BYTES
        clock.now += 100.0
        done = say(end, Grant())
        assert isinstance(done, Reply)
        assert done.shared_bytes == REPLY_BYTES
        assert done.computed.seconds == 0.0, "all of the time was spent waiting"
        assert isinstance(say(end, SMALL), Reply)
        assert given_back == [True]


def test_a_refusal_is_the_answer() -> None:
    with worker([], Clock()) as end:
        assert isinstance(say(end, LARGE), Need)
        refused = say(end, Grant("the models have it"))
        assert isinstance(refused, Reply)
        assert refused.computed.is_error
        assert b"the models have it" in refused.computed.reply

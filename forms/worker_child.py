"""The process that computes: takes one job after the other, gives its reply. What breaks here breaks nothing else.

Its agent starts it with a socket and two segments, and what they say is `worker_pipe`'s. It ends with its agent, also
in the midst of a call.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from forms.backends import Backends, KernelFailed
from forms.catalogue import Catalogue
from forms.circuits.calls import circuit_forms
from forms.computed import Computed
from forms.errors import Busy, DeviceFailed, WorkerLost
from forms.evaluate import Evaluator
from forms.installed import catalogue
from forms.segment import Segment
from forms.worker_pipe import (
    INLINE_BYTES,
    MAX_MESSAGE_BYTES,
    TEXT,
    Grant,
    Job,
    Lost,
    Message,
    Need,
    Note,
    Reply,
    read_message,
    write_message,
)

ALLOWANCE_BYTES = 64 << 20
"""What a call takes without asking: less than any host must have to spare, and small calls are the most."""

SLOWNESS = max(1.0, float(os.environ.get("MESHD_FORM_SLOWNESS", "1")))
"""For tests and demonstrations: hosts of unlike speed on one machine. Each call takes so many times as long."""


@dataclass(slots=True)
class Agent:
    """The agent, as this process sees it. requests, replies: the segments.  waited_s: for memory, by the last call."""

    socket: socket.socket
    requests: Segment
    replies: Segment
    clock: Callable[[], float] = time.perf_counter
    waited_s: float = 0.0
    _wanted_bytes: int = 0
    _granted_bytes: int = ALLOWANCE_BYTES

    @property
    def has_asked(self) -> bool:
        """Whether the last call took more than is taken without asking."""
        return self._granted_bytes > ALLOWANCE_BYTES

    def next_job(self) -> tuple[int, bytes] | None:
        """Kind and request of the next one; None when the agent has gone."""
        job = self._receive()
        if job is None:
            return None
        if not isinstance(job, Job):
            raise WorkerLost(f"expected a job, got {type(job).__name__}")
        self._wanted_bytes, self._granted_bytes, self.waited_s = 0, ALLOWANCE_BYTES, 0.0
        return job.kind, self.requests.read(job.shared_bytes) if job.shared_bytes else job.payload

    def answer(self, computed: Computed) -> None:
        length = len(computed.reply)
        if length <= INLINE_BYTES:
            self._send(Reply(computed))
        else:
            self.replies.write(computed.reply)
            self._send(Reply(replace(computed, reply=b""), length))

    def reserve(self, size_bytes: int) -> None:
        """Hold so much more for the call at hand. Raises Busy."""
        self._wanted_bytes += size_bytes
        missing = self._wanted_bytes - self._granted_bytes
        if missing <= 0:
            return
        begun = self.clock()
        self._send(Need(missing))
        grant = self._receive()
        self.waited_s += self.clock() - begun
        if not isinstance(grant, Grant):
            raise WorkerLost("the agent did not say whether there is memory")
        if grant.refusal:
            raise Busy(grant.refusal)
        self._granted_bytes += missing

    def note(self, line: str) -> None:
        self._send(Note(line))

    def lose(self, error: Exception) -> None:
        form = error.form if isinstance(error, KernelFailed) else ""
        self._send(Lost(f"{type(error).__name__}: {error}", form))

    def _send(self, message: Message) -> None:
        self.socket.send(write_message(message))

    def _receive(self) -> Message | None:
        message = self.socket.recv(MAX_MESSAGE_BYTES)
        return read_message(message) if message else None


def serve(agent: Agent, evaluator: Evaluator, give_back: Callable[[], None]) -> None:
    """Answer jobs until there are no more. give_back: what a large call's memory is let go with."""
    while (job := agent.next_job()) is not None:
        kind, request = job
        computed = slowed(evaluator.text if kind == TEXT else evaluator.frame, request)
        agent.answer(replace(computed, seconds=max(0.0, computed.seconds - agent.waited_s)))
        if agent.has_asked:
            give_back()


def slowed(evaluate: Callable[[bytes], Computed], request: bytes) -> Computed:
    """What `evaluate` gives, after SLOWNESS times as long."""
    begun = time.perf_counter()
    computed = evaluate(request)
    if SLOWNESS == 1:
        return computed  # a sleep of no time costs a fifth of the smallest calls
    time.sleep((SLOWNESS - 1) * (time.perf_counter() - begun))
    return replace(computed, seconds=SLOWNESS * computed.seconds)


def serve_cpu(agent: Agent, catalogue: Catalogue, limit_bytes: int) -> None:
    """Serve with this host's processor."""
    serve(agent, Evaluator(catalogue, Backends(tell=agent.note), limit_bytes, reserve=agent.reserve), lambda: None)


def serve_cuda(agent: Agent, catalogue: Catalogue, limit_bytes: int, ordinal: int, without: Collection[str]) -> None:
    """Serve with a GPU, or with the processor where this one cannot be used. Raises DeviceFailed for a broken launch.

    Of such a host the ledger has the GPUs' memory alone: its own is taken as it is.
    """
    try:
        from forms.cuda.cupy_device import CupyDevice

        device = CupyDevice(ordinal)
    except (DeviceFailed, ImportError) as error:
        # Its driver may be of another CUDA than CuPy: forms then take longer, where they would all fail.
        agent.note(f"this GPU cannot be used ({error}): until meshd is started again the processor computes its calls")
        serve(agent, Evaluator(catalogue, Backends(tell=agent.note), limit_bytes), lambda: None)
        return
    serve(
        agent, Evaluator(catalogue, Backends(device, agent.reserve, agent.note, without), limit_bytes), device.give_back
    )


def end_with(agent: socket.socket) -> None:
    """End this process as soon as the agent's end of the socket is closed, whatever is being computed."""
    poll = select.poll()
    poll.register(agent, 0)  # a hang-up is told unasked
    poll.poll()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--descriptors", type=int, nargs=3, metavar=("SOCKET", "REQUESTS", "REPLIES"), required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--blobs", type=Path, required=True)
    parser.add_argument("--limit-bytes", type=int, required=True)
    parser.add_argument("--without", nargs="*", default=(), help="forms whose kernels brought this device down")
    options = parser.parse_args()
    connected, requests, replies = options.descriptors
    agent = Agent(socket.socket(fileno=connected), Segment(requests), Segment(replies))
    threading.Thread(target=end_with, args=[agent.socket], name="end with the agent", daemon=True).start()
    try:
        forms = catalogue(options.blobs, circuit_forms(options.blobs))
        kind, _, ordinal = options.device.partition(":")
        if kind == "cuda":
            serve_cuda(agent, forms, options.limit_bytes, int(ordinal), options.without)
        else:
            serve_cpu(agent, forms, options.limit_bytes)
    except Exception as error:
        agent.lose(error)
        raise


if __name__ == "__main__":
    main()

"""What one request has met on its way to an answer, and what that means for the next try. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm.chat import ACCEPT_TIMEOUT_S
from llm.errors import HostSilent, NoHost, RequestFailed
from transport.interface import NodeId

RECOVERY_S = 2.5
"""How long a request looks for another host after its first failure. An engine's restart fits, and with
ACCEPT_TIMEOUT_S before it a dead host is reported within 5 s."""
SAME_NODE_PAUSE_S = 0.25
SHORTEST_ACCEPT_S = 0.5
ACCEPT_WITH_OTHERS_S = 1.0
"""Half of ACCEPT_TIMEOUT_S: where another host has the model, one that is slow today is not worth waiting for."""


@dataclass(slots=True)
class Tries:
    """Times are of one clock of the caller's. failed: may be asked again.  left_out: not again, and why.

    silent: of those left out, who may be asked again once there is nobody else.
    """

    failed: set[NodeId] = field(default_factory=set)
    left_out: dict[NodeId, str] = field(default_factory=dict)
    silent: set[NodeId] = field(default_factory=set)
    first_error: RequestFailed | None = None
    give_up_at: float = 0.0

    def note(self, node: NodeId, error: RequestFailed, now: float) -> None:
        """Remember what `node` did. Raises `error` when trying further makes no sense or the time is over."""
        if not error.retryable:
            raise error
        self._start_clock(error, now)
        # An engine that failed comes back by itself; a full queue or a stale offer stays for our short while.
        if isinstance(error, HostSilent):
            self.silent.add(node)
        if isinstance(error, HostSilent) or error.status < 500:
            self.left_out[node] = str(error)
        else:
            self.failed.add(node)
        if now >= self.give_up_at:
            raise error

    def wait_s(self, error: NoHost, now: float) -> float:
        """How long to wait for a host to come up. Raises the first error met when there is no hope or no time."""
        self._start_clock(error, now)
        first, left_s = self.first_error or error, self.give_up_at - now
        if left_s <= 0 or first.status < 500:
            raise first
        if self.silent and left_s > SAME_NODE_PAUSE_S + SHORTEST_ACCEPT_S:
            self._readmit()
            return SAME_NODE_PAUSE_S
        return left_s

    def accept_timeout_s(self, now: float, *, has_others: bool) -> float:
        """How long the next node may take to accept. has_others: there is one more that could be asked."""
        longest_s = ACCEPT_WITH_OTHERS_S if has_others else ACCEPT_TIMEOUT_S
        if self.first_error is None:
            return longest_s
        return min(longest_s, max(SHORTEST_ACCEPT_S, self.give_up_at - now))

    def _readmit(self) -> None:
        """Those who were silent may have stood still only for a while, and there is nobody else."""
        for node in self.silent:
            del self.left_out[node]
        self.silent.clear()

    def _start_clock(self, error: RequestFailed, now: float) -> None:
        if self.first_error is None:
            self.first_error, self.give_up_at = error, now + RECOVERY_S

"""With whom to compare notes, and when: soon where something is missed, later where gossip may yet do.

What an exchange says is `exchange`'s business. Who always has news, or always wants some, is held to an allowance,
so that one member cannot keep this node busy.
"""

from __future__ import annotations

from gossip.probe import Dice
from gossip.timing import Timing
from transport.budget import Allowance, PeerBudgets
from transport.interface import NodeId

RETRY_S = 2.0
"""An exchange that was not answered is tried again after this long."""

GREETING_S = 1.5
"""How long gossip has to introduce a newly connected peer before an exchange with it does."""

QUESTIONS = Allowance(in_flight=1, burst=8, per_second=0.5)
"""To one peer that has said something of which more must be pulled."""

ANSWERS = Allowance(in_flight=1, burst=16, per_second=2.0)
"""To one peer. A client asks once a second, a member every ten and where it missed something."""

OUTLINES = Allowance(in_flight=1, burst=32, per_second=8.0)
"""Of one peer, whose outline of facts is another than this node's: they are answered with one packet each."""

TOGETHER = Allowance(in_flight=1, burst=512, per_second=200.0)
"""To or of all peers: all of a mesh may have started at once."""


class Asking:
    """The questions under way and planned. A peer is asked again until it answers."""

    def __init__(self, timing: Timing, dice: Dice) -> None:
        self._timing = timing
        self._dice = dice
        self._due: dict[NodeId, float] = {}
        self._greetings: dict[NodeId, float] = {}
        self._questions = PeerBudgets(QUESTIONS, TOGETHER)
        self._answers = PeerBudgets(ANSWERS, TOGETHER)
        self._outlines = PeerBudgets(OUTLINES, TOGETHER)

    def __bool__(self) -> bool:
        """Whether anything is planned."""
        return bool(self._due or self._greetings)

    def deadlines(self) -> list[float]:
        """When something is due."""
        return [*self._due.values(), *self._greetings.values()]

    def at_once(self, peer: NodeId, now: float) -> None:
        """Ask `peer` now."""
        self._due[peer] = now

    def soon(self, peer: NodeId, now: float) -> None:
        """Ask `peer`, which knows more than it said, unless it is to be asked already."""
        if peer not in self._due:
            is_allowed = _take(self._questions, peer, now)
            self._due[peer] = now + (self._timing.gossip_s if is_allowed else RETRY_S)

    def greet(self, peer: NodeId, now: float) -> None:
        """Ask `peer`, which has just connected, if gossip has not introduced it by then.

        When many links come up together, after a start or a healed partition, gossip and the first exchange make
        most of the others needless.
        """
        self._greetings[peer] = now + GREETING_S * (0.2 + 0.8 * self._dice.random())

    def answered(self, peer: NodeId) -> None:
        """No need to ask again."""
        self._due.pop(peer, None)

    def take_questions(self, now: float) -> list[NodeId]:
        """Whom to ask now; each comes again until it has answered or is `answered` for being gone."""
        due = [peer for peer, at in self._due.items() if at <= now]
        for peer in due:
            self._due[peer] = now + RETRY_S
        return due

    def take_greetings(self, now: float) -> list[NodeId]:
        """Newly connected peers whose time to be introduced is over, but for those asked anyway."""
        due = [peer for peer, at in self._greetings.items() if at <= now]
        for peer in due:
            del self._greetings[peer]
        return [peer for peer in due if peer not in self._due]

    def may_answer(self, peer: NodeId, now: float) -> bool:
        """Whether `peer` has asked seldom enough to be told what it lacks."""
        return _take(self._answers, peer, now)

    def may_answer_outline(self, peer: NodeId, now: float) -> bool:
        """Whether outlines of `peer` have differed seldom enough to be answered."""
        return _take(self._outlines, peer, now)


def _take(budgets: PeerBudgets, peer: NodeId, now: float) -> bool:
    """Take one from `peer`'s allowance. Nothing stays in flight: what a message asks for is done when it is handled."""
    if not budgets.take(peer, now):
        return False
    budgets.give_back(peer)
    return True

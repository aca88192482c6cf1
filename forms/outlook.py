"""What this node knows of the places that its calls may go to: who has the form, is well, how far, how busy. Pure.

Of nodes of the mesh gossip says most; the rest is learnt from the calls that went there. Of foreign workers nothing is
known but that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from forms.backlog import Backlog
from forms.choice import Option, Shape, predict
from forms.cost import Cost, CostBook, Spent, scaled, slowness
from forms.forms_fact import FormsFact, cost_in, costs_in, read_forms
from forms.habits import HabitBook
from forms.health import HealthBook
from forms.places import HERE, Place, free_vram
from forms.ways import Carried, WayBook
from gossip.belief import Believe, believe_everybody
from gossip.view import NodeView, View
from transport.interface import Address

HEARD_S = 3.0
"""How long a queue counts that a reply spoke of; then what gossip says does."""
LACKING_S = 300.0
"""How long a place is believed not to have a form."""
ASKED_AGAIN_S = 30.0
NOTICED = 2.0
"""A place that takes so many times what it says is believed no more; less is noise."""
WARMTH = 0.2
FORGIVEN_S = 300.0


@dataclass(frozen=True, slots=True)
class Mine:
    """What this node knows of itself. cost: of the form in question.  costs: of all."""

    cost: Cost | None
    costs: Sequence[Cost]
    queue_s: float


@dataclass(slots=True)
class Outlook:
    """foreign: workers in no mesh.  believe: how far what a node says of its speed goes."""

    foreign: tuple[Address, ...] = ()
    health: HealthBook[Place] = field(default_factory=HealthBook)
    believe: Believe = believe_everybody
    _ways: WayBook[Place] = field(default_factory=WayBook)
    _habits: HabitBook[Place] = field(default_factory=HabitBook)
    _sent: dict[Place, Backlog] = field(default_factory=dict)
    _heard: dict[Place, tuple[float, float]] = field(default_factory=dict)
    _foreign_costs: dict[Place, CostBook] = field(default_factory=dict)
    _foreign_vram: dict[Place, int] = field(default_factory=dict)
    _stretches: dict[Place, tuple[float, float]] = field(default_factory=dict)
    _lacking: dict[tuple[Place, str], float] = field(default_factory=dict)
    _asked: dict[tuple[Place, str], float] = field(default_factory=dict)

    # Where a call may go

    def has_rivals(self, form: str, view: View, now: float) -> bool:
        """Whether a place other than this node may have anything to say about the form."""
        return bool(self._foreign(form, now)) or any(read_forms(one).costs for one in self._nodes(form, view, now))

    def options(self, shape: Shape, mine: Mine, view: View, now: float) -> list[Option[Place]]:
        """The places that have the form and did not fail lately, and whose cost can be said; this node first.

        Where all have failed lately, all of them, in turns.
        """
        habit = self._habits.factor(HERE, shape, now)
        here = Option(HERE, mine.cost, queue_s=mine.queue_s, vram_free_bytes=free_vram(view.me), stretch=habit)
        others = [self._node_option(shape, mine, entry, now) for entry in self._nodes(shape.form, view, now)]
        others += [self._foreign_option(shape, place, now) for place in self._foreign(shape.form, now)]
        found = {one.target: one for one in (here, *others) if one is not None}
        return [found[place] for place in self.health.usable(list(found), now)]

    def are_down(self, options: Sequence[Option[Place]], now: float) -> bool:
        """Whether all of them have failed lately."""
        return all(self.health.is_down(option.target, now) for option in options)

    def _nodes(self, form: str, view: View, now: float) -> list[NodeView]:
        able = [entry for entry in self._linked(view) if self.believe(entry.node) > 0]
        return [entry for entry in able if not self._lacks(Place(node=entry.node), form, now)]

    def _linked(self, view: View) -> list[NodeView]:
        return [entry for entry in view.nodes[1:] if entry.is_usable and entry.linked]

    def _foreign(self, form: str, now: float) -> list[Place]:
        places = [Place(address=address) for address in self.foreign]
        return [place for place in places if not self._lacks(place, form, now)]

    def _lacks(self, place: Place, form: str, now: float) -> bool:
        return now < self._lacking.get((place, form), float("-inf"))

    def _node_option(self, shape: Shape, mine: Mine, entry: NodeView, now: float) -> Option[Place] | None:
        place, fact = Place(node=entry.node), read_forms(entry)
        cost = _cost_there(shape, mine, fact)
        if cost is None:
            return None
        way = self._ways.way(place, shape, now, round_trip_s(entry))
        queue_s, stretch = self._queue_s(place, fact.queue_s, now), self._stretch(place, now)
        noticed = stretch if stretch > NOTICED else self._habits.factor(place, shape, now)
        believed = self.believe(entry.node)
        expected = cost if believed == 1.0 else scaled(cost, 1 / believed)
        return Option(place, expected, way, queue_s, not fact.is_warm, free_vram(entry), noticed)

    def _foreign_option(self, shape: Shape, place: Place, now: float) -> Option[Place] | None:
        cost = self._costs_of(place).cost(shape.form, is_text=shape.is_text)
        if cost is None:
            return None
        queue_s, vram = self._queue_s(place, 0.0, now), self._foreign_vram.get(place, 0)
        habit = self._habits.factor(place, shape, now)
        return Option(place, cost, queue_s=queue_s, vram_free_bytes=vram, stretch=habit)

    def _queue_s(self, place: Place, told_s: float, now: float) -> float:
        """What the place said last, or what we sent there, which gossip tells too late."""
        queue_s, at = self._heard.get(place, (0.0, float("-inf")))
        said_s = max(0.0, queue_s - (now - at)) if now - at < HEARD_S else told_s
        sent = self._sent.get(place)
        return max(said_s, sent.seconds(now) if sent is not None else 0.0)

    def _stretch(self, place: Place, now: float) -> float:
        stretch, at = self._stretches.get(place, (1.0, now))
        return stretch if now - at < FORGIVEN_S else 1.0

    def _costs_of(self, place: Place) -> CostBook:
        return self._foreign_costs.setdefault(place, CostBook())

    # What comes of a call

    def begun(self, place: Place, seconds: float, now: float) -> int:
        """A call goes there that should be computed in `seconds`; its number."""
        return self._sent.setdefault(place, Backlog()).add(seconds, now)

    def ended(self, place: Place, number: int, now: float) -> None:
        """The call is over, whatever came of it."""
        self._sent[place].remove(number, now)

    def answered(self, entry: NodeView, carried: Carried, queue_s: float, now: float) -> None:
        """A node has replied, and said how long the next call would wait."""
        place = Place(node=entry.node)
        self.health.note_ok(place, now)
        self._heard[place] = (queue_s, now)
        self._ways.learn(place, carried, now, round_trip_s(entry))

    def answered_foreign(self, place: Place, spent: Spent, now: float) -> None:
        """A foreign worker has replied; its carrying counts as its cost, its first call as a cold one."""
        self.health.note_ok(place, now)
        book = self._costs_of(place)
        is_first = not book.has_seen(spent.form, is_text=spent.is_text)
        book.note(replace(spent, is_cold=is_first))

    def took(self, option: Option[Place], shape: Shape, seconds: float, now: float) -> None:
        """A call took so long there, which was held against what the place says of itself."""
        said_s = predict(shape, replace(option, stretch=1.0))
        if said_s:
            ratio = min(1000.0, max(0.001, seconds / said_s))
            stretch = self._stretch(option.target, now) ** (1 - WARMTH) * ratio**WARMTH
            self._stretches[option.target] = max(1.0, stretch), now
            self._habits.learn(option.target, shape, ratio, now)

    def failed(self, place: Place, now: float) -> None:
        """It did not answer."""
        self.health.note_down(place, now)

    def lacks(self, place: Place, form: str, now: float) -> None:
        """It says that it has no such form."""
        self._lacking[place, form] = now + LACKING_S

    # What should be found out

    def unmeasured(self, view: View, now: float) -> list[NodeView]:
        """Nodes that do not say what their forms cost, and should be asked to find out; each once in a while."""
        silent = [entry for entry in self._linked(view) if not read_forms(entry).is_warm]
        return [entry for entry in silent if self._may_ask(Place(node=entry.node), "", now)]

    def unprobed(self, form: str, now: float) -> list[Place]:
        """Foreign workers of whose health nothing is known any more, or that were never seen to compute the form."""
        due = [place for place in self._foreign(form, now) if self._is_due(place, form, now)]
        return [place for place in due if self._may_ask(place, form, now)]

    def knows_cost(self, place: Place, form: str, *, is_text: bool) -> bool:
        """Whether a foreign worker was seen to compute such calls."""
        return self._costs_of(place).cost(form, is_text=is_text) is not None

    def said_well(self, place: Place, vram_bytes: int, now: float) -> None:
        """A foreign worker has said how it is."""
        self.health.note_ok(place, now)
        self._foreign_vram[place] = vram_bytes

    def _is_due(self, place: Place, form: str, now: float) -> bool:
        if self.health.is_down(place, now):
            return False
        is_known = any(self.knows_cost(place, form, is_text=is_text) for is_text in (False, True))
        return self.health.is_due(place, now) or not is_known

    def _may_ask(self, place: Place, form: str, now: float) -> bool:
        wait_s = ASKED_AGAIN_S if place.node is not None else 1.0
        if now - self._asked.get((place, form), float("-inf")) < wait_s:
            return False
        self._asked[place, form] = now
        return True


def round_trip_s(entry: NodeView) -> float | None:
    """Of the link with it."""
    return entry.rtt_ms / 1000 if entry.rtt_ms is not None else None


def _cost_there(shape: Shape, mine: Mine, fact: FormsFact) -> Cost | None:
    """What that node says of the form; else what it should be, by how fast it is at what both have measured."""
    told = cost_in(fact, shape.form, is_text=shape.is_text) or cost_in(fact, shape.form, is_text=not shape.is_text)
    if told is not None or mine.cost is None:
        return told
    factor = slowness(mine.costs, costs_in(fact))
    return scaled(mine.cost, factor) if factor is not None else None

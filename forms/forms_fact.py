"""What a node tells the mesh of its forms: the fact `forms`, and when a change of it is worth telling. Pure."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated

import msgspec

from forms.cost import Cost, Line
from forms.request import FormName
from gossip.message import MAX_FACT_BYTES
from gossip.view import NodeView
from transport.errors import ProtocolError
from transport.interface import NodeId
from transport.wire import Counter, ShortText, decode, encode

logger = logging.getLogger("meshd.forms")

FORMS_FACT = "forms"
MAX_COSTS = 256
WORTH_TELLING = 0.25
"""How much a part of a cost has to change before it is told again."""
LEAST_BASE_S = 0.5e-3
LEAST_QUEUE_S = 0.1

Time = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]


class FormCost(msgspec.Struct, frozen=True, array_like=True):
    """A `forms.cost.Cost`. error: in thousandths, 0 where it is not known."""

    form: FormName
    is_text: bool
    backend: ShortText
    base_s: Time
    per_work_s: Time
    cold_s: Time
    calls: Counter
    error: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class FormsFact(msgspec.Struct, frozen=True):
    """The fact `forms`. is_warm: its worker runs.  queue_s: about how long a call would wait."""

    costs: Annotated[tuple[FormCost, ...], msgspec.Meta(max_length=MAX_COSTS)]
    is_warm: bool
    queue_s: Time


NOTHING = FormsFact((), False, 0.0)


def fact_of(costs: Iterable[Cost], *, is_warm: bool, queue_s: float) -> FormsFact:
    """What to tell of `costs`; figures are cut to three digits, which is more than they are good for."""
    rows = tuple(_row(cost) for cost in costs)[:MAX_COSTS]
    return FormsFact(rows, is_warm, _three_digits(queue_s) if queue_s >= LEAST_QUEUE_S else 0.0)


def encode_fact(fact: FormsFact) -> bytes:
    """Its bytes."""
    return encode(fact)


def decode_fact(value: bytes, teller: NodeId) -> FormsFact:
    """What `teller` says. Raises ProtocolError."""
    return decode(value, FormsFact, peer=teller, max_bytes=MAX_FACT_BYTES)


def read_forms(node: NodeView) -> FormsFact:
    """What `node` says of its forms in a view; nothing where it says nothing, or nonsense."""
    value = node.facts.get(FORMS_FACT)
    return _decoded(value, node.node) if value is not None else NOTHING


def costs_in(fact: FormsFact) -> list[Cost]:
    """The costs as `forms.choice` takes them."""
    return [_cost(row) for row in fact.costs]


def cost_in(fact: FormsFact, form: str, *, is_text: bool) -> Cost | None:
    """That of one form."""
    return next((_cost(row) for row in fact.costs if row.form == form and row.is_text == is_text), None)


def is_worth_telling(told: FormsFact, now: FormsFact) -> bool:
    """Whether a form came or went, or what a call takes moved by more than a quarter. Queues count by doublings."""
    if told.is_warm != now.is_warm or _level(told.queue_s) != _level(now.queue_s):
        return True
    before = {(row.form, row.is_text, row.backend): row for row in told.costs}
    after = {(row.form, row.is_text, row.backend): row for row in now.costs}
    return before.keys() != after.keys() or any(_has_moved(before[key], after[key]) for key in before)


def _has_moved(before: FormCost, after: FormCost) -> bool:
    base = abs(after.base_s - before.base_s) > max(LEAST_BASE_S, WORTH_TELLING * before.base_s)
    slope = abs(after.per_work_s - before.per_work_s) > WORTH_TELLING * before.per_work_s
    cold = abs(after.cold_s - before.cold_s) > max(0.1, WORTH_TELLING * before.cold_s)
    return base or slope or cold


def _level(queue_s: float) -> int:
    return 0 if queue_s < LEAST_QUEUE_S else 1 + int(math.log2(queue_s / LEAST_QUEUE_S))


def _row(cost: Cost) -> FormCost:
    line = cost.line
    error = min(1 << 31, round((cost.error or 0.0) * 1000))
    base_s, per_work_s, cold_s = map(_three_digits, (line.base_s, line.per_work_s, cost.cold_s))
    return FormCost(cost.form, cost.is_text, cost.backend, base_s, per_work_s, cold_s, cost.calls, error)


def _cost(row: FormCost) -> Cost:
    line = Line(row.base_s, row.per_work_s)
    return Cost(row.form, row.is_text, row.backend, line, row.cold_s, row.calls, row.error / 1000 or None)


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


@lru_cache(maxsize=1024)
def _decoded(value: bytes, node: NodeId) -> FormsFact:
    # Cached: a view is read at every call, and a node's fact seldom changes. So is the warning.
    try:
        return decode_fact(value, node)
    except ProtocolError as error:
        logger.warning("ignoring a malformed forms fact: %s", error)
        return NOTHING

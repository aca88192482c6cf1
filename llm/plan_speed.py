"""How fast a split model answers, from how fast it is alone and how far its hosts are apart. Pure.

    time per token = C + k · Σ RTT + (S − 1) · P        S stages: the host and S − 1 workers

C is the time alone, measured or estimated; Σ RTT runs over the workers; k is how many round trips a stage costs for
each token, and P what a stage costs without any distance. k and P are fitted to points that were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement. alone_ms: time per token alone, or on the same stages without distance.

    what: for a person.  has_draft: a draft model proposed tokens, so that one pass made several.
    """

    what: str
    stages: int
    rtt_ms: float
    alone_ms: float
    token_ms: float
    has_draft: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """round_trips: k, with the least and the most that any single point gives.  stage_ms: P."""

    round_trips: float
    least: float
    most: float
    stage_ms: float

    def token_ms(self, alone_ms: float, rtts_ms: Sequence[float], round_trips: float | None = None) -> float:
        """Time per token with a worker at each of `rtts_ms`. round_trips: another k than the fitted one."""
        k = self.round_trips if round_trips is None else round_trips
        return alone_ms + k * sum(rtts_ms) + len(rtts_ms) * self.stage_ms


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second: what is likely, and the interval that it should fall into."""

    low: float
    likely: float
    high: float


class NothingToFit(Exception):
    """No point has both distance and more than one stage."""


def fit(points: Sequence[Point]) -> Fit:
    """Least squares of k and P over relative errors, so that slow points count no more than fast ones.

    P is taken as 0 where no point without distance tells it from C. Raises NothingToFit.
    """
    far = [point for point in points if point.stages > 1 and point.rtt_ms > 0]
    near = [point for point in points if point.stages > 1 and point.rtt_ms == 0]
    if not far:
        raise NothingToFit("expected points of splits with some distance between the stages")
    rows = [_row(point) for point in (*far, *near)]
    k, stage_ms = _two_unknowns(rows) if near else (_one_unknown(rows), 0.0)
    singles = [_round_trips(point, stage_ms) for point in far]
    return Fit(k, min(singles), max(singles), stage_ms)


def _row(point: Point) -> tuple[float, float, float]:
    """Coefficients of k and of P, and the extra time, each as a share of the whole time."""
    hops = point.stages - 1
    return hops * point.rtt_ms / point.token_ms, hops / point.token_ms, 1 - point.alone_ms / point.token_ms


def _one_unknown(rows: Sequence[tuple[float, float, float]]) -> float:
    return sum(a * y for a, _, y in rows) / sum(a * a for a, _, y in rows)


def _two_unknowns(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    aa, ab, bb = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    ay, by = (sum(row[i] * row[2] for row in rows) for i in (0, 1))
    determinant = aa * bb - ab * ab
    if determinant <= 0:
        return _one_unknown(rows), 0.0
    k, stage_ms = (ay * bb - by * ab) / determinant, (by * aa - ay * ab) / determinant
    # A stage that saves time is noise.
    return (k, stage_ms) if stage_ms >= 0 else (_one_unknown(rows), 0.0)


def _round_trips(point: Point, stage_ms: float) -> float:
    hops = point.stages - 1
    return (point.token_ms - point.alone_ms - hops * stage_ms) / (hops * point.rtt_ms)


def predict(fitted: Fit, alone: Speed, rtts_ms: Sequence[float]) -> Speed:
    """Speed with workers at `rtts_ms`. alone: how fast it is without them, with its own uncertainty.

    At best a stage costs nothing but its distance: P was measured with every stage on the same two cores.
    """
    fast, likely, slow = (1000 / speed for speed in (alone.high, alone.likely, alone.low))
    return Speed(
        low=1000 / fitted.token_ms(slow, rtts_ms, fitted.most),
        likely=1000 / fitted.token_ms(likely, rtts_ms),
        high=1000 / (fast + fitted.least * sum(rtts_ms)),
    )

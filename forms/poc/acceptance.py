"""How likely a distance falls below a threshold, and back, in closed form; and binomial tails. Pure.

The outputs' directions spread evenly over the sphere, so that P(r) is half a regularised incomplete beta function: its
continued fraction by Lentz's method (Press et al., Numerical Recipes, §6.4) reaches doubles' accuracy.
"""

from __future__ import annotations

import math

MOST_TERMS = 300
_SMALLEST = 1e-300
_ACCURACY = 1e-15


def acceptance(threshold: float, outputs: int) -> float:
    """P(r): the share of nonces whose distance to the target is below `threshold`."""
    cosine = 1 - threshold**2 / 2
    half = incomplete_beta((outputs - 1) / 2, 0.5, max(0.0, 1 - cosine**2)) / 2
    return half if cosine >= 0 else 1 - half


def threshold_for(share: float, outputs: int) -> float:
    """The threshold below which `share` of the distances fall. ValueError unless 0 < share < 1."""
    if not 0 < share < 1:
        raise ValueError(f"a share between 0 and 1 was expected, got {share}")
    low, high = 0.0, 2.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if acceptance(middle, outputs) < share else (low, middle)
    return (low + high) / 2


def binomial_tail(least: int, trials: int, share: float) -> float:
    """The chance of `least` or more successes in `trials`."""
    if least <= 0:
        return 1.0
    return incomplete_beta(least, trials - least + 1, share) if least <= trials else 0.0


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), the regularised one."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below
        return 1 - incomplete_beta(b, a, 1 - x)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    value = numerator = 1.0
    denominator = 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = denominator
    for m in range(1, MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            denominator = 1 / _away_from_zero(1 + term * denominator)
            numerator = _away_from_zero(1 + term / numerator)
            value *= denominator * numerator
        if abs(denominator * numerator - 1) < _ACCURACY:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _SMALLEST else _SMALLEST

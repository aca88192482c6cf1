"""7: the chances are right, and cheats of every size are found as often as the design says."""

from __future__ import annotations

import numpy
import pytest

from forms.poc.acceptance import acceptance, binomial_tail, incomplete_beta, threshold_for
from forms.poc.claim import sample
from forms.poc.seeds import derive
from forms.poc.verdict import HARD, SOFT, judge

# (least, trials, share, chance), by scipy.stats.binom.sf of SciPy 1.17.1.
TAILS = [
    (1, 16, 0.0005, 0.007970069886386376),
    (5, 16, 0.0005, 1.3587571386699277e-13),
    (3, 16, 0.001, 5.545661280913301e-07),
    (3, 16, 0.05, 0.04293785348577261),
    (5, 16, 0.2, 0.20175455823462418),
    (20, 64, 0.0005, 1.8322788190105303e-50),
    (1, 64, 0.001, 0.062025036174154446),
    (3, 64, 0.001, 3.9802878554379104e-05),
    (3, 64, 0.05, 0.626525672616233),
    (20, 64, 0.2, 0.022153579259736673),
    (5, 200, 0.0005, 7.306115882423385e-08),
    (5, 200, 0.001, 2.1560164186571525e-06),
    (20, 200, 0.05, 0.0026645795498294433),
    (20, 200, 0.2, 0.9999549664227169),
    (1, 2000, 0.0005, 0.6322125478540296),
    (5, 2000, 0.001, 0.0525627487022936),
    (20, 2000, 0.001, 5.964728803506602e-14),
    (20, 2000, 0.2, 1.0),
]
# (r, outputs, P), by scipy.special.betainc of the same.
SHARES = [
    (1.2, 256, 2.5776402763500377e-06),
    (1.3, 256, 0.006427173637039604),
    (1.4, 256, 0.3748278615748338),
    (1.45, 256, 0.7933592972353236),
    (1.2, 1024, 3.2161319560915524e-20),
    (1.35, 1024, 0.002230826311744613),
    (1.45, 1024, 0.9494845457849084),
    (1.35, 8196, 4.1448916797817736e-16),
    (1.4, 8196, 0.03509747386731984),
    (1.3971164020989417, 8196, 0.014783),
]


@pytest.mark.parametrize(("least", "trials", "share", "chance"), TAILS)
def test_binomial_tails_are_scipys(least: int, trials: int, share: float, chance: float) -> None:
    assert binomial_tail(least, trials, share) == pytest.approx(chance, rel=1e-9, abs=1e-300)


def test_tails_at_the_edges() -> None:
    assert (binomial_tail(0, 5, 0.1), binomial_tail(6, 5, 0.1)) == (1.0, 0.0)
    assert (incomplete_beta(2, 3, 0.0), incomplete_beta(2, 3, 1.0)) == (0.0, 1.0)


@pytest.mark.parametrize(("r", "outputs", "share"), SHARES)
def test_shares_are_scipys_and_the_recorded_one(r: float, outputs: int, share: float) -> None:
    assert acceptance(r, outputs) == pytest.approx(share, rel=1e-4 if outputs == 8196 and share == 0.014783 else 1e-8)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5, 0.9])
def test_the_threshold_is_the_shares_inverse(share: float) -> None:
    assert acceptance(threshold_for(share, 1024), 1024) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize(
    ("bad", "soft_rule", "hard_rule"), [(0.0, 0, 0), (0.05, 0.63, 0.96), (0.1, 0.96, 0.999), (0.2, 1, 1)]
)
def test_two_thousand_provers_are_found_out_as_often_as_they_should(
    bad: float, soft_rule: float, hard_rule: float
) -> None:
    provers, samples = 2000, 64
    is_bad = numpy.random.default_rng(8).random((provers, samples)) < bad
    for error, expected in ((2 * SOFT, soft_rule), (2 * HARD, hard_rule)):
        caught = sum(not judge(numpy.where(row, error, 0.0)).is_honest for row in is_bad) / provers
        assert caught == pytest.approx(
            expected, abs=0.005 + 4 * (max(expected * (1 - expected), 1e-4) / provers) ** 0.5
        )


def test_samples_are_distinct_and_hang_on_root_and_secret() -> None:
    root, secret = derive("root"), derive("secret")
    drawn = sample(root, secret, 400, 64)
    assert len(set(drawn)) == 64
    assert set(drawn) <= set(range(400))
    assert sorted(sample(root, secret, 40, 64)) == list(range(40))
    assert drawn != sample(root, derive("another"), 400, 64)
    assert drawn != sample(derive("another"), secret, 400, 64)


def test_every_entry_is_drawn_as_often_as_any_other() -> None:
    counts = numpy.zeros(20)
    for number in range(1000):
        counts[sample(b"root", number.to_bytes(4, "big"), 20, 5)] += 1
    assert abs(counts - 250).max() < 5 * (1000 * 0.25 * 0.75) ** 0.5

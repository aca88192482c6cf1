"""An epoch's network, ready to compute: a nonce's distance and artefact. Pure, but large."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Self

import numpy

from forms.poc.arithmetic import FP32, Arithmetic
from forms.poc.exact import (
    exact_artefacts,
    exact_distances,
    make_exact_target,
    make_matrices,
    run_exact,
)
from forms.poc.inputs import make_inputs, make_permutations, make_target
from forms.poc.network import run_network
from forms.poc.philox import Array
from forms.poc.profile import ARTEFACT_COORDINATES, Profile
from forms.poc.weights import Weights, make_weights


@dataclass(frozen=True, slots=True)
class Results:
    """On the host, in the order asked for. distances: float32.  artefacts: (nonces, 16) float16."""

    nonces: Array
    distances: Array
    artefacts: Array


@dataclass(frozen=True, slots=True)
class Computer:
    """context: positions that are computed, fewer only for a cheat that has to be caught.

    exact: the matrices of `x1`, which has no other weights.
    """

    profile: Profile
    weights: Weights
    target: Array
    arithmetic: Arithmetic = FP32
    xp: ModuleType = numpy
    context: int = 0
    exact: tuple[Array, ...] = ()

    @classmethod
    def prepare(cls, profile: Profile, seed: bytes, arithmetic: Arithmetic = FP32, xp: ModuleType = numpy) -> Self:
        """Make an epoch's weights and target; once for all who are computed in it."""
        if profile.is_exact:
            matrices, none = make_matrices(profile, seed, xp), Weights((), xp.empty((0, 0), dtype=xp.float32))
            return cls(profile, none, make_exact_target(profile, seed), arithmetic, xp, exact=matrices)
        return cls(profile, make_weights(profile, seed, xp), make_target(profile, seed, xp), arithmetic, xp)

    def compute(self, key: int, nonces: Array) -> Results:
        """The results of `nonces`, uint64, as one batch under a prover's input key."""
        if self.profile.is_exact:
            return self._compute_exactly(key, nonces)
        xp, profile = self.xp, self.profile
        inputs = make_inputs(profile, key, nonces, xp)[:, -(self.context or profile.sequence) :]
        outputs = run_network(profile, self.weights, inputs, self.arithmetic, xp).astype(xp.float64)
        shuffled = xp.take_along_axis(outputs, make_permutations(profile, key, nonces, xp), axis=1)
        shuffled = shuffled / xp.sqrt((shuffled**2).sum(axis=1, keepdims=True))
        distances = xp.sqrt(((shuffled - self.target) ** 2).sum(axis=1))
        artefacts = shuffled[:, :ARTEFACT_COORDINATES] * float(profile.outputs) ** 0.5
        return Results(nonces, _on_host(distances).astype("float32"), _on_host(artefacts).astype("float16"))

    def _compute_exactly(self, key: int, nonces: Array) -> Results:
        outputs = run_exact(self.profile, self.exact, key, nonces, self.xp)
        order = make_permutations(self.profile, key, nonces, self.xp)
        shuffled = _on_host(self.xp.take_along_axis(outputs, order, axis=1)).astype(numpy.float64)
        distances, artefacts = exact_distances(shuffled, self.target), exact_artefacts(shuffled)
        return Results(nonces, distances.astype("float32"), artefacts.astype("float16"))


def _on_host(values: Array) -> Array:
    """CuPy's arrays know how to come home; NumPy's are there."""
    fetch = getattr(values, "get", None)
    return numpy.asarray(fetch() if fetch is not None else values)

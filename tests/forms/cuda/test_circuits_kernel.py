"""The circuits' kernel: every kind, conditions within conditions, both sources of words, partial last batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from forms.backend import HasKernel, HasSample
from forms.circuits.calls import SimAxis, SimOpsBin
from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.folder import CircuitCall, CircuitFolder
from forms.circuits.generator.generate import Arithmetic, algorithms, generate
from forms.circuits.kinds import Kind, Operation
from forms.circuits.simulation import Options
from forms.circuits.toy_checks import CHECKS
from forms.circuits.xof import RngMode
from forms.cuda.device import Device
from tests.forms.circuits.files import golden_bytes, loaded, random_operations
from tests.forms.cuda.kernel_suite import KernelCases, KernelSuite

pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")


def _deep(depth: int) -> Circuit:
    """Conditions on top of one another, more than a block's shared memory holds, each on a random bit."""
    bits = [Operation(Kind.HMR, q_target=0, c_target=bit) for bit in range(4)]
    push = [Operation(Kind.PUSH_CONDITION, c_condition=step % 4) for step in range(depth)]
    flip = [Operation(Kind.CX, q_control1=0, q_target=1), Operation(Kind.X, q_target=2)]
    return loaded(*bits, *push, *flip, *[Operation(Kind.POP_CONDITION)] * (depth - 2), *flip)


def _reused() -> Circuit:
    """Bits whose row was another's, which was random: one is read before it is written, one is stored in some lanes."""

    def read(bit: int) -> Operation:
        return Operation(Kind.NEG, c_condition=bit)

    measured = [Operation(Kind.HMR, q_target=0, c_target=bit) for bit in range(3)]
    stored = Operation(Kind.BIT_STORE1, c_target=4, c_condition=1)
    return loaded(measured[0], read(0), read(3), *measured[1:], read(2), stored, read(4))


CIRCUITS = {
    "reused": _reused(),
    **{name: load_circuit(golden_bytes(f"toy_{name}.bin")) for name in ("random", "mbu", "norand")},
    **{f"dice-{seed}": loaded(*random_operations(seed)) for seed in range(4)},
    **{
        algorithm.name_of(Arithmetic.MODULAR_MULTIPLIER): load_circuit(
            generate(Arithmetic.MODULAR_MULTIPLIER, 5, algorithm)
        )
        for algorithm in algorithms(Arithmetic.MODULAR_MULTIPLIER)
    },
    "empty": loaded(),
    "wide": loaded(*[Operation(Kind.X, q_target=qubit) for qubit in range(7000)]),
    "deep": _deep(7000),
}
MULTIPLIERS = tuple(
    algorithm.name_of(Arithmetic.MODULAR_MULTIPLIER) for algorithm in algorithms(Arithmetic.MODULAR_MULTIPLIER)
)


class Held(CircuitFolder):
    """Circuits that are there without files."""

    def load(self, path: Path) -> Circuit:
        return CIRCUITS[path.name] if path.name in CIRCUITS else super().load(path)


def call(
    *names: str, attempts: int, rng: RngMode = RngMode.SHAKE, check: str = "none", digests: bool = True
) -> CircuitCall:
    options = Options(attempts, rng, CHECKS[check], digests=digests)
    return CircuitCall(tuple(Path(name) for name in names), options)


class CircuitCases(KernelCases):
    """What is compared is every batch: counters, phase, verdict and the digests of the final state."""

    def agrees(self, device: Device) -> None:
        assert isinstance(self.form, HasKernel)
        for number, shape in enumerate(self.shapes):
            ran, wanted = self.form.kernel.run(device, shape), self.form.reference(shape)
            pairs = zip(ran, wanted, strict=True) if isinstance(wanted, list) else [(ran, wanted)]
            for variant, (one, other) in enumerate(pairs):
                assert one.batches == other.batches, f"shape {number}, variant {variant}"
                assert (one.shots, one.toffoli, one.clifford) == (other.shots, other.toffoli, other.clifford)
                assert one.backend == "cuda"


class OpsBinCases(CircuitCases):
    form = SimOpsBin(Held(None))
    shapes = (
        call("random", attempts=0),
        call("empty", attempts=64),
        call("random", attempts=1, check="secp256k1"),
        call("mbu", attempts=70, check="secp256k1", digests=False),
        call("norand", attempts=200, check="secp256k1"),
        *[call(f"dice-{seed}", attempts=300 + seed, digests=seed % 2 == 0) for seed in range(2)],
        *[call(name, attempts=190, rng=RngMode.LFSR) for name in ("random", "dice-1")],
        # More than one batch a block, the last block not full.
        call("dice-2", attempts=64 * 1301),
        call("wide", attempts=64 * 300),
        call("deep", attempts=100),
        call("reused", attempts=100, digests=False),
    )


class AxisCases(CircuitCases):
    form = SimAxis(Held(None))
    shapes = (
        call(*MULTIPLIERS, attempts=4, check="modular-multiplier"),
        call(*MULTIPLIERS, *MULTIPLIERS[:1], attempts=130, check="modular-multiplier", digests=False),
        call(*[f"dice-{seed % 4}" for seed in range(70)], attempts=256, rng=RngMode.LFSR),
        call("wide", "empty", "dice-3", "deep", attempts=65),
    )


@pytest.mark.parametrize("form", [OpsBinCases.form, AxisCases.form], ids=lambda form: form.name)
def test_the_sample_is_clean_and_acts_in_some_lanes_only(form: SimOpsBin | SimAxis) -> None:
    assert isinstance(form, HasSample)
    answer = form.reference(form.sample(11))
    results = answer if isinstance(answer, list) else [answer]
    assert all(result.clean for result in results)
    assert any(result.clifford % 64 for result in results)


class TestOpsBinKernel(OpsBinCases, KernelSuite):
    pass


class TestAxisKernel(AxisCases, KernelSuite):
    pass

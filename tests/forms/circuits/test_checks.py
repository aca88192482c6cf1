"""Inputs and answers of the secp256k1 check, as the public evaluator draws and computes them; and lanes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from forms.circuits.checks import SECP256K1_CHECK
from forms.circuits.circuit import load_circuit
from forms.circuits.curve import SECP256K1, SECP256K1_ORDER
from forms.circuits.lanes import from_lane, live_mask, to_lanes
from forms.circuits.sponge import open_sponge
from forms.circuits.xof import Stream
from tests.forms.circuits.files import golden, golden_bytes


class Scripted(Stream):
    """A stream that gives these scalars, and then what any circuit's would."""

    def __init__(self, *scalars: int) -> None:
        super().__init__(open_sponge().squeezed())
        self._script = b"".join(scalar.to_bytes(32, "little") for scalar in scalars)

    def take(self, length: int) -> bytes:
        taken, self._script = self._script[:length], self._script[length:]
        return taken


@pytest.mark.parametrize("name", ["random", "mbu", "norand"])
def test_inputs_are_the_evaluators(name: str) -> None:
    wanted = golden("toys.golden.json")[name]
    circuit = load_circuit(golden_bytes(f"toy_{name}.bin"))
    assert circuit.seed.stream().take(256).hex() == wanted["xof_first_256_bytes"]
    stream = circuit.seed.stream()
    cases = SECP256K1_CHECK.cases(circuit, stream, 9024)
    assert (cases.shots, stream.position) == (9024, wanted["xof_bytes_after_inputs"])
    for shot, inputs in enumerate(wanted["inputs"]):
        loads = [from_lane(cases.loads[register][shot // 64], shot % 64) for register in range(4)]
        answers = [from_lane(cases.expected[register][shot // 64], shot % 64) for register in range(2)]
        assert loads == [int(inputs[key], 16) for key in ("tx", "ty", "ox", "oy")]
        assert answers == [int(inputs[key], 16) for key in ("rx", "ry")]


def test_attempts_without_a_general_sum_fall_away() -> None:
    circuit = load_circuit(golden_bytes("toy_norand.bin"))
    n = SECP256K1_ORDER
    # Equal, opposite, either one infinite, both; the last attempt is a plain one and becomes shot 0.
    stream = Scripted(5, 5, 5, n - 5, 0, 3, 3, n, 0, n, 1, 2)
    cases = SECP256K1_CHECK.cases(circuit, stream, 6)
    assert cases.shots == 1
    assert from_lane(cases.loads[0][0], 0) == SECP256K1.base[0]


def test_lanes_and_back() -> None:
    dice = random.Random(3)
    values = [dice.getrandbits(11) for _ in range(130)]
    words = to_lanes(values, 11)
    assert words.shape == (3, 11)
    assert [from_lane(words[shot // 64], shot % 64) for shot in range(130)] == values
    assert not (words[2] & np.uint64(2**64 - 4)).any()
    assert [live_mask(130, batch).bit_count() for batch in range(3)] == [64, 64, 2]

"""What a circuit is fed and what it should answer: running one is one thing, judging it another, by several judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forms.circuits.circuit import Circuit
from forms.circuits.curve import SECP256K1, SECP256K1_ORDER, Point
from forms.circuits.failures import BadCircuit
from forms.circuits.lanes import to_lanes
from forms.circuits.xof import Stream

_SCALAR_BYTES = 32


@dataclass(frozen=True, slots=True)
class Cases:
    """All shots of a run. loads, expected: register -> (batches, width) words, one a wire with shot s in bit s."""

    shots: int
    loads: Mapping[int, NDArray[np.uint64]]
    expected: Mapping[int, NDArray[np.uint64]]


class Check(Protocol):
    """A judge of circuits."""

    def require(self, circuit: Circuit) -> None:
        """Raise BadCircuit when the registers are not those that this check feeds and reads."""

    def cases(self, circuit: Circuit, stream: Stream, attempts: int) -> Cases:
        """Draw the inputs of `attempts` shots from `stream`, some of which may fall away, and compute the answers."""


@dataclass(frozen=True, slots=True)
class NoCheck:
    """Any circuit, started from zeros; only the phase and the ancillas are looked at."""

    def require(self, circuit: Circuit) -> None:
        """Accept every layout."""

    def cases(self, circuit: Circuit, stream: Stream, attempts: int) -> Cases:
        """Take nothing from the stream."""
        return Cases(attempts, {}, {})


@dataclass(frozen=True, slots=True)
class Secp256k1Check:
    """The public evaluator's: add two random points of secp256k1, the first in qubits 0 and 1, the second in bits."""

    def require(self, circuit: Circuit) -> None:
        """Ask for four registers of 256, two of qubits and two of bits; count, widths, types in this order."""
        registers = circuit.registers
        if len(registers) != 4:
            raise BadCircuit(f"expected 4 registers, got {len(registers)}")
        for index, register in enumerate(registers):
            if register.width != 256:
                raise BadCircuit(f"register {index} should be 256 wide, got {register.width}")
        for index, register in enumerate(registers):
            wanted = "qubits" if index < 2 else "bits"
            if (register.is_bit != (index >= 2)).any():
                raise BadCircuit(f"register {index} must be {wanted}")

    def cases(self, circuit: Circuit, stream: Stream, attempts: int) -> Cases:
        """Two scalars of 256 bits an attempt; points with one x, or at infinity, fall away without replacement."""
        drawn = stream.take(2 * _SCALAR_BYTES * attempts)
        scalars = [
            int.from_bytes(drawn[start : start + _SCALAR_BYTES], "little")
            for start in range(0, len(drawn), _SCALAR_BYTES)
        ]
        points = _multiples(scalars)
        pairs = [(t, o) for t, o in zip(points[::2], points[1::2], strict=True) if _is_general(t, o)]
        sums = SECP256K1.add([t for t, _ in pairs], [o for _, o in pairs])
        loads = [*_coordinates([t for t, _ in pairs]), *_coordinates([o for _, o in pairs])]
        return Cases(len(pairs), dict(enumerate(loads)), dict(enumerate(_coordinates(sums))))


SECP256K1_CHECK = Secp256k1Check()


def _multiples(scalars: list[int]) -> list[Point]:
    """Multiply secp256k1's base point: by libsecp256k1 where it is installed, which takes a fifth of the time."""
    try:
        from coincurve import PublicKey
    except ImportError:
        return SECP256K1.multiples(scalars)
    reduced = (scalar % SECP256K1_ORDER for scalar in scalars)
    # The library knows no point at infinity.
    return [PublicKey.from_secret(scalar.to_bytes(32, "big")).point() if scalar else None for scalar in reduced]


def _is_general(target: Point, offset: Point) -> bool:
    return target is not None and offset is not None and target[0] != offset[0]


def _coordinates(points: list[Point]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    pairs = [point or (0, 0) for point in points]
    return to_lanes([x for x, _ in pairs], 256), to_lanes([y for _, y in pairs], 256)

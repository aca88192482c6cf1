"""What a call of `cuda-bignum-cgbn` asks: nine operations, numbers of one width, one modulus. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from forms.live.numbers import Numbers


class Operation(IntEnum):
    """As frames number them. The first three wrap at the width; MUL keeps the low half."""

    ADD = 0
    SUB = 1
    MUL = 2
    MOD_ADD = 3
    MOD_SUB = 4
    MOD_MUL = 5
    MOD_SQR = 6
    MOD_POW = 7
    MOD_INV = 8

    @property
    def word(self) -> str:
        return self.name.lower().replace("_", "-")


UNARY = (Operation.MOD_SQR, Operation.MOD_INV)


@dataclass(frozen=True, slots=True)
class BignumCall:
    """bits: width of every number.  b: as many as a; not looked at by unary operations."""

    operation: Operation
    bits: int
    modulus: int
    a: Numbers
    b: Numbers

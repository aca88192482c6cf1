"""`cuda-secp256k1-batched-mul`: many scalars times one point of secp256k1. Truth: coincurve (extra `cpu-forms`)."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING

from forms.arguments import check_reply, expect_count, read_list, read_number, shown
from forms.datum import Datum, Symbol, unquoted
from forms.errors import BadArgument, FormFailed
from forms.frame import Body, HeadMeasure
from forms.live.numbers import Numbers
from forms.live.points import GENERATOR, ORDER, POINT_BYTES, PRIME, SCALAR_BYTES, Point, PointCall, Points

if TYPE_CHECKING:
    from forms.live.secp256k1_kernel import Secp256k1Kernel

HEAD = struct.Struct("<4sI")
REPLY_HEAD = struct.Struct("<4sI")


class Secp256k1BatchedMul:
    """Frame: `BSCP`, u32 n, base x‖y (zeros: the generator), n scalars of 32 bytes."""

    name = "cuda-secp256k1-batched-mul"
    magic = b"BSCP"
    reply_magic = b"BSCR"

    def read_text(self, arguments: list[Datum]) -> PointCall:
        expect_count(self.name, arguments, 1, 2)
        scalars = [read_number(item, "scalar", 4096) for item in read_list(arguments[0], "scalars in hex")]
        base = _read_point(arguments[1]) if len(arguments) == 2 else GENERATOR
        return PointCall(Numbers.of([scalar % ORDER for scalar in scalars], SCALAR_BYTES), base)

    def write_text(self, result: Points) -> Datum:
        return [[] if point is None else [format(point[0], "064x"), format(point[1], "064x")] for point in result]

    def measure(self, limit_bytes: int) -> HeadMeasure:
        def body(fields: tuple[int, ...]) -> Body:
            (count,) = fields
            check_reply(REPLY_HEAD.size + count * POINT_BYTES, limit_bytes)
            return Body(length=POINT_BYTES + count * SCALAR_BYTES)

        return HeadMeasure(HEAD, body, limit_bytes)

    def read_frame(self, frame: bytes) -> PointCall:
        _, count = HEAD.unpack_from(frame)
        end = HEAD.size + POINT_BYTES
        x, y = Numbers(frame[HEAD.size : end], SCALAR_BYTES)
        base = GENERATOR if x == y == 0 else _checked(x, y)
        return PointCall(Numbers(memoryview(frame)[end : end + count * SCALAR_BYTES], SCALAR_BYTES), base)

    def write_frame(self, result: Points) -> bytes:
        return REPLY_HEAD.pack(self.reply_magic, len(result)) + result.data

    def reply_bytes(self, call: PointCall) -> int:
        return REPLY_HEAD.size + len(call.scalars) * POINT_BYTES

    def work(self, call: PointCall) -> float:
        """Multiplications of a point."""
        return float(len(call.scalars))

    def reference(self, call: PointCall) -> Points:
        try:
            from coincurve import PublicKey
        except ImportError as error:
            raise FormFailed("the package coincurve is not installed: install meshd with cpu-forms") from error
        if call.base is None:
            return Points(bytes(len(call.scalars) * POINT_BYTES))
        base = PublicKey.from_point(*call.base)
        scalars = (scalar % ORDER for scalar in call.scalars)
        return Points.of(
            base.multiply(scalar.to_bytes(SCALAR_BYTES, "big")).point() if scalar else None for scalar in scalars
        )

    def fast(self, call: PointCall) -> Points:
        """On all cores, the generator by its own table. Raises ImportError without coincurve."""
        from forms.live.secp256k1_fast import multiply_points

        return multiply_points(call)

    def sample(self, rows: int) -> PointCall:
        """The generator by scalars up from 0, and by such as make up to 0 with those modulo the order."""
        scalars = [row if row % 2 == 0 else ORDER - row // 2 for row in range(rows)]
        return PointCall(Numbers.of(scalars, SCALAR_BYTES), GENERATOR)

    @cached_property
    def kernel(self) -> Secp256k1Kernel:
        from forms.live.secp256k1_kernel import Secp256k1Kernel  # numpy: 20 MB that a door need not hold

        return Secp256k1Kernel()


def _read_point(datum: Datum) -> Point:
    """`"g"`, `("x" "y")` or `()`. Raises BadArgument."""
    match unquoted(datum):
        case str() as word if not isinstance(word, Symbol) and word in ("g", "G"):
            return GENERATOR
        case []:
            return None
        case [x, y]:
            return _checked(read_number(x, "x", 256), read_number(y, "y", 256))
    raise BadArgument(f'base: expected "g", ("x" "y") or (), got {shown(datum)}')


def _checked(x: int, y: int) -> tuple[int, int]:
    if x >= PRIME or y >= PRIME:
        raise BadArgument("base: a coordinate is not below the field's prime")
    if (y * y - x * x * x - 7) % PRIME:
        raise BadArgument("base: the point is not on the curve")
    return x, y

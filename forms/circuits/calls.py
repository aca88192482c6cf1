"""`cuda-sim-ops-bin` and `cuda-sim-axis` as forms: text calls on circuits that lie in this node's folder of blobs.

Neither has a frame: a circuit is far larger than its call, and is stored once beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NoReturn

from forms.arguments import expect_count, read_integer, read_list, read_symbol, shown
from forms.circuits.axis import simulate_axis
from forms.circuits.circuit_kernel import AxisKernel, OpsBinKernel
from forms.circuits.folder import MEASURING_SAMPLE, SAMPLES, CircuitCall, CircuitFolder, promised_operations
from forms.circuits.generator.generate import Arithmetic
from forms.circuits.lanes import LANES, batches_of
from forms.circuits.simulation import Options, Result, simulate
from forms.circuits.toy_checks import CHECKS
from forms.circuits.xof import RngMode
from forms.datum import Datum, Spliced, Symbol
from forms.errors import BadArgument
from forms.form import Measure

# A million shots are 110 times the public evaluator's run.
MOST_BATCHES = 2**14
MOST_VARIANTS = 1024
# The six pairs of one result, generously.
_RESULT_BYTES = 256
# A record and what it is lowered to; then three groups of eight batches, a word for each of their operations at most.
_LOADED_BYTES_AN_OPERATION = 80
_WORD_BYTES_AN_OPERATION = 3 * 8 * 8
_MOST_WORD_BYTES = 3 << 28


def _options(arguments: Sequence[Datum], attempts: int) -> Options:
    """Read pairs such as `(rng lfsr)` and `(check none)`."""
    rng, check = RngMode.SHAKE, "secp256k1"
    for argument in arguments:
        match read_list(argument, "an option and its value"):
            case [Symbol() as name, value] if name == Symbol("rng"):
                rng = RngMode(read_symbol(value, "rng", tuple(RngMode)))
            case [Symbol() as name, value] if name == Symbol("check"):
                check = read_symbol(value, "check", tuple(CHECKS))
            case _:
                raise BadArgument(f"expected (rng MODE) or (check NAME), got {shown(argument)}")
    return Options(attempts=attempts, rng=rng, check=CHECKS[check])


def _sample_options(attempts: int) -> Options:
    return Options(attempts=attempts, check=CHECKS[Arithmetic.MODULAR_MULTIPLIER])


def _name(argument: Datum) -> str:
    if not isinstance(argument, str) or isinstance(argument, Symbol) or not argument:
        raise BadArgument(f"expected a circuit's path or SHA-256 as a string, got {shown(argument)}")
    return argument


def _pairs(result: Result) -> list[Datum]:
    return [
        [Symbol("toffoli"), result.toffoli],
        [Symbol("clifford"), result.clifford],
        [Symbol("shots"), result.shots],
        [Symbol("avg-toffoli"), round(result.avg_toffoli, 3)],
        [Symbol("qubits"), result.qubits],
        [Symbol("clean"), result.clean],
    ]


class _TextOnly:
    """What both have in common: no frames, and the work is operations times batches."""

    magic = b""
    reply_magic = b""

    def __init__(self, name: str, folder: CircuitFolder) -> None:
        self.name = name
        self._folder = folder

    def measure(self, limit_bytes: int) -> Measure:
        """Raise BadArgument: there are no frames."""
        self._refuse_frames()

    def read_frame(self, frame: bytes) -> CircuitCall:
        """Raise BadArgument: there are no frames."""
        self._refuse_frames()

    def _refuse_frames(self) -> NoReturn:
        raise BadArgument(f"{self.name} is called in text: there is no frame for it")

    def reply_bytes(self, call: CircuitCall) -> int:
        """At most so many, in text."""
        return _RESULT_BYTES * len(call.paths)

    def work(self, call: CircuitCall) -> float:
        """Operations times batches; each circuit is also read once, which costs about twenty batches."""
        batches = 20 + batches_of(call.options.attempts)
        return float(sum(map(promised_operations, call.paths)) * batches)

    def host_bytes(self, call: CircuitCall) -> int:
        """What loaded circuits take, and random words for some batches: 1.7 GiB for the public one."""
        operations = [promised_operations(path) for path in set(call.paths)]
        words = min(_WORD_BYTES_AN_OPERATION * max(operations), _MOST_WORD_BYTES)
        return _LOADED_BYTES_AN_OPERATION * sum(operations) + words


class SimOpsBin(_TextOnly):
    """`(cuda-sim-ops-bin "path-or-sha256" n-batches (rng lfsr) (check none))`, the options in any order."""

    def __init__(self, folder: CircuitFolder) -> None:
        super().__init__("cuda-sim-ops-bin", folder)
        self.kernel = OpsBinKernel(folder)

    def read_text(self, arguments: list[Datum]) -> CircuitCall:
        """Read a call. Raises BadArgument, NotFound."""
        expect_count(self.name, arguments, 2, 4)
        batches = read_integer(arguments[1], "n-batches", 1, MOST_BATCHES)
        options = _options(arguments[2:], LANES * batches)
        return CircuitCall((self._folder.find(_name(arguments[0])),), options)

    def sample(self, rows: int) -> CircuitCall:
        """A small multiplier over so many batches, the last of them partial."""
        return CircuitCall((MEASURING_SAMPLE,), _sample_options(LANES * rows - 5))

    def reference(self, call: CircuitCall) -> Result:
        """Run it here."""
        return simulate(self._folder.load(call.paths[0]), call.options)

    def write_text(self, result: Result) -> Datum:
        """Write what follows `ok`."""
        return Spliced(_pairs(result))

    def write_frame(self, result: Result) -> bytes:
        """Raise BadArgument: there are no frames."""
        self._refuse_frames()


class SimAxis(_TextOnly):
    """`(cuda-sim-axis ("variant" …) n-shots)`, with the same options; one result a variant, in order."""

    def __init__(self, folder: CircuitFolder, name: str = "cuda-sim-axis") -> None:
        super().__init__(name, folder)
        self.kernel = AxisKernel(folder)

    def read_text(self, arguments: list[Datum]) -> CircuitCall:
        """Read a call. Raises BadArgument, NotFound."""
        expect_count(self.name, arguments, 2, 4)
        names = read_list(arguments[0], "circuits")
        if not 1 <= len(names) <= MOST_VARIANTS:
            raise BadArgument(f"{self.name}: expected 1 to {MOST_VARIANTS} variants, got {len(names)}")
        shots = read_integer(arguments[1], "n-shots", 1, LANES * MOST_BATCHES)
        options = _options(arguments[2:], shots)
        return CircuitCall(tuple(self._folder.find(_name(name)) for name in names), options)

    def sample(self, rows: int) -> CircuitCall:
        """So many small multipliers over two batches each."""
        return CircuitCall(tuple(islice(cycle(SAMPLES), rows)), _sample_options(LANES + 5))

    def reference(self, call: CircuitCall) -> list[Result]:
        """Run all of them here, each file read once."""
        loads = self._folder.in_parts(call.paths)
        return [result for circuits in loads for result in simulate_axis(circuits, call.options)]

    def write_text(self, result: Sequence[Result]) -> Datum:
        """Write what follows `ok`."""
        return [_pairs(one) for one in result]

    def write_frame(self, result: Sequence[Result]) -> bytes:
        """Raise BadArgument: there are no frames."""
        self._refuse_frames()


def circuit_forms(root: Path | None) -> list[SimOpsBin | SimAxis]:
    """Give the forms on circuits below `root`, the alias included; they share what is loaded."""
    folder = CircuitFolder(root)
    return [SimOpsBin(folder), SimAxis(folder), SimAxis(folder, "cuda-sim-axis-flip")]

"""The circuits that this node has: files of its folder of blobs, loaded once for as long as they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forms.blob_folder import BlobFolder
from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.framing import HEADER_BYTES, MAGIC_RAW, MAGIC_ZSTD, RECORD_BYTES
from forms.circuits.generator.generate import Algorithm, Arithmetic, algorithms, generate
from forms.circuits.shelf import KEPT_OPERATIONS, CircuitShelf
from forms.circuits.simulation import Options
from forms.errors import NotFound


def _sample(algorithm: Algorithm) -> Callable[[], Circuit]:
    return lambda: load_circuit(generate(Arithmetic.MODULAR_MULTIPLIER, 5, algorithm))


# Circuits without a file, for a form's sample; what `find` finds is absolute.
SAMPLES = {
    Path(f"sample-{algorithm.name_of(Arithmetic.MODULAR_MULTIPLIER)}"): _sample(algorithm)
    for algorithm in algorithms(Arithmetic.MODULAR_MULTIPLIER)
}
# 716 MB of records from 48 MB, for the public circuit.
_UNPACKED_RATIO = 15
# With random words and conditions.
MEASURING_SAMPLE = Path("sample-gidney-horner")


@dataclass(frozen=True, slots=True)
class CircuitCall:
    """Circuits to run alike, by their files."""

    paths: tuple[Path, ...]
    options: Options


def promised_operations(path: Path) -> int:
    """How many operations a file promises, or about how many where its header is compressed too. Raises NotFound."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        if header[:8] in (MAGIC_RAW, MAGIC_ZSTD):
            return int.from_bytes(header[8:], "little")
        return path.stat().st_size * _UNPACKED_RATIO // RECORD_BYTES
    except OSError as gone:
        raise NotFound(f"the circuit {path.name} cannot be read: {gone.strerror}") from gone


class CircuitFolder:
    """The circuits of one folder and of those below it, by path or by SHA-256, and the loaded ones among them."""

    def __init__(self, root: Path | None) -> None:
        self._files = BlobFolder(root)
        self._shelf = CircuitShelf()

    def find(self, name: str) -> Path:
        """Find the file that `name` means, by path or by SHA-256. Raises NotFound."""
        return self._files.find(name)

    def load(self, path: Path) -> Circuit:
        """Load the circuit, unless it is loaded and its file has not changed."""
        if path in SAMPLES:
            return self._shelf.get(path.name, SAMPLES[path])
        try:
            found = path.stat()
            return self._shelf.get(f"{path} {found.st_mtime_ns} {found.st_size}", lambda: load_circuit(path))
        except OSError as gone:
            raise NotFound(f"the circuit {path.name} cannot be read: {gone.strerror}") from gone

    def in_parts(self, paths: Sequence[Path], most_operations: int = KEPT_OPERATIONS) -> Iterator[list[Circuit]]:
        """Load the circuits of a call, in order, as many at a time as may be in memory; a part has at least one."""
        part: dict[Path, Circuit] = {}
        named: list[Path] = []
        for path in paths:
            circuit = part.get(path) or self.load(path)
            if part and path not in part and _operations(part) + circuit.operations > most_operations:
                yield [part[one] for one in named]
                part, named = {}, []
            part[path] = circuit
            named.append(path)
        if named:
            yield [part[one] for one in named]


def _operations(circuits: Mapping[Path, Circuit]) -> int:
    return sum(circuit.operations for circuit in circuits.values())

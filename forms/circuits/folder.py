"""The circuits that this node has: files of its folder of blobs, loaded once for as long as they fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forms.arguments import shown
from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.generator.generate import Algorithm, Arithmetic, algorithms, generate
from forms.circuits.shelf import CircuitShelf
from forms.circuits.simulation import Options
from forms.errors import NotFound
from transport.blob_store import COPIES, PARTIAL


def _sample(algorithm: Algorithm) -> Callable[[], Circuit]:
    return lambda: load_circuit(generate(Arithmetic.MODULAR_MULTIPLIER, 5, algorithm))


# Circuits without a file, for a form's sample; what `find` finds is absolute.
SAMPLES = {
    Path(f"sample-{algorithm.name_of(Arithmetic.MODULAR_MULTIPLIER)}"): _sample(algorithm)
    for algorithm in algorithms(Arithmetic.MODULAR_MULTIPLIER)
}
# With random words and conditions.
MEASURING_SAMPLE = Path("sample-gidney-horner")


@dataclass(frozen=True, slots=True)
class CircuitCall:
    """Circuits to run alike, by their files."""

    paths: tuple[Path, ...]
    options: Options


class CircuitFolder:
    """The circuits of one folder and of those below it, by path or by SHA-256, and the loaded ones among them."""

    def __init__(self, root: Path | None) -> None:
        self._root = root.resolve() if root is not None else None
        self._shelf = CircuitShelf()

    def find(self, name: str) -> Path:
        """Find the file that `name` means. Raises NotFound, also for one that lies outside, by a link or by dots."""
        if self._root is None:
            raise NotFound("this node has no folder of blobs, and so no circuits")
        # What other nodes gave lies apart; only a digest names it, and never what has not come whole.
        path = self._inside(self._root, name) or self._inside(self._root / COPIES, name)
        if path is None:
            raise NotFound(f"no circuit {shown(name)} in this node's folder of blobs")
        return path

    def _inside(self, folder: Path, name: str) -> Path | None:
        """The file of that name below `folder`, links followed; None where there is none, or it lies outside."""
        assert self._root is not None
        try:
            path = (folder / name).resolve()
            is_here = path.is_relative_to(self._root) and path.is_file()
        except (OSError, ValueError):
            return None
        return path if is_here and not path.is_relative_to(self._root / PARTIAL) else None

    def load(self, path: Path) -> Circuit:
        """Load the circuit, unless it is loaded and its file has not changed."""
        if path in SAMPLES:
            return self._shelf.get(path.name, SAMPLES[path])
        try:
            found = path.stat()
            return self._shelf.get(f"{path} {found.st_mtime_ns} {found.st_size}", lambda: load_circuit(path))
        except OSError as gone:
            raise NotFound(f"the circuit {path.name} cannot be read: {gone.strerror}") from gone
